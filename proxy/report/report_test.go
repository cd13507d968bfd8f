package report

import (
	"context"
	"io"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

func TestText(t *testing.T) {
	r := Report{Root: "delete", Fields: map[string]any{"Number Deleted": 2, "Response Status": "200 OK"}, Failures: []Failure{{"/c/a&b", "404 Not Found"}}}
	for contentType, want := range map[string]string{
		"text/plain":       "Number Deleted: 2\nResponse Status: 200 OK\nErrors:\n/c/a&b, 404 Not Found\n",
		"application/json": `{"Errors":[["/c/a\u0026b","404 Not Found"]],"Number Deleted":2,"Response Status":"200 OK"}`,
		"application/xml": "<delete>\n<number_deleted>2</number_deleted>\n<response_status>200 OK</response_status>\n<errors>\n" +
			"<object><name>/c/a&amp;b</name><status>404 Not Found</status></object>\n</errors>\n</delete>\n",
	} {
		if got := r.Text(contentType); got != want {
			t.Errorf("%s: got %q, want %q", contentType, got, want)
		}
	}
	if got := (&Report{}).Text("application/json"); got != `{"Errors":[]}` {
		t.Errorf("nothing in it: got %s", got)
	}
}

func TestHeartbeat(t *testing.T) {
	for what, tt := range map[string]struct {
		beat  Beat
		takes time.Duration
		want  string
	}{
		"quick":          {Beat{}, 0, "report"},
		"quick XML":      {Beat{First: First("text/xml")}, 0, "report"},
		"slow":           {Beat{First: First("text/plain")}, 25 * time.Second, "  \r\n\r\nreport"},
		"slow XML":       {Beat{First: First("application/xml")}, 25 * time.Second, "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n \r\n\r\nreport"},
		"quick, at once": {Beat{AtOnce: true}, 0, " \r\n\r\nreport"},
		"slow, at once":  {Beat{AtOnce: true}, 25 * time.Second, "   \r\n\r\nreport"},
	} {
		synctest.Test(t, func(t *testing.T) {
			b := Heartbeat(t.Context(), 10*time.Second, tt.beat, func(context.Context) string {
				<-time.After(tt.takes) // of the bubble's clock
				return "report"
			})
			defer func() { _ = b.Close() }()
			got, err := io.ReadAll(iotestOneByte{b})
			if err != nil || string(got) != tt.want {
				t.Errorf("%s: got %q, %v, want %q", what, got, err, tt.want)
			}
		})
	}
}

// iotestOneByte reads a byte at a time, so that a report comes in parts.
type iotestOneByte struct{ r io.Reader }

func (o iotestOneByte) Read(p []byte) (int, error) { return o.r.Read(p[:1]) }

// A panic of the work is no end of the process, and no report.
func TestTheWorkPanics(t *testing.T) {
	for what, atOnce := range map[string]bool{"before the answer": false, "while white space is sent": true} {
		b := Heartbeat(t.Context(), time.Minute, Beat{AtOnce: atOnce}, func(context.Context) string { panic("oh no") })
		got, err := io.ReadAll(b)
		if err == nil || !strings.Contains(err.Error(), "oh no") || strings.TrimSpace(string(got)) != "" {
			t.Errorf("%s: got %q, %v, want the panic", what, got, err)
		}
		_ = b.Close()
	}
}

// Nothing goes on when the client has gone.
func TestCloseEndsTheWork(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ended := false
		b := Heartbeat(t.Context(), time.Second, Beat{}, func(ctx context.Context) string {
			<-ctx.Done()
			ended = true
			return strings.Repeat("x", 10)
		})
		if err := b.Close(); err != nil || !ended {
			t.Errorf("closed with %v, the work has ended: %v", err, ended)
		}
	})
}
