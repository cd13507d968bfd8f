package node

import (
	"context"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"martlet/internal/backend"
	"martlet/internal/device"
	"martlet/internal/vfs"
	"martlet/object"
	"martlet/object/engine"
)

// silentFS does not say how full it is before it is let.
type silentFS struct {
	vfs.FS
	asked chan struct{} // has a word for each who asks
	let   chan struct{}
}

func (s silentFS) Usage(name string) (vfs.Usage, error) {
	s.asked <- struct{}{}
	<-s.let
	return s.FS.Usage(name)
}

// A device that is away, and one that hangs, say so in the report, and keep nobody from
// having it.
func TestStoreReport(t *testing.T) {
	root := t.TempDir()
	if err := os.Mkdir(filepath.Join(root, "d1"), 0o750); err != nil {
		t.Fatal(err)
	}
	for what, tt := range map[string]struct {
		silent bool
		want   string // of d1
	}{
		"answers": {false, `{"device":"d1","store":{"policies":[]`},
		"hangs":   {true, `{"device":"d1","error":"`},
	} {
		fs := silentFS{vfs.OS, make(chan struct{}, 100), make(chan struct{})}
		if !tt.silent {
			close(fs.let)
		}
		set, err := device.NewSet(vfs.OS, root, []string{"d1", "d2"})
		if err != nil {
			t.Fatal(err)
		}
		cfg := engine.Defaults()
		cfg.FS = fs
		stores := object.OpenStores(set, cfg, nil)
		r := recon{devices: set, stores: stores}
		ctx, cancel := context.WithCancel(t.Context())
		if tt.silent {
			go func() { <-fs.asked; cancel() }()
		}
		resp, err := r.Serve(ctx, &backend.Request{Method: "GET", Path: StorePath})
		cancel()
		if err != nil {
			t.Fatalf("%s: %v", what, err)
		}
		body, err := io.ReadAll(resp.Body)
		if got := string(body); err != nil || !strings.Contains(got, tt.want) || !strings.Contains(got, `{"device":"d2","error":"`) {
			t.Errorf("%s: %s, %v", what, body, err)
		}
		if tt.silent {
			close(fs.let)
		}
		for _, s := range stores {
			_ = s.Engine.Close() // one of them never had a folder
		}
	}
}
