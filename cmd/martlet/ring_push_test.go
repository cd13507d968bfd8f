package main

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"martlet/cmd/internal/push"
	"martlet/internal/ringpush"
)

func TestPushUsage(t *testing.T) {
	dir := t.TempDir()
	file := filepath.Join(dir, "proxy.toml")
	text := "[cluster]\nhash_path_suffix = \"s\"\n[rings]\nfolder = \"rings\"\n[proxy]\n[auth]\nsecrets = [\"0123456789abcdef\"]\n"
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct {
		args []string
		want string
	}{
		{[]string{"push"}, "requires at least 1 arg"},
		{[]string{"push", "x.ring.gz"}, "--config is missing"},
		{[]string{"running"}, "--config is missing"},
		{[]string{"push", "x.ring.gz", "--config", file, "--concurrency", "0"}, "must be from 1 to 256"},
		{[]string{"push", "x.ring.gz", "--config", file, "--timeout", "0s"}, "must be more than 0"},
		{[]string{"push", "x.ring.gz", "--config", file}, `key "cluster.key_file" is not set`},
		{[]string{"running", "--config", filepath.Join(dir, "none.toml")}, "none.toml"},
	} {
		var stdout, stderr strings.Builder
		if code := run(append([]string{"ring"}, tt.args...), &stdout, &stderr); code != 2 || !strings.Contains(stderr.String(), tt.want) || stdout.Len() > 0 {
			t.Errorf("%v: exit status %d, %q, %q; want 2 and %q", tt.args, code, stdout.String(), stderr.String(), tt.want)
		}
	}
}

// What is not as it should be is a warning, and counts as one.
func TestPushedWords(t *testing.T) {
	is := func(version int64) *ringpush.Running { return &ringpush.Running{Version: version} }
	process := func(name, kind string, states ...*push.State) *push.Process {
		return &push.Process{Name: name, Kind: kind, Rings: states}
	}
	state := func(what string, was, now int64) *push.State {
		return &push.State{Name: "object", State: what, Was: is(was), Now: is(now)}
	}
	rings := []*push.Ring{{Name: "object"}}
	for what, tt := range map[string]struct {
		a        pushed
		warnings []string
		notes    []string
		lines    []string
		result   push.Result
	}{
		"all have it": {
			a:     pushed{Rings: rings, Processes: []*push.Process{process("a", "storage", state(push.Sent, 5, 6)), process("b", "proxy", state(push.Has, 6, 6))}},
			lines: []string{"object 5 → 6", "object 6\n", "2 of 2 processes run these rings"},
		},
		"somebody is away": {
			a: pushed{Rings: rings, Stopped: true, Processes: []*push.Process{
				{Name: "a", Kind: "storage", Error: "no route"}, {Name: "b", Kind: "storage", Error: "no route", Leaves: true}, process("c", "proxy", state(push.Held, 5, 5)),
			}},
			warnings: []string{"a could not be asked: no route", "b, which is in none of the rings to be handed out, could not be asked: no route", "the proxies were not sent anything"},
			lines:    []string{"could not be asked\n", "object 5, not sent", "0 of 3 processes"},
		},
		"somebody is away, in a dry run": {
			a: pushed{Rings: rings, DryRun: true, Stopped: true, Processes: []*push.Process{
				{Name: "a", Kind: "storage", Error: "no route"}, process("b", "storage", state(push.Behind, 5, 5)), process("c", "proxy", state(push.Held, 5, 5)),
			}},
			warnings: []string{"a could not be asked: no route", "the proxies would not be sent anything"},
			lines:    []string{"object 5, not sent", "object 5, would be sent", "1 of 3 processes run these rings, or would be sent them"},
		},
		"a proxy shares a folder": {
			a: pushed{Rings: rings, Processes: []*push.Process{process("b", "proxy", state(push.Has, 6, 6))}}, result: push.Result{Shared: []push.Shared{{Proxy: "b", Node: "a"}}},
			notes: []string{"note: b has its rings in the folder of a"},
		},
		"would be sent": {
			a:     pushed{Rings: rings, DryRun: true, Processes: []*push.Process{process("b", "proxy", state(push.Behind, 5, 5))}},
			lines: []string{"object 5, would be sent", "1 of 1 processes run these rings, or would be sent them"},
		},
		"a look, and one is behind": {
			a:        pushed{Rings: rings, DryRun: true, looking: true, Processes: []*push.Process{process("b", "proxy", state(push.Behind, 5, 5)), process("c", "proxy", state(push.Has, 6, 6))}},
			warnings: []string{"b runs version 5 of the object ring"}, lines: []string{"object 5, behind", "1 of 2 processes run these rings"},
		},
		"a look, and they differ": {
			a:        pushed{DryRun: true, looking: true, Processes: []*push.Process{process("b", "proxy", state(push.Seen, 5, 5)), process("c", "proxy", state(push.Seen, 6, 6))}},
			warnings: []string{"c runs version 6 of the object ring, and not version 5 like others"}, lines: []string{"2 of 2 processes could be asked"},
		},
		"a look, and one lacks a ring": {
			a: pushed{DryRun: true, looking: true, Processes: []*push.Process{
				process("a", "storage"), process("b", "proxy", state(push.Seen, 5, 5)), {Name: "c", Kind: "proxy", Error: "no route"},
			}},
			warnings: []string{"c could not be asked", "a has no object ring, and others have"},
		},
		"a look, and a file is gone": {
			a: pushed{Rings: rings, DryRun: true, looking: true, Processes: []*push.Process{
				process("b", "proxy", &push.State{Name: "object", State: push.Behind, Was: is(6), Now: is(6), File: "no such file"}),
			}},
			warnings: []string{"b runs version 6 of the object ring, and may not after a restart: no such file"}, lines: []string{"object 6, not in its file", "0 of 1 processes"},
		},
		"a file was gone": {
			a: pushed{Rings: rings, Processes: []*push.Process{
				process("b", "proxy", &push.State{Name: "object", State: push.Sent, Was: is(6), Now: is(6), File: "no such file"}),
			}},
			lines: []string{"1 of 1 processes run these rings"},
		},
		"a proxy is named twice": {
			a: pushed{Rings: rings, Processes: []*push.Process{process("b", "proxy", state(push.Has, 6, 6))}}, result: push.Result{Twice: []string{"http://b2"}},
			warnings: []string{"http://b2 leads to a process that was reached in another way as well"},
		},
		"it is interrupted": {
			a:      pushed{Rings: rings, Processes: []*push.Process{process("b", "storage", state(push.Held, 5, 5)), process("c", "proxy", state(push.Held, 5, 5))}},
			result: push.Result{Interrupted: true}, warnings: []string{"interrupted"}, lines: []string{"object 5, not sent", "0 of 2"},
		},
	} {
		tt.a.judge(&tt.result)
		ok := len(tt.a.Warnings) == len(tt.warnings)
		for i, w := range tt.a.Warnings {
			ok = ok && strings.HasPrefix(w, tt.warnings[i])
		}
		for i, n := range tt.notes {
			ok = ok && i < len(tt.a.Notes) && strings.HasPrefix(tt.a.Notes[i], n)
		}
		p := newPage(nil)
		tt.a.text(p)
		if !ok || slices.ContainsFunc(tt.lines, func(l string) bool { return !strings.Contains(p.String(), l) }) {
			t.Errorf("%s: warnings %q, want %q; notes %q, want %q; printed is\n%swant %q", what, tt.a.Warnings, tt.warnings, tt.a.Notes, tt.notes, p.String(), tt.lines)
		}
	}
}
