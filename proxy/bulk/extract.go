package bulk

import (
	"archive/tar"
	"bufio"
	"compress/bzip2"
	"compress/gzip"
	"context"
	"errors"
	"io"
	"maps"
	"net/http"
	"strconv"
	"strings"
	"unicode/utf8"

	"martlet/internal/errs"
	"martlet/internal/httpapi"
	"martlet/internal/name"
	"martlet/proxy/chain"
	"martlet/proxy/report"
)

// formats are the archives that can be read, by what a request calls them. Each
// reads what it needs of its source and no more.
var formats = map[string]func(io.Reader) (io.Reader, error){
	"tar":     func(r io.Reader) (io.Reader, error) { return r, nil },
	"tar.gz":  func(r io.Reader) (io.Reader, error) { return gzip.NewReader(r) },
	"tar.bz2": func(r io.Reader) (io.Reader, error) { return bzip2.NewReader(r), nil },
}

// archiveBuffer is how much of an archive is read ahead, in bytes.
const archiveBuffer = 64 << 10

// extract answers a request whose body is an archive. Objects are stored one after
// the other, as the archive comes in: nothing of it is kept. White space goes out
// meanwhile, so the answer begins before the request has ended.
func (f *feature) extract(ctx context.Context, r *chain.Request, format string) *chain.Response {
	open := formats[strings.ToLower(strings.Trim(format, "."))]
	if open == nil {
		return chain.Text(http.StatusBadRequest, "Unsupported archive format")
	}
	resp, contentType, err := begin(r)
	if err != nil {
		return refuse(ctx, resp, "extract", contentType, err, counts{filesCreated: 0})
	}
	body := r.Body
	if body == nil {
		body = strings.NewReader("")
	}
	source := &watched{from: body}
	in := bufio.NewReaderSize(source, archiveBuffer)
	_, _ = in.Peek(1) // a client may wait to be asked for the body; what fails here fails again
	resp.Duplex = true
	resp.Body = report.Heartbeat(ctx, f.cfg.Heartbeat.D(), report.Beat{First: report.First(contentType)}, func(ctx context.Context) string {
		x := &extraction{f: f, r: r, source: source, worst: http.StatusBadRequest, known: map[string]bool{}}
		x.base = strings.TrimRight(r.Path.Container+"/"+r.Path.Object, "/")
		return x.run(ctx, in, open).Text(contentType)
	})
	return resp
}

// watched remembers why its source failed.
type watched struct {
	from io.Reader
	err  error
}

func (w *watched) Read(p []byte) (int, error) {
	n, err := w.from.Read(p)
	if err != nil && err != io.EOF {
		w.err = err
	}
	return n, err
}

const filesCreated = "Number Files Created"

// extraction is one archive that is being stored.
type extraction struct {
	f      *feature
	r      *chain.Request
	source *watched
	base   string // in front of every name: "container" or "container/prefix", or nothing

	known    map[string]bool // containers that were looked at
	made     int             // containers
	stored   int             // objects
	worst    int             // status of the failures
	failures []report.Failure

	// What ended it before its end; no status is nothing.
	status int
	why    string
}

// end ends it.
func (x *extraction) end(status int, why string) { x.status, x.why = status, why }

func (x *extraction) failed(text, why string) {
	x.failures = append(x.failures, report.Failure{Name: name.Quote(text[:min(len(text), x.f.maxPath)]), Why: why})
}

// run stores what is in an archive, and reports.
func (x *extraction) run(ctx context.Context, in io.Reader, open func(io.Reader) (io.Reader, error)) *report.Report {
	x.files(ctx, in, open)
	n := counts{filesCreated: x.stored}
	switch {
	case x.status != 0:
		return reportOf("extract", x.status, x.why, n, x.failures)
	case len(x.failures) > 0:
		return reportOf("extract", x.worst, "", n, x.failures)
	case x.stored == 0:
		return reportOf("extract", http.StatusBadRequest, "Invalid Tar File: No Valid Files", n, nil)
	}
	return reportOf("extract", http.StatusCreated, "", n, nil)
}

func (x *extraction) files(ctx context.Context, in io.Reader, open func(io.Reader) (io.Reader, error)) {
	plain, err := open(in)
	if err != nil {
		x.broken(err)
		return
	}
	archive := tar.NewReader(plain)
	for x.status == 0 && len(x.failures) < x.f.cfg.MaxFailedExtractions && ctx.Err() == nil {
		h, err := archive.Next()
		if err == io.EOF {
			return
		}
		if err != nil {
			x.broken(err)
			return
		}
		if h.Typeflag == tar.TypeReg || h.Typeflag == tar.TypeCont || h.Typeflag == tar.TypeGNUSparse {
			x.file(ctx, h, archive)
		}
	}
}

// broken ends it at what is no archive, or no longer one, or at a request that
// breaks off.
func (x *extraction) broken(err error) {
	if x.source.err != nil {
		x.end(httpapi.Status(x.source.err), errs.PublicOf(x.source.err))
		return
	}
	x.end(http.StatusBadRequest, "Invalid Tar File: "+strings.TrimPrefix(err.Error(), "archive/tar: "))
}

