// Package report is the answer to a request that does many things at once: how
// each came out, as text, JSON or XML, in the forms that Swift's clients know.
//
// Such work takes long. While it goes on a client can be sent white space to keep
// its connection alive (Heartbeat): the status of the answer is out before the
// work is done, and what came of it is in the report.
package report

import (
	"encoding/json"
	"fmt"
	"maps"
	"net/http"
	"slices"
	"strconv"
	"strings"

	"martlet/internal/httpapi"
	"martlet/internal/listing"
)

// Failure is something that did not work out, and why.
type Failure struct{ Name, Why string }

// Report is what came of the work. Values of Fields are strings and integers.
type Report struct {
	Root     string // of the XML document
	Fields   map[string]any
	Failures []Failure
}

// Status is a status as reports have it: "201 Created".
func Status(code int) string { return strconv.Itoa(code) + " " + httpapi.Reason(code) }

// Text writes the report as a content type.
func (r *Report) Text(contentType string) string {
	switch {
	case contentType == "application/json":
		return r.json()
	case strings.HasSuffix(contentType, "/xml"):
		return r.xml()
	}
	var b strings.Builder
	for _, k := range slices.Sorted(maps.Keys(r.Fields)) {
		fmt.Fprintf(&b, "%s: %v\n", k, r.Fields[k])
	}
	b.WriteString("Errors:\n")
	for _, f := range r.Failures {
		fmt.Fprintf(&b, "%s, %s\n", f.Name, f.Why)
	}
	return b.String()
}

func (r *Report) json() string {
	doc := map[string]any{}
	maps.Copy(doc, r.Fields)
	list := make([][2]string, len(r.Failures))
	for i, f := range r.Failures {
		list[i] = [2]string{f.Name, f.Why}
	}
	doc["Errors"] = list
	b, err := json.Marshal(doc)
	if err != nil {
		return http.StatusText(http.StatusInternalServerError) // only what can't be in Fields
	}
	return string(b)
}

func (r *Report) xml() string {
	var b strings.Builder
	fmt.Fprintf(&b, "<%s>\n", r.Root)
	for _, k := range slices.Sorted(maps.Keys(r.Fields)) {
		tag := strings.ToLower(strings.ReplaceAll(k, " ", "_"))
		fmt.Fprintf(&b, "<%s>%s</%s>\n", tag, escape(fmt.Sprint(r.Fields[k])), tag)
	}
	b.WriteString("<errors>\n")
	for _, f := range r.Failures {
		fmt.Fprintf(&b, "<object><name>%s</name><status>%s</status></object>\n", escape(f.Name), escape(f.Why))
	}
	fmt.Fprintf(&b, "</errors>\n</%s>\n", r.Root)
	return b.String()
}

func escape(s string) string { return string(listing.AppendXMLText(nil, s)) }
