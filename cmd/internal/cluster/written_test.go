//go:build !race

package cluster

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"crypto/md5" // the ETag of the API
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"martlet/ring/builder"
)

// unpack puts an archive into a folder.
func unpack(t *testing.T, file, dir string) {
	t.Helper()
	f, err := os.Open(file)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	z, err := gzip.NewReader(f)
	if err != nil {
		t.Fatal(err)
	}
	for in := tar.NewReader(z); ; {
		h, err := in.Next()
		if errors.Is(err, io.EOF) {
			return
		}
		if err != nil {
			t.Fatal(err)
		}
		path := filepath.Join(dir, filepath.FromSlash(h.Name))
		if h.FileInfo().IsDir() {
			err = os.MkdirAll(path, 0o750)
		} else {
			var content []byte
			if content, err = io.ReadAll(in); err == nil {
				err = os.WriteFile(path, content, 0o600)
			}
		}
		if err != nil {
			t.Fatal(err)
		}
	}
}

// moveTo gives a cluster of one network the addresses of another one, so that tests don't meet.
func moveTo(t *testing.T, dir, from, to string) {
	t.Helper()
	configs, err := filepath.Glob(filepath.Join(dir, etcDir, "*.toml"))
	if err != nil || len(configs) != 3 {
		t.Fatal(configs, err)
	}
	for _, path := range configs {
		text, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		text = bytes.ReplaceAll(text, []byte(from+".0.1:8080"), []byte(to+".0.1:0"))
		if err := os.WriteFile(path, bytes.ReplaceAll(text, []byte(from), []byte(to)), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	builders, err := filepath.Glob(filepath.Join(dir, etcDir, ringsDir, "*.builder"))
	if err != nil || len(builders) != 4 {
		t.Fatal(builders, err)
	}
	for _, path := range builders {
		b, err := builder.Open(path)
		if err != nil {
			t.Fatal(err)
		}
		for d := range b.Devices() {
			d.IP, d.ReplicationIP = strings.Replace(d.IP, from, to, 1), strings.Replace(d.ReplicationIP, from, to, 1)
			if err := b.Set(d); err != nil {
				t.Fatal(err)
			}
		}
		r, err := b.Ring()
		if err == nil {
			err = errors.Join(b.SaveWithRing(r, strings.TrimSuffix(path, ".builder")+".ring.gz"), b.Close())
		}
		if err != nil {
			t.Fatal(err)
		}
	}
}

// written is what test/written.sh writes: the bodies by name.
func written() map[string]string {
	body := func(text string, size int) string { return strings.Repeat(text+"\n", size/len(text)+1)[:size] }
	all := map[string]string{
		"plain/segment": body("segment", 2000), "plain/manifest": body("segment", 2000) + body("small", 10), "versions/o": body("two", 2000),
	}
	for _, container := range []string{"plain", "coded"} {
		all[container+"/empty"] = ""
		all[container+"/small"] = body("small", 10)
		all[container+"/middle"] = body("middle", 100_000)
		all[container+"/large"] = body("large", 1_100_000)
		all[container+"/overwritten"] = body("second", 70_000)
		all[container+"/posted"] = body("posted", 30_000)
		all[container+"/late"] = body("late", 40_000)
		all[container+"/expires"] = body("ends", 5000)
	}
	return all
}

// isWritten checks that all of it is there, from every side that clients have.
func (p *probe) isWritten(many int) {
	p.t.Helper()
	for object, body := range written() {
		var h http.Header
		if body != "" {
			h = p.holds(object, body)
		} else if _, h = p.get(p.url+"/"+object, 200); h.Get("Content-Length") != "0" {
			p.t.Errorf("%s: %v", object, h)
		}
		if etag := strings.Trim(h.Get("Etag"), `"`); object != "plain/manifest" && etag != fmt.Sprintf("%x", md5.Sum([]byte(body))) {
			p.t.Errorf("%s has the ETag %s", object, etag)
		}
		kind, colour, ends := "text/plain", "", ""
		switch {
		case strings.HasSuffix(object, "/posted"):
			kind, colour = "text/html", "red"
		case strings.HasSuffix(object, "/expires"):
			ends = "4102444800"
		case object == "plain/manifest":
			kind = h.Get("Content-Type") // curl has chosen it
		}
		if h.Get("Content-Type") != kind || h.Get("X-Object-Meta-Colour") != colour || h.Get("X-Delete-At") != ends {
			p.t.Errorf("%s: %v", object, h)
		}
	}
	for _, container := range []string{"plain", "coded"} {
		p.want("GET", p.url+"/"+container+"/deleted", nil, "", 404)
	}
	_, h := p.get(p.url, 200)
	if h.Get("X-Account-Meta-Colour") != "blue" {
		p.t.Errorf("the account: %v", h)
	}
	if _, h := p.get(p.url+"/plain", 200); h.Get("X-Container-Meta-Colour") != "green" {
		p.t.Errorf("the container: %v", h)
	}
	var versions []struct {
		Bytes   int    `json:"bytes"`
		Latest  bool   `json:"is_latest"`
		Version string `json:"version_id"`
	}
	p.decode(p.url+"/versions?versions=true&format=json", &versions)
	if len(versions) != 2 || versions[0].Bytes != 2000 || !versions[0].Latest || versions[1].Bytes != 1000 {
		p.t.Fatalf("versions %+v", versions)
	}
	if got, _ := p.get(p.url+"/versions/o?version-id="+versions[1].Version, 200); got != strings.Repeat("one\n", 250) {
		p.t.Errorf("the first version is %d bytes", len(got))
	}
	for container, want := range map[string]struct{ first, last string }{
		"plain": {"empty", "small"}, "coded": {"empty", "small"},
		"many": {"row-0001-of-a-container-that-has-outgrown-what-it-shared-with-others", fmt.Sprintf("row-%04d-of-a-container-that-has-outgrown-what-it-shared-with-others", many)},
	} {
		var rows []struct {
			Name  string `json:"name"`
			Bytes int64  `json:"bytes"`
			Hash  string `json:"hash"`
		}
		p.decode(p.url+"/"+container+"?format=json", &rows)
		n := 0
		for _, row := range rows {
			body, ok := written()[container+"/"+row.Name]
			if container == "many" {
				ok = true
			}
			if row.Name != "manifest" && (!ok || row.Bytes != int64(len(body)) || row.Hash != fmt.Sprintf("%x", md5.Sum([]byte(body)))) {
				p.t.Errorf("%s lists %+v", container, row)
			}
			n++
		}
		all := many
		if container != "many" {
			all = 0
			for object := range written() {
				if strings.HasPrefix(object, container+"/") {
					all++
				}
			}
		}
		_, h := p.get(p.url+"/"+container, 200)
		if n != all || h.Get("X-Container-Object-Count") != fmt.Sprint(all) || rows[0].Name != want.first || rows[n-1].Name != want.last {
			p.t.Errorf("%s lists %d objects from %s to %s and counts %s, want %d from %s to %s",
				container, n, rows[0].Name, rows[n-1].Name, h.Get("X-Container-Object-Count"), all, want.first, want.last)
		}
	}
}

// A cluster that the release before has written, and was killed in, is one of this version's: all is there, replicas agree, and it is
// written to, restarted and read.
func TestWrittenBefore(t *testing.T) {
	files, err := filepath.Glob("testdata/written-*.tar.gz")
	if err != nil || len(files) == 0 {
		t.Fatal(files, err)
	}
	for _, file := range files {
		t.Run(filepath.Base(file), func(t *testing.T) {
			dir := t.TempDir()
			unpack(t, file, dir)
			if err := os.MkdirAll(filepath.Join(dir, logDir), 0o750); err != nil {
				t.Fatal(err)
			}
			moveTo(t, dir, "127.93", freeNetwork(t))
			f, err := Open(dir)
			if err != nil {
				t.Fatal(err)
			}
			p := probeOf(t, f, 20*time.Second)
			p.isWritten(159)
			p.pass(true)
			p.still()
			if d, lacking := p.durability(); !d.Whole() || d.Objects == 0 {
				t.Errorf("%+v, lacking %+v", d, lacking)
			}
			if d := p.databases(); !d.Whole() || d.Databases == 0 {
				t.Errorf("%+v", d)
			}
			const row = "/many/row-0160-of-a-container-that-has-outgrown-what-it-shared-with-others"
			p.want("PUT", p.url+row, nil, "", 201)
			for _, container := range []string{"plain", "coded"} {
				o := p.url + "/" + container + "/"
				p.want("PUT", o+"deleted", nil, "it is back", 201)
				p.want("DELETE", o+"deleted", nil, "", 204)
				p.want("PUT", o+"late", map[string]string{"Content-Type": "text/html"}, "something else", 201)
				p.want("COPY", o+"overwritten", map[string]string{"Destination": container + "/copy"}, "", 201)
				p.want("PUT", o+"late", map[string]string{"Content-Type": "text/plain"}, written()[container+"/late"], 201)
				p.holds(container+"/copy", written()[container+"/overwritten"])
				p.want("DELETE", o+"copy", nil, "", 204)
			}
			p.stop(1)
			p.start(1)
			p.isWritten(160)
			p.pass(true)
		})
	}
}