// file stores one file. What is in no container is left out.
func (x *extraction) file(ctx context.Context, h *tar.Header, data io.Reader) {
	text := strings.TrimLeft(strings.TrimPrefix(h.Name, "./"), "/")
	if x.base != "" {
		text = x.base + "/" + text
	}
	p := name.Path{Account: x.r.Path.Account}
	p.Container, p.Object, _ = strings.Cut(text, "/")
	switch {
	case p.Object == "":
		return
	case !utf8.ValidString(text) || strings.Contains(text, name.Reserved):
		x.failed(text, report.Status(http.StatusPreconditionFailed))
		return
	}
	header, ok := x.header(h)
	if !ok {
		x.failed(text, report.Status(http.StatusBadRequest))
		return
	}
	noContainer := x.needContainer(ctx, p.Parent())
	if x.status != 0 {
		return
	}
	x.put(ctx, p, text, header, h.Size, data, noContainer)
}

// put stores an object. That there is no container for it is told if the object
// can't be stored: its sender may be allowed that, and not to look at the container.
func (x *extraction) put(ctx context.Context, p name.Path, text string, header http.Header, size int64, data io.Reader, noContainer *report.Failure) {
	sub := x.r.Sub(http.MethodPut, p)
	maps.Copy(sub.Header, header)
	content := &file{from: data}
	sub.Length, sub.Body = size, content
	resp := x.f.next.Serve(ctx, sub)
	resp.Close()
	x.remember(p.Container)
	if resp.OK() {
		x.stored++
		return
	}
	if noContainer != nil {
		x.failures = append(x.failures, *noContainer)
	}
	x.failed(text, report.Status(resp.Status))
	switch {
	case content.err != nil:
		x.broken(content.err)
	case resp.Status == http.StatusUnauthorized:
		x.end(http.StatusUnauthorized, "")
	case resp.Status >= 500:
		x.worst = http.StatusBadGateway
	}
}

// remember notes that a container was looked at. It forgets all where they are
// many: to look again costs little.
func (x *extraction) remember(container string) {
	if len(x.known) > x.f.cfg.MaxContainers {
		clear(x.known)
	}
	x.known[container] = true
}

// needContainer makes a container where there is none, and returns why it could
// not. It ends the extraction where the sender is nobody, or too many were made.
func (x *extraction) needContainer(ctx context.Context, p name.Path) *report.Failure {
	if x.known[p.Container] {
		return nil
	}
	ask := func(method string) int {
		resp := x.f.next.Serve(ctx, x.r.Sub(method, p))
		resp.Close()
		return resp.Status
	}
	status := ask(http.MethodHead)
	if status == http.StatusNotFound {
		if x.made == x.f.cfg.MaxContainers {
			x.end(http.StatusBadRequest, "More than "+strconv.Itoa(x.f.cfg.MaxContainers)+" containers to create from tar.")
			return nil
		}
		if status = ask(http.MethodPut); status/100 == 2 {
			x.made++
		}
	}
	switch {
	case status/100 == 2:
		return nil
	case status == http.StatusUnauthorized:
		x.end(status, "")
		return nil
	}
	path := "/v1" + string(p.AppendQuoted(nil))
	return &report.Failure{Name: path[:min(len(path), 3*x.f.maxPath)], Why: report.Status(status)}
}

// header is what an object is stored with: what the request says for all of them,
// and what the archive says of this one. It is false where that can't be a header.
func (x *extraction) header(h *tar.Header) (http.Header, bool) {
	to := http.Header{}
	for n, v := range x.r.Header {
		if n == "X-Delete-At" || n == "X-Delete-After" || strings.HasPrefix(n, metaPrefix) {
			to[n] = v
		}
	}
	for key, value := range h.PAXRecords {
		n := headerOf(key)
		if n == "" {
			continue
		}
		if !isToken(n) || !isValue(value) {
			return nil, false
		}
		to[http.CanonicalHeaderKey(n)] = []string{strings.Trim(value, " \t")}
	}
	return to, true
}

const metaPrefix = "X-Object-Meta-"

// headerOf is the header field for an extended attribute of a file, as GNU tar and
// BSD tar keep it; "" is none.
func headerOf(key string) string {
	attribute, ok := strings.CutPrefix(key, "SCHILY.xattr.")
	if !ok {
		if attribute, ok = strings.CutPrefix(key, "LIBARCHIVE.xattr."); !ok {
			return ""
		}
	}
	if attribute == "user.mime_type" {
		return "Content-Type"
	}
	if meta, ok := strings.CutPrefix(attribute, "user.meta."); ok {
		return metaPrefix + meta
	}
	return ""
}

// isToken reports whether a text can be the name of a header field.
func isToken(s string) bool {
	for i := range len(s) {
		c := s[i]
		letter := 'a' <= c|0x20 && c|0x20 <= 'z' || '0' <= c && c <= '9'
		if !letter && strings.IndexByte("!#$%&'*+-.^_`|~", c) < 0 {
			return false
		}
	}
	return s != ""
}

// isValue reports whether a text can be the value of one.
func isValue(s string) bool {
	for i := range len(s) {
		if c := s[i]; c < ' ' && c != '\t' || c == 0x7f {
			return false
		}
	}
	return true
}

// file is the data of one file. It ends with an error where the archive does, so
// that a part of a file never looks like the whole.
type file struct {
	from io.Reader
	err  error
}

func (f *file) Read(p []byte) (int, error) {
	n, err := f.from.Read(p)
	if err != nil && err != io.EOF {
		f.err = err
		return n, errs.E(errs.Op("bulk.extract"), errs.Aborted, errors.New("the archive breaks off"), err)
	}
	return n, err
}
