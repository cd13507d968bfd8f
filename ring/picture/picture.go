// Package picture draws rings as SVG: how full devices are against what they should
// hold, and who gives to whom when a ring changes.
//
// A picture is one file that needs nothing beside it, for light and dark pages. It
// tells things by size first and by colour second, and has the numbers as titles that
// show under a pointer. Whatever a ring says is text in it and never markup. It is
// bounded: of more devices than can be seen, nodes or zones are drawn, and it says so.
package picture

import (
	"encoding/xml"
	"fmt"
	"io"
	"strconv"
	"strings"
	"unicode/utf8"
)

// width of a picture, and the margin in it.
const (
	width  = 1200.0
	margin = 28.0
)

const styles = `
text{font:12px system-ui,-apple-system,"Segoe UI",Roboto,"DejaVu Sans",sans-serif;fill:#39424e}
.title{font-size:17px;font-weight:600;fill:#1d242c}.small{font-size:10.5px;fill:#6b7684}.name{font-weight:600}
.page{fill:#fff}.region{fill:#f3f5f8}.zone{fill:#fff;stroke:#d8dee6}.track{fill:#e4e9f0}.held{fill:#4a86c8}
.over{fill:#e2963b}.gone{fill:#a4adb8}.wish{stroke:#1d242c;stroke-width:1.6}.base{stroke:#b9c2cd}
.give{fill:#e2963b}.take{fill:#4a86c8}.flow{fill-opacity:.34}.flow:hover{fill-opacity:.75}
@media (prefers-color-scheme:dark){
text{fill:#c3ccd6}.title{fill:#eef2f6}.small{fill:#8e99a6}.page{fill:#14181d}.region{fill:#1b2027}.zone{fill:#20262e;stroke:#343d48}
.track{fill:#333c47}.wish{stroke:#eef2f6}.base{stroke:#4b5663}.gone{fill:#6b7684}.flow{fill-opacity:.5}}
`

// canvas is a picture that is being drawn, downwards.
type canvas struct {
	body strings.Builder
	high float64
}

// n writes a coordinate.
func n(v float64) string {
	text := strconv.FormatFloat(v, 'f', 2, 64)
	return strings.TrimRight(strings.TrimRight(text, "0"), ".")
}

// escape makes text of what may be anything.
func escape(text string) string {
	var b strings.Builder
	_ = xml.EscapeText(&b, []byte(text)) // a Builder takes everything
	return b.String()
}

// box draws a rectangle, with a title that shows under the pointer.
func (c *canvas) box(class string, x, y, w, h, round float64, title string) {
	fmt.Fprintf(&c.body, `<rect class="%s" x="%s" y="%s" width="%s" height="%s"`, class, n(x), n(y), n(max(0, w)), n(max(0, h)))
	if round > 0 {
		fmt.Fprintf(&c.body, ` rx="%s"`, n(round))
	}
	if title == "" {
		c.body.WriteString("/>\n")
		return
	}
	fmt.Fprintf(&c.body, "><title>%s</title></rect>\n", escape(title))
}

func (c *canvas) line(class string, x1, y1, x2, y2 float64) {
	fmt.Fprintf(&c.body, `<line class="%s" x1="%s" y1="%s" x2="%s" y2="%s"/>`+"\n", class, n(x1), n(y1), n(x2), n(y2))
}

// text writes text at a baseline; anchor is start, middle or end.
func (c *canvas) text(class, anchor string, x, y float64, text string) {
	fmt.Fprintf(&c.body, `<text class="%s" text-anchor="%s" x="%s" y="%s">%s</text>`+"\n", class, anchor, n(x), n(y), escape(text))
}

// write ends the picture.
func (c *canvas) write(w io.Writer, title string) error {
	_, err := fmt.Fprintf(w, `<svg xmlns="http://www.w3.org/2000/svg" width="%[1]s" height="%[2]s" viewBox="0 0 %[1]s %[2]s" role="img">
<title>%[3]s</title>
<style>%[4]s</style>
<rect class="page" width="%[1]s" height="%[2]s"/>
%[5]s</svg>
`, n(width), n(c.high), escape(title), styles, c.body.String())
	return err
}

// wide is about how much room text takes.
func wide(text string, size float64) float64 {
	return float64(utf8.RuneCountInString(text)) * size * 0.58
}

// cut shortens text to the room there is.
func cut(text string, room, size float64) string {
	most := max(1, int(room/(size*0.58)))
	if utf8.RuneCountInString(text) <= most {
		return text
	}
	runes := []rune(text)
	return string(runes[:most-1]) + "…"
}

// count writes a whole number with its thousands apart.
func count(n int) string {
	text := strconv.Itoa(n)
	for i := len(text) - 3; i > 0 && text[i-1] != '-'; i -= 3 {
		text = text[:i] + "," + text[i:]
	}
	return text
}
