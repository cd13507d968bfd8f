package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/http"
	"net/netip"
	"path/filepath"
	"slices"
	"strings"

	"martlet/cmd/internal/config"
	"martlet/cmd/internal/node"
	"martlet/cmd/internal/survey"
	"martlet/internal/hosts"
	"martlet/internal/vfs"
	"martlet/ring"
)

// errOnlyThere is of a device that has something which no other one has.
var errOnlyThere = errors.New("the device is not emptied: what no other one has would be missed; --force sets that aside as well")

// readmitEmpty has a fenced device of a running node be emptied, if others have all that it holds, or with force.
func readmitEmpty(ctx context.Context, out io.Writer, file, device string, force, asJSON bool) error {
	var before []node.DeviceFences
	if err := askReplicator(ctx, file, http.MethodGet, node.ReadmitPath, deviceQuery(device), &before); err != nil {
		return usage(err)
	}
	if stillFenced(before) == nil {
		return fmt.Errorf("nothing of %s is fenced: it is not emptied", device)
	}
	only, err := onlyAt(ctx, file, device)
	if err != nil && !force {
		return fmt.Errorf("%s is not emptied, as it is not known what no other device has: %w; --force empties it for all that", device, err)
	}
	refused := err == nil && !force && !only.None()
	switch {
	case err != nil: // with force it does not matter
		err = nil
	case !asJSON:
		err = printOnly(out, device, only)
	case refused:
		err = printJSON(out, only)
	}
	if err != nil {
		return err
	}
	if refused {
		return errOnlyThere
	}
	var report []node.DeviceFences
	if err := askReplicator(ctx, file, http.MethodPost, node.EmptyPath, deviceQuery(device), &report); err != nil {
		return err
	}
	if asJSON {
		return printJSON(out, report)
	}
	for _, d := range report {
		if _, err := fmt.Fprintf(out, "%s is empty; what it held is in %s, to be removed once you miss nothing\n", d.Device, d.Aside); err != nil {
			return err
		}
	}
	return nil
}

// onlyAt asks the cluster what the device of a node's configuration has that no other one has.
func onlyAt(ctx context.Context, file, device string) (*survey.Only, error) {
	cfg, err := config.LoadStorage(file)
	if err != nil {
		return nil, err
	}
	policies, err := policiesOf(file)
	if err != nil {
		return nil, err
	}
	all, err := kindsOf(file)
	if err != nil {
		return nil, err
	}
	kinds, err := kindsOn(cfg, device, all)
	if err != nil {
		return nil, err
	}
	ip, err := netip.ParseAddr(cfg.Server.Address)
	if err != nil {
		return nil, err
	}
	// Who is not known by a name in a ring would be taken for another, who has all of it as well.
	names := hosts.NewNames(hosts.System)
	err = names.Learn(ctx, func(yield func(string) bool) {
		rings := make([]*ring.Ring, 0, len(policies)+len(kinds))
		for _, p := range policies {
			rings = append(rings, p.Ring)
		}
		for _, k := range kinds {
			rings = append(rings, k.Ring)
		}
		for _, r := range rings {
			for d := range r.Devices() {
				if !yield(d.IP) {
					return
				}
			}
		}
	})
	if err != nil {
		return nil, err
	}
	ports := map[string]int{"object": cfg.Object.Port, "container": cfg.Container.Port, "account": cfg.Account.Port}
	at := func(kind string) *ring.Device { return &ring.Device{IP: ip.String(), Port: ports[kind], Name: device} }
	client := newAsker()
	defer client.CloseIdleConnections()
	return survey.OnlyAt(ctx, survey.HTTP{Client: client}, policies, kinds, survey.Subject{
		Objects: at("object"), Databases: map[string]*ring.Device{"account": at("account"), "container": at("container")},
		Is: func(d *ring.Device) bool {
			for _, port := range ports {
				if d.Name == device && hosts.At(netip.AddrPortFrom(ip, uint16(port)), names).Is(d.IP, d.Port) {
					return true
				}
			}
			return false
		},
	})
}

// kindsOn leaves out the kinds of which the device of a node has nothing, since their server is switched off there: nobody
// would answer.
func kindsOn(cfg *config.Storage, device string, all []survey.Kind) (kinds []survey.Kind, err error) {
	for _, k := range all {
		on := k.Name == "account" && cfg.Account.Enabled || k.Name == "container" && cfg.Container.Enabled
		if !on {
			_, err := vfs.OS.Stat(filepath.Join(cfg.Server.Root, device, k.Name+"s"))
			if errors.Is(err, fs.ErrNotExist) {
				continue
			}
			if err == nil {
				err = fmt.Errorf("there are %ss on it, and their server is switched off", k.Name)
			}
			return nil, err
		}
		kinds = append(kinds, k)
	}
	return kinds, nil
}

// printOnly prints what a device alone has.
func printOnly(out io.Writer, device string, o *survey.Only) error {
	var b strings.Builder
	if o.Objects > 0 {
		fmt.Fprintf(&b, "%s has %s in a state that no other device has: deleted elsewhere meanwhile, or the last copy\n", device, some(int(o.Objects), "object"))
	}
	if o.Fragments > 0 {
		fmt.Fprintf(&b, "%s has %s without which objects can't be read: others have too few of theirs\n", device, some(int(o.Fragments), "fragment"))
	}
	for _, kind := range []string{"account", "container"} {
		if n := o.Databases[kind]; n > 0 {
			fmt.Fprintf(&b, "%s has %s that no other device has: deleted elsewhere meanwhile, or the last copy\n", device, some(int(n), kind))
		}
		if n := o.Differ[kind]; n > 0 {
			fmt.Fprintf(&b, "%s has %s in another state than others: what it alone has of their listings would be set aside\n", device, some(int(n), kind))
		}
	}
	for _, u := range slices.SortedFunc(slices.Values(o.Unknown), func(a, b survey.Unknown) int { return strings.Compare(a.Device, b.Device) }) {
		fmt.Fprintf(&b, "%s is unknown: %s\n", u.Device, u.Why)
	}
	_, err := io.WriteString(out, b.String())
	return err
}
