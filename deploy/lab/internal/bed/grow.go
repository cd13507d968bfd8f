package bed

import (
	"context"
	"errors"
	"fmt"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"time"
)

// AddNode adds a storage node, or goes on with one whose adding was stopped on the way: the machine and its
// devices, its process, and then, ring by ring, its devices to the rings, which are rebalanced. It returns the
// node's name.
//
// A ring is not rebalanced while the data of the rebalance before is under way: then the error says so, and
// AddNode is to be called again. It tries for so long by itself, for each ring.
func (l *Lab) AddNode(ctx context.Context, wait time.Duration) (name string, err error) {
	if !l.Made {
		return "", wrong("the lab is not up: lab up")
	}
	n, err := l.unfinished()
	if err != nil {
		return "", err
	}
	if err := l.connectNode(ctx, n); err != nil {
		return n.Name, n.of(err)
	}
	if err := l.attach(ctx, n); err != nil {
		return n.Name, n.of(err)
	}
	if !n.Added {
		if err := l.admit(ctx, n); err != nil {
			return n.Name, n.of(err)
		}
	}
	if err := l.targets(); err != nil {
		return n.Name, err
	}
	if err := l.start(ctx, []*Node{n}); err != nil {
		return n.Name, err
	}
	for len(n.Ringless) > 0 {
		if err := until(ctx, wait, func() error { return l.enroll(ctx, n, n.Ringless[0]) }); err != nil {
			return n.Name, fmt.Errorf("%s, and the ring %s: %w", n.Name, n.Ringless[0], err)
		}
		n.Ringless = n.Ringless[1:]
		if err := l.save(); err != nil {
			return n.Name, err
		}
	}
	l.say("%s is in all rings; processes see that within 15 s, and then data is moved", n.Name)
	return n.Name, nil
}

// unfinished returns the node whose adding was not finished, or plans one.
func (l *Lab) unfinished() (*Node, error) {
	last := 0
	for i, n := range l.Nodes {
		if n.Kind != Storage {
			continue
		}
		if len(n.Ringless) > 0 {
			return n, nil
		}
		last = i
	}
	number := l.Nodes[last].Number + 1
	if number > maxNodes {
		return nil, wrong("there are %d storage nodes, and no lab has more", maxNodes)
	}
	n := l.Options.storage(number)
	builders, err := filepath.Glob(filepath.Join(l.rings(), "*.builder"))
	if err != nil {
		return nil, err
	}
	for _, b := range builders {
		n.Ringless = append(n.Ringless, strings.TrimSuffix(filepath.Base(b), ".builder"))
	}
	is, err := Namespace{Name: n.Namespace.Name}.free()
	if err != nil {
		return nil, err
	}
	if !is {
		return nil, wrong("there is a network namespace %s already, which is not this lab's", n.Namespace.Name)
	}
	l.Nodes = slices.Insert(l.Nodes, last+1, n)
	return n, l.save()
}

func (l *Lab) rings() string { return filepath.Join(l.dir, clusterDir, "etc", "rings") }

// admit has martlet write the configuration of a node, and the identities of its devices.
func (l *Lab) admit(ctx context.Context, n *Node) error {
	out, err := l.martlet(ctx, "dev", "add-node", "--dir", filepath.Join(l.dir, clusterDir))
	if err != nil {
		return err
	}
	if !strings.Contains(out, "/"+n.Name+".toml") {
		return fmt.Errorf("the cluster has made another node: %s", strings.TrimSpace(out))
	}
	n.Added = true
	return l.save()
}

// enroll adds the node's devices to a ring, and rebalances it.
func (l *Lab) enroll(ctx context.Context, n *Node, ring string) error {
	builder := filepath.Join(l.rings(), ring+".builder")
	kind, _, _ := strings.Cut(ring, "-")
	port := map[string]int{"object": objectPort, "container": objectPort + 1, "account": objectPort + 2}[kind]
	shown, err := l.martlet(ctx, "ring", "show", builder)
	if err != nil {
		return err
	}
	if !strings.Contains(shown, n.Legs[0].Address+":") { // it may be there from a time before that failed
		args := []string{"ring", "add", builder}
		for _, d := range n.Devices {
			args = append(args, fmt.Sprintf("r1z%d-%s:%dR%s:%d/%s", n.Number, n.Legs[0].Address, port, n.Legs[1].Address, replicasPort, d.Name), "100")
		}
		if _, err := l.martlet(ctx, args...); err != nil {
			return err
		}
	}
	// The lab is younger than the hour for which a partition stays where it is.
	if err := l.warned(ctx, "ring", "pretend-min-part-hours-passed", builder); err != nil {
		return err
	}
	if err := l.warned(ctx, "ring", "rebalance", builder, "--cluster", filepath.Join(l.dir, clusterDir, "etc", "proxy.toml")); err != nil {
		return err
	}
	l.say("added %s to the ring %s", n.Name, ring)
	return nil
}

// warned runs martlet, and takes a warning (exit status 1) for success.
func (l *Lab) warned(ctx context.Context, args ...string) error {
	_, err := l.martlet(ctx, args...)
	if exit := (*exec.ExitError)(nil); errors.As(err, &exit) && exit.ExitCode() == 1 {
		return nil
	}
	return err
}
