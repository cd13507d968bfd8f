package symlink

import (
	"context"
	"strconv"
	"strings"

	"martlet/internal/listing"
	"martlet/internal/name"
	"martlet/proxy/chain"
)

// What stands in the row of a link behind the ETag. The values are encoded, or
// checked, so that none has a semicolon.
const (
	targetMark  = "; symlink_target="
	accountMark = "; symlink_target_account="
	etagMark    = "; symlink_target_etag="
	bytesMark   = "; symlink_target_bytes="
)

// list shows in the rows of links where they lead.
func (f *feature) list(ctx context.Context, r *chain.Request) *chain.Response {
	account := r.Path.Account
	resp := f.next.Serve(ctx, r)
	if resp.Rows != nil {
		for i := range resp.Rows.Objects {
			row := &resp.Rows.Objects[i]
			if len(row.Hash) > len(nothing) {
				read(row, account)
			}
		}
	}
	return resp
}

// read takes what is said of a link out of the ETag of its row. What others keep
// there stays.
func read(row *listing.Object, account string) {
	if !strings.Contains(row.Hash, targetMark) {
		return
	}
	account = name.Quote(account)
	hash, rest, _ := strings.Cut(row.Hash, "; ")
	target := ""
	for field := range strings.SplitSeq(rest, "; ") {
		key, value, _ := strings.Cut(field, "=")
		switch "; " + key + "=" {
		case targetMark:
			target = value
		case accountMark:
			account = value
		case etagMark:
			row.SymlinkETag = value
		case bytesMark:
			if n, err := strconv.ParseInt(value, 10, 64); err == nil {
				row.SymlinkBytes = n
			}
		default:
			hash += "; " + field
		}
	}
	row.Hash, row.SymlinkPath = hash, "/v1/"+account+"/"+target
}
