package quorum

import (
	"strconv"
	"strings"

	"martlet/internal/backend"
)

// Updates names for each of so many replicas of an object write the replicas of the
// container that it is to bring up to date, so that all of these are covered
// and each is told by as few as can be.
func Updates(objects int, container Place) []backend.Header {
	list := make([]backend.Header, objects)
	part := partitionOf(container)
	for i, d := range container.Primaries {
		h := &list[i%objects]
		if len(*h) == 0 {
			*h = backend.Header{{Name: backend.ContainerPart, Value: part}, {Name: backend.ContainerHost, Value: d.Addr()}, {Name: backend.ContainerDevice, Value: d.Name}}
			continue
		}
		h.Set(backend.ContainerHost, h.Get(backend.ContainerHost)+","+d.Addr())
		h.Set(backend.ContainerDevice, h.Get(backend.ContainerDevice)+","+d.Name)
	}
	return list
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
