package quorum

import (
	"strconv"
	"strings"

	"martlet/internal/backend"
	"martlet/ring"
)

// Updates names for each replica of an object write the replicas of the container that it
// is to bring up to date, so that all of these are covered and each is told by as few as
// can be. Where a node has one of both, it is told of its own: that takes no network, and a
// node that goes away takes nothing with it that others wait for.
func Updates(object, container Place) []backend.Header {
	list := make([]backend.Header, len(object.Primaries))
	room := make(backend.Header, 0, tells*len(list)) // of all
	part := partitionOf(container)
	told := make([]bool, len(container.Primaries))
	for i, d := range container.Primaries {
		for slot, o := range object.Primaries {
			if o.IP == d.IP && len(list[slot]) == 0 {
				list[slot], told[i] = tellContainer(&room, part, d), true
				break
			}
		}
	}
	next := 0 // no slot before it tells fewer than it does
	for i, d := range container.Primaries {
		if told[i] {
			continue
		}
		for range list {
			if len(list[next]) == 0 {
				break
			}
			next = (next + 1) % len(list)
		}
		h := &list[next]
		if next = (next + 1) % len(list); len(*h) == 0 {
			*h = tellContainer(&room, part, d)
			continue
		}
		h.Set(backend.ContainerHost, h.Get(backend.ContainerHost)+","+d.Addr())
		h.Set(backend.ContainerDevice, h.Get(backend.ContainerDevice)+","+d.Name)
	}
	return list
}

// tells is how many fields name a replica of a container.
const tells = 3

// tellContainer names one replica of a container, in a part of room that is nobody else's.
func tellContainer(room *backend.Header, part string, d *ring.Device) backend.Header {
	*room = append(*room,
		backend.Field{Name: backend.ContainerPart, Value: part}, backend.Field{Name: backend.ContainerHost, Value: d.Addr()},
		backend.Field{Name: backend.ContainerDevice, Value: d.Name})
	return (*room)[len(*room)-tells : len(*room) : len(*room)]
}

// TellAccount names the replicas of an account that a container's replica is
// to bring up to date when it comes into being or goes.
func TellAccount(account Place) backend.Header {
	hosts := make([]string, len(account.Primaries))
	devices := make([]string, len(account.Primaries))
	for i, d := range account.Primaries {
		hosts[i], devices[i] = d.Addr(), d.Name
	}
	return backend.Header{
		{Name: backend.AccountPart, Value: partitionOf(account)},
		{Name: backend.AccountHost, Value: strings.Join(hosts, ",")},
		{Name: backend.AccountDevice, Value: strings.Join(devices, ",")},
	}
}

// partitionOf is the text of a place's partition.
func partitionOf(p Place) string { return strconv.FormatUint(uint64(p.Partition), 10) }
