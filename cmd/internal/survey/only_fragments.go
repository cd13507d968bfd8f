package survey

import (
	"context"
	"fmt"

	"martlet/internal/name"
	"martlet/internal/replwire"
	"martlet/internal/timestamp"
	"martlet/ring"
)

// version is the data of an object, as far as hashes tell: those of its fragments begin like its own.
type version struct {
	object [8]byte
	time   timestamp.T
}

func versionOf(o *replwire.Object) version { return version{[8]byte(o.Hash[:8]), o.Times.Data} }

// fragments counts the fragments of a policy that a device has and without which an object can't be read. No
// other device is to have the same, so it counts what others have of the object's other ones. Those of what was
// superseded, or never committed, nobody needs.
func (o *Only) fragments(ctx context.Context, ask Asker, p Policy, of Subject, unknown map[string]error) error {
	if p.Data == 0 {
		return nil
	}
	commits, err := gather(ctx, ask, Policy{Index: p.Index, Ring: p.Fragments}, false, of.Objects)
	if err != nil {
		return err
	}
	parts, err := gather(ctx, ask, Policy{Index: p.Index.Fragments(), Ring: p.Fragments}, false, of.Objects)
	if err != nil {
		return err
	}
	me := len(parts.devices) - 1
	if err := parts.unknown[me]; err != nil {
		return fmt.Errorf("%s does not say what it holds: %w", Place(of.Objects), err)
	}
	for n := range parts.holders {
		n := uint32(n)
		if parts.holding(n, me) == nil {
			continue
		}
		current, err := inForce(ctx, ask, commits, n)
		if err != nil {
			return err
		}
		elsewhere, err := fragmentsElsewhere(ctx, ask, parts, n, me, of.Is)
		if err != nil {
			return err
		}
		err = eachState(ctx, ask, parts, n, me, func(s *replwire.Object) {
			v := versionOf(s)
			if s.Kind == replwire.Data && current[v] && !elsewhere[v][s.Hash] && len(elsewhere[v]) < p.Data {
				o.Fragments++
			}
		})
		if err != nil {
			return err
		}
		if err := parts.unknown[me]; err != nil {
			return fmt.Errorf("%s does not say what it holds: %w", Place(of.Objects), err)
		}
	}
	for _, h := range []*held{commits, parts} {
		for i, d := range h.devices {
			if err := h.unknown[i]; err != nil && !of.Is(d) {
				unknown[Place(d)] = err
			}
		}
	}
	return ctx.Err()
}

// eachState calls do with each state that a device holds of a partition. That it can't be asked is noted.
func eachState(ctx context.Context, ask Asker, h *held, partition uint32, device int, do func(*replwire.Object)) error {
	s := &stream{x: &examiner{held: h, ask: ask}, device: device, partition: partition}
	s.next.from, s.next.more = name.PartitionRange(h.Ring.PartPower(), partition).First(), true
	for {
		o, err := s.peek(ctx)
		if o == nil || err != nil {
			return err
		}
		do(o)
		s.list = s.list[1:]
	}
}

// inForce returns which versions are current in a partition, by what all devices know of it.
func inForce(ctx context.Context, ask Asker, h *held, partition uint32) (map[version]bool, error) {
	newest := map[name.Hash]replwire.Object{}
	for _, one := range h.holders[partition] {
		err := eachState(ctx, ask, h, partition, int(one.device), func(s *replwire.Object) {
			if s.Kind == replwire.Waiting {
				return
			}
			old, known := newest[s.Hash]
			if c := s.Times.CompareData(old.Times); !known || c > 0 || c == 0 && s.Kind == replwire.Tombstone {
				newest[s.Hash] = *s
			}
		})
		if err != nil {
			return nil, err
		}
	}
	current := map[version]bool{}
	for _, s := range newest {
		if s.Kind != replwire.Tombstone {
			current[versionOf(&s)] = true
		}
	}
	return current, nil
}

// fragmentsElsewhere returns which good fragments other devices have in a partition, by what they are of.
func fragmentsElsewhere(ctx context.Context, ask Asker, h *held, partition uint32, me int, is func(*ring.Device) bool) (map[version]map[name.Hash]bool, error) {
	all := map[version]map[name.Hash]bool{}
	for _, one := range h.holders[partition] {
		if i := int(one.device); i == me || is(h.devices[i]) {
			continue
		}
		err := eachState(ctx, ask, h, partition, int(one.device), func(s *replwire.Object) {
			if s.Kind != replwire.Data {
				return
			}
			v := versionOf(s)
			if all[v] == nil {
				all[v] = map[name.Hash]bool{}
			}
			all[v][s.Hash] = true
		})
		if err != nil {
			return nil, err
		}
	}
	return all, nil
}
