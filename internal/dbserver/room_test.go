package dbserver

import (
	"testing"

	"martlet/internal/backend"
)

// Below the reserve only what leads to room is taken.
func TestWantsRoom(t *testing.T) {
	const early, late = "0000000001.00000", "0000000002.00000"
	for _, tt := range []struct {
		method, put, gone string
		want              bool
	}{
		{"PUT", "", "", true},
		{"POST", "", "", true},
		{"PUT", late, early, true},
		{"PUT", late, late, true},
		{"PUT", late, "x", true},
		{"PUT", early, late, false}, // the row of a container that was deleted
		{"DELETE", "", "", false},
		{"GET", "", "", false},
		{"HEAD", "", "", false},
	} {
		r := &backend.Request{Method: tt.method}
		if tt.put != "" {
			r.Header = backend.Header{{Name: backend.PutStamp, Value: tt.put}, {Name: backend.DeleteStamp, Value: tt.gone}}
		}
		if got := wantsRoom(r); got != tt.want {
			t.Errorf("%s put at %q, deleted at %q: wants room %v, want %v", tt.method, tt.put, tt.gone, got, tt.want)
		}
	}
}
