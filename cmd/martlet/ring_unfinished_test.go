package main

import (
	"os"
	"path/filepath"
	"slices"
	"testing"

	"martlet/ring"
	"martlet/ring/builder"
)

// Rings of two policies that were made the same way are the same: which of them a builder has made is not known by its rows.
func TestPoliciesWithTheSameRows(t *testing.T) {
	dir := t.TempDir()
	write := func(name string, port int) *builder.Builder {
		b, err := builder.New(4, 3, 1)
		if err != nil {
			t.Fatal(err)
		}
		for i := range 4 {
			if _, err := b.Add(ring.Device{Region: 1, Zone: i, IP: "127.0.0.1", Port: port, Name: "d" + string(rune('0'+i)), Weight: 1}); err != nil {
				t.Fatal(err)
			}
		}
		if _, err := b.Rebalance(builder.Options{}); err != nil {
			t.Fatal(err)
		}
		r, err := b.Ring()
		if err != nil {
			t.Fatal(err)
		}
		if err := r.Save(filepath.Join(dir, name+".ring.gz")); err != nil {
			t.Fatal(err)
		}
		return b
	}
	write("account", 6202)
	write("container", 6201)
	write("object", 6200)
	second := write("object-1", 6200)
	file := filepath.Join(dir, "proxy.toml")
	text := twoPolicies + "[rings]\nfolder = \"" + dir + "\"\n"
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	names, err := storageNodes{}.ringsInUse(file, second)
	if err != nil || !slices.Equal(names, []string{"object", "object-1"}) {
		t.Errorf("they are %v, %v", names, err)
	}
}

const twoPolicies = `
[cluster]
hash_path_suffix = "salt"
[[cluster.policies]]
index = 0
name = "gold"
default = true
[[cluster.policies]]
index = 1
name = "silver"
[proxy]
listen = "127.0.0.1:8080"
[auth]
secrets = ["0123456789abcdef"]
[[auth.users]]
account = "test"
user = "tester"
key = "testing"
groups = [".admin"]
`
