package cluster

import (
	"cmp"
	"errors"
	"fmt"
	"math/rand/v2"
	"path/filepath"
	"slices"
	"strings"

	"martlet/ring"
	"martlet/ring/builder"
)

// changeRings changes every ring of a folder in the same way, as an operator would who takes a device out, brings it
// back, or gives it another weight, and rebalances. It says what it did. Processes load the new files by themselves.
func changeRings(folder string, seed uint64) (what string, err error) {
	paths, err := filepath.Glob(filepath.Join(folder, "*.builder"))
	if err != nil {
		return "", err
	}
	slices.Sort(paths)
	for _, path := range paths {
		did, err := changeRing(path, rand.New(rand.NewPCG(seed, 0x72696e67)))
		if err != nil {
			return what, fmt.Errorf("%s: %w", path, err)
		}
		what = cmp.Or(what, did)
	}
	return what, nil
}

// changeRing changes one builder and writes its ring.
func changeRing(path string, r *rand.Rand) (what string, err error) {
	b, err := builder.Open(path)
	if err != nil {
		return "", err
	}
	defer func() { err = errors.Join(err, b.Close()) }()
	all := slices.SortedFunc(b.Devices(), func(x, y ring.Device) int {
		return cmp.Or(strings.Compare(x.IP, y.IP), strings.Compare(x.Name, y.Name))
	})
	// Of each node one device stays as it is, so that there is always room.
	var those []ring.Device
	for _, d := range all {
		if d.Name != "d1" || len(all) < 2 {
			those = append(those, d)
		}
	}
	if len(those) == 0 {
		those = all
	}
	d := those[r.IntN(len(those))]
	weights := []float64{0, 25, 50, 100, 200}
	weight := weights[r.IntN(len(weights))]
	if weight == d.Weight {
		weight = map[bool]float64{true: 100, false: 0}[d.Weight == 0]
	}
	if err := errors.Join(b.SetWeight(d.ID, weight), b.SetMinPartHours(0)); err != nil {
		return "", err
	}
	result, err := b.Rebalance(builder.Options{Seed: r.Uint64()})
	if err != nil {
		return "", err
	}
	made, err := b.Ring()
	if err != nil {
		return "", err
	}
	if err := b.SaveWithRing(made, strings.TrimSuffix(path, ".builder")+".ring.gz"); err != nil {
		return "", err
	}
	return fmt.Sprintf("%s/%s has weight %v, %d partitions of one ring move", d.IP, d.Name, weight, result.Moved), nil
}
