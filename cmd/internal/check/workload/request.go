package workload

import (
	"context"
	"errors"
	"io"
	"net/http"
	"net/url"
	"strings"
	"sync"
)

// request makes a request to a container, or an object in it, or with neither to the account.
func (w *Workload) request(ctx context.Context, proxy int, method, container, object string, query url.Values) *http.Request {
	path := w.account
	if container != "" {
		path += "/" + escape(container)
	}
	if object != "" {
		path += "/" + escape(object)
	}
	if len(query) > 0 {
		path += "?" + query.Encode()
	}
	r, err := http.NewRequestWithContext(ctx, method, strings.TrimSuffix(w.cfg.Endpoints[proxy], "/")+path, nil)
	if err != nil {
		panic(err) // the parts are checked: an endpoint has been signed in at, all else is escaped
	}
	r.Header.Set("X-Auth-Token", w.token)
	return r
}

// escape makes a name fit for a path; what looks like folders is left.
func escape(name string) string {
	return strings.ReplaceAll(url.PathEscape(name), "%2F", "/")
}

// drain reads what is left of a small answer, so that its connection is used again.
func drain(resp *http.Response) {
	_, _ = io.Copy(io.Discard, io.LimitReader(resp.Body, 64<<10)) // what of it is lost is not wanted
	_ = resp.Body.Close()
}

// errCut is how an upload ends that is broken off on purpose.
var errCut = errors.New("broken off on purpose")

// A sending is the body of an upload: it knows whether all of it was handed out.
type sending struct {
	size int64 // of the whole
	cut  int64 // it breaks off there, where it is less

	mu   sync.Mutex // guards all that follows
	from io.Reader
	sent int64
	end  bool // the transport has seen its end
	over bool // it is not read any more
}

func (s *sending) Read(p []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.over || s.sent >= s.cut && s.cut < s.size {
		return 0, errCut
	}
	n, err := s.from.Read(p[:min(int64(len(p)), max(1, s.cut-s.sent))])
	s.sent += int64(n)
	s.end = s.end || errors.Is(err, io.EOF)
	return n, err
}

// Close ends it.
func (s *sending) Close() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.over = true
	return nil
}

// whole reports, and settles, whether all of it may have been sent: of a body whose length was announced its bytes, of another
// one its end, too.
func (s *sending) whole(chunked bool) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.over = true
	return s.end || !chunked && s.sent == s.size
}
