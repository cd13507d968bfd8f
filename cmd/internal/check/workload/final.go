package workload

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"sync"
	"time"

	"martlet/cmd/internal/check/history"
)

// tries is how often something is read at the end before it counts as what can't be.
const tries = 5

// Final reads everything, by way of each endpoint. It is for when Run has returned and the store had its time to settle. What
// cannot be read is in what it returns; the error is that of ctx.
func (w *Workload) Final(ctx context.Context) (history.Final, error) {
	f := history.Final{Began: w.log.Now()}
	names := w.written()
	var jobs []func()
	for proxy := range w.cfg.Endpoints {
		for _, n := range names {
			for _, how := range []history.Kind{history.Get, history.Head} {
				f.Looks = append(f.Looks, history.Look{Name: n, Proxy: proxy, How: how})
			}
		}
		for _, c := range append([]string{w.segments}, w.containers...) {
			f.Containers = append(f.Containers, history.Container{Container: c, Proxy: proxy, Versions: w.mix.versions > 0})
		}
		if w.mix.versions == 0 { // versions are in containers that nobody sees, and count
			f.Accounts = append(f.Accounts, history.Account{Proxy: proxy})
		}
	}
	for i := range f.Looks {
		jobs = append(jobs, func() { w.look(ctx, &f.Looks[i]) })
	}
	for i := range f.Containers {
		jobs = append(jobs, func() { w.lookContainer(ctx, &f.Containers[i]) })
	}
	for i := range f.Accounts {
		jobs = append(jobs, func() { w.lookAccount(ctx, &f.Accounts[i]) })
	}
	queue := make(chan func())
	var all sync.WaitGroup
	for range min(8, len(jobs)) {
		all.Go(func() {
			for job := range queue {
				job()
			}
		})
	}
	for _, job := range jobs {
		if ctx.Err() != nil {
			break
		}
		queue <- job
	}
	close(queue)
	all.Wait()
	f.Ended = w.log.Now()
	return f, ctx.Err()
}

// written is all names that may have something, and those that clients share.
func (w *Workload) written() []history.Name {
	all := map[history.Name]bool{}
	for _, c := range w.containers {
		for _, n := range w.names {
			all[history.Name{Container: c, Object: n}] = true
		}
	}
	h := w.History()
	for _, e := range h.Floor {
		all[e.Name] = true
	}
	for i := range h.Ops {
		if h.Ops[i].Kind.Writes() {
			all[h.Ops[i].Name()] = true
		}
		if n, ok := h.Ops[i].Kept(); ok {
			all[n] = true
		}
	}
	names := make([]history.Name, 0, len(all))
	for n := range all {
		names = append(names, n)
	}
	slices.SortFunc(names, func(a, b history.Name) int {
		return cmp.Or(cmp.Compare(a.Container, b.Container), cmp.Compare(a.Object, b.Object), cmp.Compare(a.Version, b.Version))
	})
	return names
}

// persist does something until it succeeds, a few times, with a pause in between that grows. It returns why not.
func (w *Workload) persist(ctx context.Context, do func(ctx context.Context) error) string {
	var err error
	for n := range tries {
		if n > 0 {
			t := time.NewTimer(time.Duration(n) * 200 * time.Millisecond)
			select {
			case <-ctx.Done():
			case <-t.C:
			}
			t.Stop()
		}
		once, cancel := w.patience(ctx, w.cfg.Largest)
		err = do(once)
		cancel()
		if err == nil || ctx.Err() != nil {
			break
		}
	}
	if err != nil {
		return brief(err)
	}
	return ""
}

func (w *Workload) look(ctx context.Context, l *history.Look) {
	l.Failed = w.persist(ctx, func(ctx context.Context) error {
		status, header, seen, err := w.see(ctx, l.Proxy, l.Name, l.How, asking{})
		l.Status = status
		if err == nil && seen == nil {
			err = errors.New(http.StatusText(status))
		}
		if err != nil {
			return err
		}
		l.Seen = *seen
		if l.How == history.Get && header.Get("X-Static-Large-Object") != "" {
			l.Counted, err = w.manifestLength(ctx, l.Proxy, l.Name)
		}
		return err
	})
}

