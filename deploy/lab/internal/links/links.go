// Package links makes the networks of a lab: a bridge for each in the switch's namespace, and for each node a
// leg on some of them, which is a pair of devices. One end is the leg, in the node's namespace and named as the
// network; the other, the port, is in the switch's.
//
// It cuts legs and makes them slow. The programs ip and tc do the work.
package links

import (
	"context"
	"fmt"
	"os/exec"
	"strings"
	"time"
)

// Bridge is what the bridge of a network is called.
func Bridge(network string) string { return "br-" + network }

// Far is the device in the place of a port while a forwarder stands behind that one, and Near the end of
// the same pair that the forwarder has.
func Far(port string) string { return port + "-f" }

// Near is the forwarder's end of the pair in the place of a port.
func Near(port string) string { return port + "-n" }

// A Leg is what a node has on a network.
type Leg struct {
	Namespace string // of the node
	Switch    string // the switch's
	Network   string
	Address   string // with the length of its prefix: 10.77.0.1/24
	Port      string // at most 13 characters
}

// run runs a command, whose error has what it said.
func run(ctx context.Context, stdin, name string, args ...string) error {
	cmd := exec.CommandContext(ctx, name, args...)
	cmd.Stdin = strings.NewReader(stdin)
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("%s: %w: %s", cmd, err, strings.TrimSpace(string(out)))
	}
	return nil
}

// ip runs lines as `ip` takes them, in a namespace.
func ip(ctx context.Context, namespace string, lines ...string) error {
	return run(ctx, strings.Join(lines, "\n")+"\n", "ip", "-n", namespace, "-batch", "-")
}

// MakeSwitch makes the bridges in the switch's namespace.
func MakeSwitch(ctx context.Context, namespace string, networks []string) error {
	lines := []string{"link set lo up"}
	for _, n := range networks {
		lines = append(lines,
			"link add "+Bridge(n)+" type bridge mcast_snooping 0",
			"link set "+Bridge(n)+" up")
	}
	return ip(ctx, namespace, lines...)
}

// Plug makes the legs of one node.
func Plug(ctx context.Context, legs []Leg) error {
	for _, l := range legs {
		if err := ip(ctx, l.Switch,
			fmt.Sprintf("link add %s type veth peer name %s netns %s", l.Port, l.Network, l.Namespace),
			"link set "+l.Port+" master "+Bridge(l.Network),
			"link set "+l.Port+" up"); err != nil {
			return err
		}
	}
	lines := []string{"link set lo up"}
	for _, l := range legs {
		lines = append(lines, "addr add "+l.Address+" dev "+l.Network, "link set "+l.Network+" up")
	}
	return ip(ctx, legs[0].Namespace, lines...)
}

// Unplug takes the legs of a node away, as far as they are there.
func Unplug(ctx context.Context, legs []Leg) {
	for _, l := range legs {
		_ = ip(ctx, l.Switch, "link del "+l.Port)      // it may not be there
		_ = ip(ctx, l.Switch, "link del "+Far(l.Port)) // nor this
	}
}

// facing is the device of a leg that is on the bridge.
func (l Leg) facing(delayed bool) string {
	if delayed {
		return Far(l.Port)
	}
	return l.Port
}

// Silence takes ports off their bridges, or puts them back: the links stay up, and what is sent into them is
// lost without anybody being told. delayed says that a forwarder stands behind the leg.
func (l Leg) Silence(ctx context.Context, silent, delayed bool) error {
	if silent {
		return ip(ctx, l.Switch, "link set "+l.facing(delayed)+" nomaster")
	}
	return ip(ctx, l.Switch, "link set "+l.facing(delayed)+" master "+Bridge(l.Network))
}

// Pull pulls the cable of a leg, or puts it in again: the node sees that the carrier is gone.
func (l Leg) Pull(ctx context.Context, pulled bool) error {
	state := map[bool]string{true: "down", false: "up"}[pulled]
	return ip(ctx, l.Switch, "link set "+l.Port+" "+state)
}

// Shape holds the leg to so many bits a second in each direction; 0 is no limit. With a delay, each direction
// takes so much longer. It reports false for a delay that this kernel has no netem for, and has set the rate
// alone then.
func (l Leg) Shape(ctx context.Context, bits int64, delay time.Duration) (delayed bool, err error) {
	if err := l.Unshape(ctx); err != nil {
		return false, err
	}
	for _, end := range []struct{ namespace, device string }{{l.Namespace, l.Network}, {l.Switch, l.Port}} {
		parent := []string{"root"}
		if bits > 0 {
			args := append([]string{"-n", end.namespace, "qdisc", "replace", "dev", end.device, "root", "handle", "1:", "tbf"}, tbf(bits)...)
			if err := run(ctx, "", "tc", args...); err != nil {
				return false, err
			}
			parent = []string{"parent", "1:1"}
		}
		if delay > 0 {
			args := append([]string{"-n", end.namespace, "qdisc", "replace", "dev", end.device}, parent...)
			if err := run(ctx, "", "tc", append(args, netem(delay)...)...); err != nil {
				// Half of a delay would be worse than none.
				if bits == 0 {
					return false, l.Unshape(ctx)
				}
				if end.device != l.Network {
					return false, err
				}
				_, err := l.Shape(ctx, bits, 0)
				return false, err
			}
		}
	}
	return true, nil
}

// tbf is a token bucket: a tenth of a second of the rate may wait, and a hundredth, or a few packets, go
// at once.
func tbf(bits int64) []string {
	return []string{"rate", fmt.Sprintf("%dbit", bits), "burst", fmt.Sprint(max(bits/8/100, 32<<10)), "latency", "100ms"}
}

// netem is a delay, with room for what a fast leg sends meanwhile.
func netem(delay time.Duration) []string {
	return []string{"netem", "delay", fmt.Sprintf("%dus", delay.Microseconds()), "limit", "20000"}
}

// Unshape lifts what Shape has set.
func (l Leg) Unshape(ctx context.Context) error {
	for _, end := range []struct{ namespace, device string }{{l.Namespace, l.Network}, {l.Switch, l.Port}} {
		if err := run(ctx, "", "tc", "-n", end.namespace, "qdisc", "replace", "dev", end.device, "root", "noqueue"); err != nil {
			return err
		}
	}
	return nil
}

// Insert makes the pair by which a forwarder stands between port and bridge, which a leg has until Remove.
// The forwarder runs between the devices Port and Near. silent says that the leg is cut.
func (l Leg) Insert(ctx context.Context, silent bool) error {
	lines := []string{
		fmt.Sprintf("link add %s type veth peer name %s", Far(l.Port), Near(l.Port)),
		"link set " + Near(l.Port) + " up",
		"link set " + Far(l.Port) + " up",
		"link set " + l.Port + " nomaster",
	}
	if !silent {
		lines = append(lines, "link set "+Far(l.Port)+" master "+Bridge(l.Network))
	}
	return ip(ctx, l.Switch, lines...)
}

// Remove undoes Insert, also one that failed.
func (l Leg) Remove(ctx context.Context, silent bool) error {
	_ = ip(ctx, l.Switch, "link del "+Far(l.Port)) // an Insert that failed may not have made it
	if silent {
		return nil
	}
	return ip(ctx, l.Switch, "link set "+l.Port+" master "+Bridge(l.Network))
}
