package ecread

import (
	"bufio"
	"io"
	"strings"
	"testing"

	"martlet/internal/backend"
	"martlet/internal/ec"
	"martlet/internal/quorum"
)

// A fragment says how much of it is there, if its body does, so that it is read without a goroutine.
func TestBuffered(t *testing.T) {
	there := bufio.NewReader(strings.NewReader("fragment"))
	if _, err := there.Peek(3); err != nil {
		t.Fatal(err)
	}
	for name, tt := range map[string]struct {
		body io.ReadCloser
		want int
	}{
		"it knows": {struct {
			*bufio.Reader
			io.Closer
		}{there, io.NopCloser(nil)}, 8},
		"it doesn't say": {io.NopCloser(strings.NewReader("fragment")), 0},
	} {
		f := &frames{from: quorum.Fragment{Reply: quorum.Reply{Response: &backend.Response{Body: tt.body}}}}
		if got := ec.Buffered(f).Buffered(); got != tt.want {
			t.Errorf("%s: %d, want %d", name, got, tt.want)
		}
	}
}