// manifestLength is how many bytes the manifest of a large object has, as it is stored.
func (w *Workload) manifestLength(ctx context.Context, proxy int, n history.Name) (int64, error) {
	resp, err := w.http.Do(w.request(ctx, proxy, http.MethodGet, n.Container, n.Object, url.Values{"multipart-manifest": {"get"}}))
	if err != nil {
		return 0, err
	}
	defer func() { _ = resp.Body.Close() }()
	if resp.StatusCode != http.StatusOK {
		return 0, errors.New(resp.Status)
	}
	return io.Copy(io.Discard, resp.Body)
}

// pageOf is how many names a page of a listing has: few, so that there are edges between pages.
const pageOf = 20

func (w *Workload) lookContainer(ctx context.Context, c *history.Container) {
	c.Failed = w.persist(ctx, func(ctx context.Context) error {
		c.Names, c.Wrong = nil, ""
		for marker := ""; ; {
			status, seen, err := w.listing(ctx, c.Proxy, c.Container, history.Query{Marker: marker, Limit: pageOf})
			switch {
			case err != nil:
				return err
			case seen.Missing:
				return fmt.Errorf("%d", status)
			case seen.Wrong != "":
				c.Wrong = seen.Wrong
				return nil
			}
			c.Names = append(c.Names, seen.Names...)
			if seen.Whole {
				break
			}
			marker = seen.Names[len(seen.Names)-1].Name
		}
		h, err := w.head(ctx, c.Proxy, c.Container)
		if err != nil {
			return err
		}
		c.Objects, c.Bytes, err = counts(h, "X-Container-Object-Count", "X-Container-Bytes-Used")
		return err
	})
}

// head asks for the header of a container, or of the account.
func (w *Workload) head(ctx context.Context, proxy int, container string) (http.Header, error) {
	resp, err := w.http.Do(w.request(ctx, proxy, http.MethodHead, container, "", nil))
	if err != nil {
		return nil, err
	}
	drain(resp)
	if resp.StatusCode/100 != 2 {
		return nil, errors.New(resp.Status)
	}
	return resp.Header, nil
}

func counts(h http.Header, objects, bytes string) (n, b int64, err error) {
	if n, err = strconv.ParseInt(h.Get(objects), 10, 64); err == nil {
		b, err = strconv.ParseInt(h.Get(bytes), 10, 64)
	}
	return n, b, err
}

func (w *Workload) lookAccount(ctx context.Context, a *history.Account) {
	a.Failed = w.persist(ctx, func(ctx context.Context) error {
		a.Listed = nil
		for marker := ""; ; {
			rows, err := w.accountPage(ctx, a.Proxy, marker)
			if err != nil {
				return err
			}
			a.Listed = append(a.Listed, rows...)
			if len(rows) < pageOf {
				break
			}
			marker = rows[len(rows)-1].Container
		}
		h, err := w.head(ctx, a.Proxy, "")
		if err != nil {
			return err
		}
		if a.Containers, err = strconv.ParseInt(h.Get("X-Account-Container-Count"), 10, 64); err != nil {
			return err
		}
		a.Objects, a.Bytes, err = counts(h, "X-Account-Object-Count", "X-Account-Bytes-Used")
		return err
	})
}

func (w *Workload) accountPage(ctx context.Context, proxy int, marker string) ([]history.AccountEntry, error) {
	v := url.Values{"format": {"json"}, "limit": {strconv.Itoa(pageOf)}}
	if marker != "" {
		v.Set("marker", marker)
	}
	resp, err := w.http.Do(w.request(ctx, proxy, http.MethodGet, "", "", v))
	if err != nil {
		return nil, err
	}
	defer drain(resp)
	if resp.StatusCode != http.StatusOK {
		return nil, errors.New(resp.Status)
	}
	var list []struct {
		Name  string `json:"name"`
		Count int64  `json:"count"`
		Bytes int64  `json:"bytes"`
	}
	if err := json.NewDecoder(resp.Body).Decode(&list); err != nil {
		return nil, err
	}
	rows := make([]history.AccountEntry, len(list))
	for i, l := range list {
		rows[i] = history.AccountEntry{Container: l.Name, Objects: l.Count, Bytes: l.Bytes}
	}
	return rows, nil
}
