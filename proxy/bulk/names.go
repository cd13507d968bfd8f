package bulk

import (
	"bufio"
	"bytes"
	"errors"
	"io"
	"iter"
	"net/http"
	"strings"
	"unicode/utf8"

	"martlet/internal/errs"
	"martlet/internal/name"
	"martlet/proxy/chain"
	"martlet/proxy/report"
)

// names is what is to be deleted.
type names []Target

// objects hands out the objects of a list.
func (l names) objects() iter.Seq[Target] { return l.of(true) }

// containers hands out the containers. They come after the objects: those may be
// in them.
func (l names) containers() iter.Seq[Target] { return l.of(false) }

func (l names) of(objects bool) iter.Seq[Target] {
	return func(yield func(Target) bool) {
		for _, t := range l {
			if (t.Path.Object != "") == objects && !yield(t) {
				return
			}
		}
	}
}

// read reads the list of a request: a name on each line, percent-encoded. What it
// keeps is at most MaxDeletes names of maxPath bytes. A list that is too long, and
// one with a line that is no name, is refused as a whole.
func (f *feature) read(r *chain.Request) (names, error) {
	if r.Body == nil {
		return nil, nil
	}
	var list names
	in := bufio.NewReaderSize(r.Body, max(16, 3*f.maxPath+2)) // every byte of a name may be encoded
	for n := 1; ; n++ {
		line, err := in.ReadSlice('\n')
		end := err == io.EOF
		switch {
		case errors.Is(err, bufio.ErrBufferFull):
			return nil, errs.Refuse(errs.Invalid, "Invalid File Name")
		case err != nil && !end:
			return nil, err
		case n > f.cfg.MaxDeletes && len(line) > 0:
			return nil, errs.Refuse(errs.TooLarge, "Maximum Bulk Deletes: %d per request", f.cfg.MaxDeletes)
		}
		if text := bytes.TrimSpace(line); len(text) > 0 {
			list = append(list, f.target(r.Path.Account, string(text)))
		}
		if end {
			return list, nil
		}
	}
}

var (
	errNoText  = errors.New(report.Status(http.StatusPreconditionFailed)) // for the client
	errNoName  = errors.New(report.Status(http.StatusMethodNotAllowed))   // for the client
	errTooLong = errors.New(report.Status(http.StatusBadRequest))         // for the client
)

// target reads one name. One that can't be anything's says why.
func (f *feature) target(account, text string) Target {
	decoded, err := name.Unquote(text)
	if err != nil {
		decoded = text // an object may have a percent sign in its name
	}
	t := Target{Name: decoded}
	switch path := strings.TrimLeft(decoded, "/"); {
	case len(path)+1 > f.maxPath:
		t.Name, t.Err = strings.Clone(decoded[:f.maxPath]), errTooLong
	case !utf8.ValidString(decoded) || strings.Contains(decoded, name.Reserved):
		t.Err = errNoText
	case path == "":
		t.Err = errNoName // the account is not among what is deleted
	default:
		t.Path.Account = account
		t.Path.Container, t.Path.Object, _ = strings.Cut(path, "/")
	}
	return t
}
