package node

import (
	"bytes"
	"context"
	"encoding/hex"
	"fmt"
	"io"
	"strconv"
	"strings"
	"testing"

	"martlet/internal/backend"
	"martlet/internal/direct"
	"martlet/internal/ec"
	"martlet/internal/ecread"
	"martlet/internal/name"
	"martlet/internal/policy"
	"martlet/internal/quorum"
	"martlet/internal/quorum/nodetest"
	"martlet/ring"
)

// What is brought to another cluster of an erasure-coded object is its bytes, and nothing that says in
// which fragments they are here.
func TestSyncOfACodedObject(t *testing.T) {
	const stamp = "1000000000.00001"
	path := name.Path{Account: "a", Container: "c", Object: "o"}
	code, err := ec.New(ec.Of(ec.Shape{Data: 2, Parity: 1}))
	if err != nil {
		t.Fatal(err)
	}
	want := bytes.Repeat([]byte("0123456789"), 150_000)
	w := ec.Write{ID: ec.NewWriteID(), Size: int64(len(want))}
	archives := make([][]byte, 3)
	e, err := code.Encode(w, func(next [][]byte) error {
		for i, a := range next {
			archives[i] = append(archives[i], a...)
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := e.Write(want); err != nil {
		t.Fatal(err)
	}
	if err := e.Close(); err != nil {
		t.Fatal(err)
	}
	commit := backend.Coded{Data: 2, Parity: 1, Segment: code.Segment, Write: w.ID, Size: w.Size, Sized: true, ETag: strings.Repeat("0", 32)}

	fleet := nodetest.New(t, path)
	for i := range nodetest.Nodes {
		fleet.Script(fmt.Sprint("d", i), func(_ context.Context, r *backend.Request) (*backend.Response, error) {
			resp := nodetest.Status(200, stamp)
			if r.Header.Get(backend.PolicyIndex) == "1" {
				resp.Header.Add(backend.DataStamp, stamp)
				resp.Header.Add(backend.CodedWrite, commit.String())
				return resp, nil
			}
			if i == 0 || r.Header.Get(backend.FragmentIndex) != strconv.Itoa(i) { // the first is lost
				return nodetest.Status(404, ""), nil
			}
			var from, to int
			if _, err := fmt.Sscanf(r.Header.Get("Range"), "bytes=%d-%d", &from, &to); err != nil {
				return nil, err
			}
			h := ec.Header{Layout: code.Layout, Write: w, Index: i}
			resp.Status = 206
			resp.Header.Add(backend.Fragment, hex.EncodeToString(h.Append(nil)))
			resp.Header.Add("Content-Range", fmt.Sprintf("bytes %d-%d/%d", from, to, len(archives[i])))
			resp.Length, resp.Body = int64(to+1-from), io.NopCloser(bytes.NewReader(archives[i][from:to+1]))
			return resp, nil
		})
	}
	client := direct.New(direct.Config{})
	defer client.Close()
	cluster := quorum.New(quorum.Config{}, quorum.Rings{Objects: map[policy.Index]*ring.Source{1: fleet.Ring, policy.Index(1).Fragments(): fleet.Ring}}, fleet.Hasher, client)
	defer cluster.Wait()
	objects := syncObjects{cluster, ecread.New(cluster, ecread.NewCodes())}
	got, err := objects.Open(t.Context(), 1, path)
	if err != nil {
		t.Fatal(err)
	}
	defer got.Body.Close()
	data, err := io.ReadAll(got.Body)
	if err != nil || !bytes.Equal(data, want) || got.Length != w.Size || got.Header.Has(backend.CodedWrite) {
		t.Errorf("%d bytes, %v, length %d, header %v", len(data), err, got.Length, got.Header)
	}
	fleet.Script("d1", nodetest.Always(404, "")) // there are too few
	if _, err := objects.Open(t.Context(), 1, path); err == nil {
		t.Error("one fragment is not enough")
	}
}
