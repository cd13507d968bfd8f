package versioning

import (
	"cmp"
	"context"
	"net/http"
	"net/url"
	"slices"

	"martlet/internal/listing"
	"martlet/internal/name"
	"martlet/proxy/chain"
)

// account answers a request for an account: what hidden containers hold is shown as held
// by those whose versions it is. Accounts that never had versions are not asked twice.
func (f *feature) account(ctx context.Context, r *chain.Request) *chain.Response {
	resp := f.next.Serve(ctx, r)
	if r.Method != http.MethodGet || resp.Rows == nil || !chain.Truth(resp.Get(account)) {
		return resp
	}
	hidden := granted(r, http.MethodGet, r.Path)
	hidden.Header[chain.AllowReserved] = []string{"true"}
	q := url.Values{}
	for _, key := range []string{"limit", "delimiter", "reverse"} {
		if v, ok := r.Param(key); ok {
			q.Set(key, v)
		}
	}
	for _, key := range []string{"prefix", "marker", "end_marker"} {
		if v, _ := r.Param(key); v != "" || key == "prefix" {
			q.Set(key, name.Path{Container: v}.Versions().Container)
		}
	}
	hidden.Query = q.Encode()
	versions := f.next.Serve(ctx, hidden)
	defer versions.Close()
	if versions.Rows == nil {
		return resp
	}
	limit := limitOf(r, f.limits.Containers)
	byName := make(map[string]listing.Container, len(versions.Rows.Containers))
	for _, v := range versions.Rows.Containers {
		if of, ok := name.VersionedContainer(v.Name); ok && !v.Subdir {
			v.Name = of
			byName[of] = v
		}
	}
	list := resp.Rows.Containers
	for i := range list {
		if v, ok := byName[list[i].Name]; ok && !list[i].Subdir {
			list[i].Bytes += v.Bytes
			delete(byName, v.Name)
		}
	}
	// What is left belongs to no container of the page: it is one of the next page, which
	// comes after the limit, or its container is gone, and only here its owner can see it.
	for _, v := range byName {
		v.Count = 0
		list = append(list, v)
	}
	reverse := r.HasFlag("reverse")
	slices.SortFunc(list, func(a, b listing.Container) int {
		if reverse {
			a, b = b, a
		}
		return cmp.Compare(a.Name, b.Name)
	})
	resp.Rows.Containers = list[:min(len(list), limit)]
	return resp
}
