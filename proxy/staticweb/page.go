package staticweb

import (
	"context"
	"html"
	"net/http"
	"net/url"
	"strconv"
	"strings"

	"martlet/internal/listing"
	"martlet/internal/name"
	"martlet/proxy/chain"
)

// listed is the page that lists what is in a folder, or 404 where the site has no
// such pages, or no such folder.
func (v *visit) listed(ctx context.Context, folder string) *chain.Response {
	if !chain.Truth(v.Listings) {
		return v.failed(ctx, v.disabled(folder))
	}
	query := "delimiter=/"
	if folder != "" {
		query += "&prefix=" + url.QueryEscape(folder)
	}
	rows, resp := v.rows(ctx, query)
	if !resp.OK() {
		return v.failed(ctx, resp)
	}
	if folder != "" && len(rows) == 0 {
		return v.failed(ctx, chain.Text(http.StatusNotFound, ""))
	}
	page := chain.Plain(http.StatusOK, chain.PageType, v.page(folder, rows))
	page.Header[chain.Generator] = []string{chain.GeneratorStaticWeb}
	return page
}

// label is what a page calls the folder that it is about.
func (v *visit) label(folder string) string {
	if v.Label != "" {
		return v.Label + "/" + folder
	}
	return v.r.Client.URL.Path
}

// style is the head of a page: the container's style sheet, or else a few plain rules.
func (v *visit) style(folder, rules string) string {
	if v.CSS == "" {
		return "  <style type=\"text/css\">\n" + rules + "  </style>\n"
	}
	href := name.Quote(v.CSS)
	switch {
	case strings.HasPrefix(v.CSS, "/"), strings.HasPrefix(v.CSS, "http://"), strings.HasPrefix(v.CSS, "https://"):
		href = strings.ReplaceAll(href, "%3A", ":")
	default:
		href = strings.Repeat("../", strings.Count(folder, "/")) + href
	}
	return `  <link rel="stylesheet" type="text/css" href="` + href + "\" />\n"
}

// begin is a page up to its heading.
func (v *visit) begin(folder, rules string) string {
	title := html.EscapeString("Listing of " + v.label(folder))
	return "<!DOCTYPE html>\n<html>\n <head>\n  <title>" + title + "</title>\n" + v.style(folder, rules) + " </head>\n <body>\n"
}

const pageEnd = " </body>\n</html>\n"

// disabled is the answer where a listing would be the page, and there are none.
func (v *visit) disabled(folder string) *chain.Response {
	text := v.begin(folder, "   h1 {font-size: 1em;}\n") +
		"  <h1>No listing</h1>\n  <p>This site shows no listings. Its owner can switch them on with X-Container-Meta-Web-Listings.</p>\n"
	if v.Index != "" {
		text += "  <p>X-Container-Meta-Web-Index names <b>" + html.EscapeString(v.Index) + "</b>, which is not here.</p>\n"
	}
	return chain.Plain(http.StatusNotFound, chain.PageType, text+pageEnd)
}

// The parts of a page that lists have the ids and classes of Swift's, for style sheets.
const (
	plainRules = "   h1 {font-size: 1em;}\n   th {text-align: left;}\n   th, td {padding: 0 1em;}\n   a {text-decoration: none;}\n"
	tableBegin = "  <table id=\"listing\">\n   <tr id=\"heading\">\n    <th class=\"colname\">Name</th>\n" +
		"    <th class=\"colsize\">Size</th>\n    <th class=\"coldate\">Date</th>\n   </tr>\n"
	tableEnd = "  </table>\n"
)

// page lists folders first, and objects then.
func (v *visit) page(folder string, rows []listing.Object) string {
	prefix, query := v.shared(&v.r)
	if query != "" {
		query = "?" + html.EscapeString(query)
	}
	var b strings.Builder
	b.WriteString(v.begin(folder, plainRules))
	b.WriteString("  <h1 id=\"title\">" + html.EscapeString("Listing of "+v.label(folder)) + "</h1>\n" + tableBegin)
	if len(folder) > len(prefix) { // else the folder above is none that the client may see
		row(&b, ` id="parent" class="item"`, "../"+query, "../", "&nbsp;", "&nbsp;")
	}
	for _, subdirs := range []bool{true, false} {
		for i := range rows {
			o := &rows[i]
			rest := strings.TrimPrefix(o.Name, folder)
			switch href := "./" + strings.ReplaceAll(name.Quote(rest), ".", "%2E") + query; {
			case o.Subdir != subdirs, rest == "": // what stands for the folder itself is not in it
			case o.Subdir:
				row(&b, ` class="item subdir"`, href, rest, "&nbsp;", "&nbsp;")
			default:
				row(&b, ` class="item`+classes(o.ContentType)+`"`, href, rest, size(o.Bytes), date(o.LastModified))
			}
		}
	}
	b.WriteString(tableEnd + pageEnd)
	return b.String()
}

// row writes a row of the table. Only text is not yet what may stand in HTML.
func row(b *strings.Builder, attributes, href, text, size, date string) {
	b.WriteString("   <tr" + attributes + ">\n    <td class=\"colname\"><a href=\"" + href + "\">" + html.EscapeString(text) + "</a></td>\n" +
		"    <td class=\"colsize\">" + size + "</td>\n    <td class=\"coldate\">" + date + "</td>\n   </tr>\n")
}

// classes are those of an object, for style sheets: " type-text type-plain".
func classes(contentType string) string {
	var b strings.Builder
	for part := range strings.SplitSeq(strings.ToLower(contentType), "/") {
		b.WriteString(" type-" + html.EscapeString(part))
	}
	return b.String()
}

// size is a number of bytes for people: "1023", "4Ki", "2Gi".
func size(n int64) string {
	const units = "KMGTPE"
	unit := -1
	for ; n >= 1024 && unit < len(units)-1; unit++ {
		n = n/1024 + n%1024/512
	}
	if unit < 0 {
		return strconv.FormatInt(n, 10)
	}
	return strconv.FormatInt(n, 10) + units[unit:unit+1] + "i"
}

// date is a time of a listing for people, to the second.
func date(t string) string {
	t, _, _ = strings.Cut(t, ".")
	return html.EscapeString(strings.Replace(t, "T", " ", 1))
}
