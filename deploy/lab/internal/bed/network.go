package bed

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"martlet/deploy/lab/internal/proc"
)

// find returns a node and its leg on a network.
func (l *Lab) find(name, network string) (*Node, *Leg, error) {
	n, err := l.Node(name)
	if err != nil {
		return nil, nil, err
	}
	leg, err := n.Leg(network)
	return n, leg, err
}

// Cut cuts a leg. As a rule nothing gets through any more, either way, and neither side is told, as when a
// switch in between fails; with cable the node sees its carrier go.
func (l *Lab) Cut(ctx context.Context, name, network string, cable bool) error {
	n, leg, err := l.find(name, network)
	if err != nil {
		return err
	}
	how := map[bool]string{false: Silent, true: Cable}[cable]
	if leg.Cut == how {
		l.say("%s was cut from %s", n.Name, network)
		return nil
	}
	if leg.Cut != "" {
		if err := l.join(ctx, n, leg); err != nil {
			return n.of(err)
		}
	}
	leg.Cut = how
	if err := l.save(); err != nil {
		return err
	}
	if cable {
		err = l.link(n, leg).Pull(ctx, true)
	} else {
		err = l.link(n, leg).Silence(ctx, true, leg.Forwarder != nil)
	}
	if err != nil {
		return n.of(err)
	}
	l.say("cut %s from %s: %s", n.Name, network, map[string]string{
		Silent: "what is sent either way is lost, and nobody is told", Cable: "the link is down, as with a cable that is pulled",
	}[how])
	return nil
}

// join undoes a cut.
func (l *Lab) join(ctx context.Context, n *Node, leg *Leg) error {
	if leg.Cut == Cable {
		if err := l.link(n, leg).Pull(ctx, false); err != nil {
			return err
		}
	}
	if !n.Dark { // else it stays silent until there is power
		if err := l.link(n, leg).Silence(ctx, false, leg.Forwarder != nil); err != nil {
			return err
		}
	}
	leg.Cut = ""
	return l.save()
}

// Heal makes a leg what it was at first: neither cut nor slow.
func (l *Lab) Heal(ctx context.Context, name, network string) error {
	n, leg, err := l.find(name, network)
	if err != nil {
		return err
	}
	if leg.Cut == "" && leg.Bits == 0 && leg.Delay == 0 {
		l.say("the leg of %s on %s was whole", n.Name, network)
		return nil
	}
	if err := l.hasten(ctx, n, leg); err != nil {
		return n.of(err)
	}
	if leg.Cut != "" {
		if err := l.join(ctx, n, leg); err != nil {
			return n.of(err)
		}
	}
	l.say("healed %s on %s", n.Name, network)
	return nil
}

// hasten undoes what makes a leg slow.
func (l *Lab) hasten(ctx context.Context, n *Node, leg *Leg) error {
	if err := l.link(n, leg).Unshape(ctx); err != nil {
		return err
	}
	if leg.Forwarder != nil {
		if leg.Forwarder.Pid != 0 {
			if err := leg.Forwarder.Kill(ctx); err != nil {
				return err
			}
		}
		if err := l.link(n, leg).Remove(ctx, leg.Cut == Silent || n.Dark); err != nil {
			return err
		}
	}
	leg.Bits, leg.Delay, leg.Forwarder = 0, 0, nil
	return l.save()
}

// Slow lets so many bits a second through a leg, each way; 0 is no limit. With a delay each way takes so
// much longer. self is this program, which delays by `forward` where the kernel can't.
func (l *Lab) Slow(ctx context.Context, name, network string, bits int64, delay time.Duration, self string) error {
	n, leg, err := l.find(name, network)
	if err != nil {
		return err
	}
	if err := l.hasten(ctx, n, leg); err != nil {
		return n.of(err)
	}
	leg.Bits, leg.Delay = bits, delay
	if err := l.save(); err != nil {
		return err
	}
	delayed, err := l.link(n, leg).Shape(ctx, bits, delay)
	by := "the kernel"
	if err == nil && !delayed {
		by = "a forwarder, as the kernel has no netem"
		err = l.forward(ctx, n, leg, self)
	}
	if err != nil {
		return n.of(errors.Join(err, l.hasten(ctx, n, leg)))
	}
	switch {
	case delay == 0:
		l.say("slowed %s on %s: %s each way", n.Name, network, rate(bits))
	default:
		l.say("slowed %s on %s: %s and %v later, each way, by %s", n.Name, network, rate(bits), delay, by)
	}
	return nil
}

// forward puts a forwarder between a leg and its bridge.
func (l *Lab) forward(ctx context.Context, n *Node, leg *Leg, self string) error {
	link := l.link(n, leg)
	silent := leg.Cut == Silent || n.Dark
	leg.Forwarder = &proc.Process{} // none yet, but what it is to stand between is about to be there
	if err := l.save(); err != nil {
		return err
	}
	if err := link.Insert(ctx, silent); err != nil {
		return err
	}
	out := filepath.Join(l.dir, outDir, link.Port+".out")
	if err := os.Remove(out); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	p, err := proc.Start(ctx, l.Switch.Name, out, self, "forward", link.Port, "--delay", leg.Delay.String())
	if err != nil {
		return err
	}
	leg.Forwarder = &p
	if err := l.save(); err != nil {
		return err
	}
	// It says one thing, that it forwards, or what is wrong.
	var said []byte
	if err := until(ctx, startUp, func() (err error) {
		if said, err = os.ReadFile(out); err == nil && !bytes.HasSuffix(said, []byte("\n")) {
			err = errors.New("the forwarder does not say that it forwards")
		}
		return err
	}); err != nil {
		return err
	}
	if string(said) != Forwards+"\n" {
		return fmt.Errorf("the forwarder: %s", bytes.TrimSpace(said))
	}
	return nil
}

// Forwards is what a forwarder says when it begins.
const Forwards = "forwarding"

func rate(bits int64) string {
	switch {
	case bits == 0:
		return "no limit"
	case bits%1_000_000 == 0:
		return fmt.Sprintf("%d Mbit/s", bits/1_000_000)
	case bits%1000 == 0:
		return fmt.Sprintf("%d kbit/s", bits/1000)
	}
	return fmt.Sprintf("%d bit/s", bits)
}
