package model

import (
	"fmt"
	"strings"
	"time"

	"martlet/cmd/internal/check/history"
)

// said names an operation: "PUT 12 of a/b (client 3, 1.20 s to 1.21 s)".
func (b *book) said(o *history.Op) string {
	where := o.Name().String()
	if o.Kind == history.List {
		where = o.Container
	}
	return fmt.Sprintf("%s %d of %s (client %d, %s to %s)", strings.ToUpper(o.Kind.String()), o.ID, where, o.Client, seconds(o.Start), seconds(o.End))
}

// did says that a write was acknowledged.
func (b *book) did(o *history.Op) string { return b.said(o) + " was acknowledged" }

// seconds is a time of a history.
func seconds(t time.Duration) string { return fmt.Sprintf("%.3f s", t.Seconds()) }

// body names bytes.
func body(s history.State) string {
	if s.Size == 0 {
		return "no bytes"
	}
	if s.Body == 0 {
		return fmt.Sprintf("%d bytes", s.Size)
	}
	return fmt.Sprintf("the %d bytes of write %d", s.Size, s.Body)
}

// state names a state.
func state(s history.State) string {
	if s.Missing {
		return "nothing"
	}
	return fmt.Sprintf("data of write %d (%s) with metadata of %d", s.Data, body(s), s.Mark)
}
