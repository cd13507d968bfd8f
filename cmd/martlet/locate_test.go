package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"martlet/ring"
)

// Under a policy of erasure coding it is said which primaries have the commit and which fragment each has, and how to ask for both.
func TestLocateFragments(t *testing.T) {
	folder := t.TempDir()
	data := ring.Data{PartPower: 1}
	for i := range 5 {
		data.Devices = append(data.Devices, &ring.Device{ID: i, Region: 1, Zone: i, IP: "10.0.0." + fmt.Sprint(i+1), Port: 6200, ReplicationIP: "10.0.1.1", ReplicationPort: 6203, Name: fmt.Sprint("d", i), Weight: 1})
	}
	for i := range uint32(4) {
		data.Rows = append(data.Rows, []uint32{i, i + 1})
	}
	r, err := ring.New(data)
	if err == nil {
		err = r.Save(filepath.Join(folder, "object-1.ring.gz"))
	}
	config := filepath.Join(folder, "proxy.toml")
	if err == nil {
		err = os.WriteFile(config, fmt.Appendf(nil, "%s", "[cluster]\nhash_path_suffix = \"x\"\n[[cluster.policies]]\nindex = 0\nname = \"plain\"\ndefault = true\n[[cluster.policies]]\nindex = 1\nname = \"ec\"\nec = \"3+1\"\n[proxy]\n[auth]\nsecrets = [\"0123456789abcdef0123456789abcdef\"]\n[rings]\nfolder = \""+folder+"\"\n"), 0o600)
	}
	if err != nil {
		t.Fatal(err)
	}
	ask := func(args ...string) string {
		t.Helper()
		var out, stderr bytes.Buffer
		if code := run(append([]string{"locate", "AUTH_a", "c", "o", "--config", config, "--policy", "ec"}, args...), &out, &stderr); code != 0 {
			t.Fatalf("exit status %d\n%s%s", code, out.String(), stderr.String())
		}
		return out.String()
	}
	out := ask()
	for _, want := range []string{"HOLDS", "commit, fragment 0\n", "commit, fragment 2\n", "  fragment 3\n", "# fragment 3\n", "X-Backend-Storage-Policy-Index: 1'", "handoff 1"} {
		if !strings.Contains(out, want) {
			t.Errorf("%q is not said:\n%s", want, out)
		}
	}
	if n := strings.Count(out, "curl "); n != 3+1+4 { // commits, the handoff, fragments
		t.Errorf("%d lines to ask with:\n%s", n, out)
	}
	out = ask("--json")
	var said struct {
		Primaries, Handoffs []struct {
			Commit        bool   `json:"commit"`
			Fragment      *int   `json:"fragment"`
			FragmentsCurl string `json:"fragments_curl"`
		}
	}
	if err := json.Unmarshal([]byte(out), &said); err != nil || len(said.Primaries) != 4 || len(said.Handoffs) != 1 || said.Handoffs[0].Fragment != nil {
		t.Fatalf("%v:\n%s", err, out)
	}
	for i, s := range said.Primaries {
		if s.Commit != (i < 3) || s.Fragment == nil || *s.Fragment != i || s.FragmentsCurl == "" {
			t.Errorf("primary %d: %+v", i, s)
		}
	}
}
