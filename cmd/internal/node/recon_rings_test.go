package node

import (
	"encoding/json"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"strings"
	"testing"

	"martlet/internal/backend"
	"martlet/ring"
)

// What is told of rings is what is in use: a newer file once it was looked at, and of an older one, which is refused,
// why it is.
func TestRingsTold(t *testing.T) {
	dir, policies := codedRings(t, 6)
	all, err := openRings(dir, policies)
	if err != nil {
		t.Fatal(err)
	}
	p := &process{log: slog.New(slog.DiscardHandler)}
	p.reload(all, 1)
	look := func() map[string]RingInUse {
		t.Helper()
		_ = p.work[0].pass(t.Context()) // what is wrong it tells below
		mux := http.NewServeMux()
		all.tellRings(mux)
		w := httptest.NewRecorder()
		mux.ServeHTTP(w, httptest.NewRequest("GET", RingsPath, nil))
		var list []RingInUse
		if err := json.Unmarshal(w.Body.Bytes(), &list); err != nil || len(list) != 4 {
			t.Fatalf("%s: %v", w.Body, err)
		}
		by := map[string]RingInUse{}
		for _, r := range list {
			by[r.Ring] = r
		}
		return by
	}
	first := look()
	if r := first["object-1"]; r.Version != 1 || r.Digest == "" || r.Error != "" {
		t.Errorf("at first: %+v", r)
	}
	if first["account"].Digest != all.account.Ring().Digest() || first["account"].Digest == first["object-1"].Digest {
		t.Errorf("digests of rings that differ: %+v", first)
	}
	path := filepath.Join(dir, "account.ring.gz")
	change := func(version int64) {
		t.Helper()
		d := ring.Data{PartPower: 1, Version: version}
		for r := range all.account.Ring().Devices() {
			d.Devices = append(d.Devices, r)
		}
		for _, row := range all.account.Ring().Rows() {
			row[0], row[1] = row[1], row[0]
			d.Rows = append(d.Rows, row)
		}
		r, err := ring.New(d)
		if err == nil {
			err = r.Save(path)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	change(2)
	second := look()["account"]
	if second.Version != 2 || second.Digest == first["account"].Digest || second.Error != "" {
		t.Errorf("after a newer file: %+v, was %+v", second, first["account"])
	}
	change(1)
	third := look()["account"]
	if third.Version != 2 || third.Digest != second.Digest || !strings.Contains(third.Error, "older than the ring in use") {
		t.Errorf("after an older file: %+v, was %+v", third, second)
	}
	change(3)
	if r := look()["account"]; r.Version != 3 || r.Error != "" {
		t.Errorf("after the newest file: %+v", r)
	}
	resp, err := recon{rings: all}.Serve(t.Context(), &backend.Request{Method: "GET", Path: RingsPath})
	if err != nil || resp.Status != 200 {
		t.Errorf("on the storage network: %+v, %v", resp, err)
	}
}
