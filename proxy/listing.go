package proxy

import (
	"bytes"
	"io"
	"net/http"
	"strconv"
	"strings"

	"martlet/internal/backend"
	"martlet/internal/errs"
	"martlet/internal/listing"
)

// form is how a listing is written for a client.
type form uint8

const (
	formText form = iota
	formJSON
	formXML                   // application/xml
	formTextXML               // the same, as text/xml
	maxListing     = 64 << 20 // bytes of a listing that a node may send
	charsetSuffix  = "; charset=utf-8"
	acceptTooLarge = 8 << 10 // bytes of Accept that are looked at
)

// types are the content types of the forms, in the order in which they are
// preferred where the client likes several as much.
var types = [...]string{formText: "text/plain", formJSON: "application/json", formXML: "application/xml", formTextXML: "text/xml"}

func (f form) contentType() string { return types[f] + charsetSuffix }

// formOf finds the form that a client wants: by the format parameter where it
// names one, else by its Accept header. None that it accepts is of kind
// errs.NotAcceptable.
func formOf(r *http.Request) (form, error) {
	switch strings.ToLower(r.URL.Query().Get("format")) {
	case "json":
		return formJSON, nil
	case "xml":
		return formXML, nil
	case "plain":
		return formText, nil
	}
	accept := strings.Join(r.Header["Accept"], ",")
	if strings.TrimSpace(accept) == "" {
		return formText, nil
	}
	if len(accept) > acceptTooLarge {
		return 0, errs.Refuse(errs.Invalid, "Accept header is longer than %d bytes", acceptTooLarge)
	}
	best, found := -1.0, formText
	for f := range types {
		if q := quality(accept, types[f]); q > best && q > 0 {
			best, found = q, form(f)
		}
	}
	if best <= 0 {
		return 0, errs.E(errs.NotAcceptable)
	}
	return found, nil
}

// quality returns how much an Accept header likes a type: the q of the most
// exact range that covers it, -1 where none does. Linear in the header's length.
func quality(accept, typ string) float64 {
	q, exactness := -1.0, -1
	major, _, _ := strings.Cut(typ, "/")
	for item := range strings.SplitSeq(accept, ",") {
		name, params, _ := strings.Cut(item, ";")
		exact := -1
		switch strings.ToLower(strings.TrimSpace(name)) {
		case typ:
			exact = 2
		case major + "/*":
			exact = 1
		case "*/*":
			exact = 0
		}
		if exact > exactness {
			q, exactness = qOf(params), exact
		}
	}
	return q
}

func qOf(params string) float64 {
	for p := range strings.SplitSeq(params, ";") {
		if text, ok := strings.CutPrefix(strings.TrimSpace(p), "q="); ok {
			q, err := strconv.ParseFloat(strings.TrimSpace(text), 64)
			if err != nil || q < 0 || q > 1 {
				return 0
			}
			return q
		}
	}
	return 1
}

// listed is what a listing shows: of the containers in an account, or of the
// objects in a container.
type listed struct {
	title   string // the account's or container's name
	account bool
}

// format writes a listing that a node sent as JSON. The policy's names are added
// here: only the edge knows them.
func (s *Server) format(l listed, f form, body []byte) ([]byte, error) {
	var out bytes.Buffer
	if l.account {
		rows, err := listing.DecodeContainers(body)
		if err != nil {
			return nil, err
		}
		for i := range rows {
			if p, ok := s.policies.ByIndex(rows[i].PolicyIndex); ok && !rows[i].Subdir {
				rows[i].Policy = p.Name
			}
		}
		switch f {
		case formText:
			err = listing.WriteContainersText(&out, rows)
		case formJSON:
			err = listing.WriteContainersJSON(&out, rows)
		default:
			err = listing.WriteContainersXML(&out, l.title, rows)
		}
		return out.Bytes(), err
	}
	rows, err := listing.DecodeObjects(body)
	if err != nil {
		return nil, err
	}
	switch f {
	case formText:
		err = listing.WriteObjectsText(&out, rows)
	case formJSON:
		err = listing.WriteObjectsJSON(&out, rows)
	default:
		err = listing.WriteObjectsXML(&out, l.title, rows)
	}
	return out.Bytes(), err
}

// list answers with a listing, or with its head. A plain one that is empty is a
// 204. resp is nil for what does not exist and is shown as empty.
func (s *Server) list(rq *request, l listed, f form, resp *backend.Response) error {
	h := rq.w.Header()
	h["Content-Type"] = []string{f.contentType()}
	h["Vary"] = []string{"Accept"}
	if rq.r.Method == http.MethodHead {
		rq.send(http.StatusNoContent, "")
		return nil
	}
	body := []byte("[]")
	if resp != nil && resp.Body != nil {
		var err error
		if body, err = io.ReadAll(io.LimitReader(resp.Body, maxListing)); err != nil {
			return errs.E(errs.Op("proxy.list"), errs.Unavailable, err)
		}
	}
	text, err := s.format(l, f, body)
	if err != nil {
		return err
	}
	if len(text) == 0 {
		rq.send(http.StatusNoContent, "")
		return nil
	}
	h["Content-Length"] = []string{strconv.Itoa(len(text))}
	rq.w.WriteHeader(http.StatusOK)
	_, _ = rq.w.Write(text) // a client that left needs no answer
	return nil
}
