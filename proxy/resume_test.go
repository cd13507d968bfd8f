package proxy

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"strings"
	"testing"

	"martlet/internal/backend"
	"martlet/internal/errs"
	"martlet/internal/quorum"
	"martlet/internal/quorum/nodetest"
	"martlet/internal/splice"
	"martlet/proxy/chain"
	"martlet/ring"
)

const resumeStamp = "1000000000.00001"

// breaking serves data under a stamp as an object server does, and breaks off
// after some bytes; -1 is never.
func breaking(data, stamp string, after int) backend.HandlerFunc {
	return func(_ context.Context, r *backend.Request) (*backend.Response, error) {
		resp := &backend.Response{Status: 200, Length: int64(len(data))}
		part := data
		if text, ok := r.Header.Lookup("Range"); ok {
			var first, last int
			if _, err := fmt.Sscanf(text, "bytes=%d-%d", &first, &last); err != nil {
				return nil, errs.E(errs.Invalid, err)
			}
			part = data[first : last+1]
			resp.Status, resp.Length = 206, int64(len(part))
			resp.Header.Add("Content-Range", fmt.Sprintf("bytes %d-%d/%d", first, last, len(data)))
		}
		resp.Header.Add(backend.DataStamp, stamp)
		resp.Header.Add(backend.ETag, "e"+stamp)
		if after >= 0 && after < len(part) {
			part = part[:after]
		}
		resp.Body = io.NopCloser(strings.NewReader(part))
		return resp, nil
	}
}

// readAll reads the object of a bench as objectRead does, beginning at d0, with what takes a body.
func readAll(t *testing.T, b *bench, header http.Header, take func(io.Reader) ([]byte, error)) (string, error) {
	t.Helper()
	s := &Server{cluster: b.cluster, log: slog.New(slog.DiscardHandler)}
	rq := newRequest(t.Context(), &chain.Request{Method: http.MethodGet, Header: header})
	reply, err := b.cluster.ReadFrom(t.Context(), b.place, b.place.Primaries, func(int, *ring.Device) *backend.Request {
		req := &backend.Request{Method: http.MethodGet}
		pick(&req.Header, header, conditions)
		return req
	})
	if err != nil {
		t.Fatal(err)
	}
	body := s.resume(rq, b.place, 0, "", quorum.Reply{Response: reply.Response, Device: reply.Device})
	defer func() { _ = body.Close() }()
	text, err := take(body)
	return string(text), err
}

// spliced is io.ReadAll through a pipe, where the body can do that, and counts how much came so.
type spliced int

func (s *spliced) readAll(body io.Reader) (all []byte, err error) {
	p, err := splice.Take()
	if err != nil {
		return nil, err
	}
	defer p.Give()
	block := make([]byte, 8<<10)
	for err == nil {
		var n int
		if n, err = body.(splice.Source).Splice(p); !errors.Is(err, splice.ErrUnable) {
			*s += spliced(n)
			part, perr := io.ReadAll(p)
			if len(part) != n || perr != nil {
				return all, fmt.Errorf("%d bytes were said to be there, and are %d, %w", n, len(part), perr)
			}
			all = append(all, part...)
			continue
		}
		n, err = body.Read(block)
		all = append(all, block[:n]...)
	}
	if err == io.EOF {
		err = nil
	}
	return all, err
}

func TestGetGoesOnFromAnotherReplica(t *testing.T) {
	data := strings.Repeat("0123456789", 30_000)
	whole := breaking(data, resumeStamp, -1)
	for name, tt := range map[string]struct {
		say    map[string]backend.HandlerFunc
		header http.Header
		want   string // "" is a failure
	}{
		"nothing breaks":               {map[string]backend.HandlerFunc{"d0": whole}, nil, data},
		"once":                         {map[string]backend.HandlerFunc{"d0": breaking(data, resumeStamp, 12_345), "d1": whole, "d2": whole}, nil, data},
		"before the head is out":       {map[string]backend.HandlerFunc{"d0": breaking(data, resumeStamp, 0), "d1": whole, "d2": whole}, nil, data},
		"twice":                        {map[string]backend.HandlerFunc{"d0": breaking(data, resumeStamp, 100_000), "d1": breaking(data, resumeStamp, 70_000), "d2": whole}, nil, data},
		"the others have another":      {map[string]backend.HandlerFunc{"d0": breaking(data, resumeStamp, 50_000), "d1": breaking(data, "1000000000.00002", -1), "d2": whole}, nil, data},
		"the others have none":         {map[string]backend.HandlerFunc{"d0": breaking(data, resumeStamp, 50_000), "d1": nodetest.Always(404, ""), "d2": whole}, nil, data},
		"a handoff has it":             {map[string]backend.HandlerFunc{"d0": breaking(data, resumeStamp, 50_000), "d1": nodetest.Always(503, ""), "d2": nodetest.Always(503, ""), "d4": whole}, nil, data},
		"all of them break":            {map[string]backend.HandlerFunc{"d0": breaking(data, resumeStamp, 50_000), "d1": breaking(data, resumeStamp, 50_000), "d2": breaking(data, resumeStamp, 50_000)}, nil, ""},
		"a range":                      {map[string]backend.HandlerFunc{"d0": breaking(data, resumeStamp, 99_999), "d1": whole, "d2": whole}, http.Header{"Range": {"bytes=15-200015"}}, data[15:200016]},
		"nothing else has the version": {map[string]backend.HandlerFunc{"d0": breaking(data, resumeStamp, 50_000), "d1": nodetest.Always(404, ""), "d2": nodetest.Always(404, "")}, nil, ""},
	} {
		b := newBench(t)
		for i := range nodetest.Nodes {
			b.fleet.Script(fmt.Sprint("d", i), nodetest.Always(404, ""))
		}
		for d, say := range tt.say {
			b.fleet.Script(d, say)
		}
		var moved spliced
		for how, take := range map[string]func(io.Reader) ([]byte, error){"read": io.ReadAll, "spliced": moved.readAll} {
			got, err := readAll(t, b, tt.header, take)
			if tt.want == "" {
				if err == nil {
					t.Errorf("%s, %s: %d bytes look whole", name, how, len(got))
				}
				continue
			}
			if err != nil || got != tt.want {
				t.Errorf("%s, %s: %d bytes, %v, want the %d", name, how, len(got), err, len(tt.want))
			}
		}
		if moved < 100_000 && tt.want != "" {
			t.Errorf("%s: %d bytes were spliced", name, moved)
		}
	}
}
