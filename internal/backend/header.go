package backend

import (
	"iter"
	"strings"
)

// The header names that more than one package speaks. They are Swift's where
// Swift has one.
const (
	Timestamp       = "X-Timestamp"
	TransID         = "X-Trans-Id"
	PolicyIndex     = "X-Backend-Storage-Policy-Index"
	BackendStamp    = "X-Backend-Timestamp"              // the newest thing known of the name, tombstones included
	DataStamp       = "X-Backend-Data-Timestamp"         // the data's own
	TypeStamp       = "X-Backend-Content-Type-Timestamp" // that of the content type, where it is later than the data; told to who asks as a replica
	PutStamp        = "X-Put-Timestamp"
	DeleteStamp     = "X-Delete-Timestamp"
	ContentLength   = "Content-Length"
	ContentType     = "Content-Type"
	ETag            = "Etag"
	AccountHost     = "X-Account-Host"
	AccountPart     = "X-Account-Partition"
	AccountDevice   = "X-Account-Device"
	ContainerHost   = "X-Container-Host"
	ContainerPart   = "X-Container-Partition"
	ContainerDevice = "X-Container-Device"
	BackendPut      = "X-Backend-Put-Timestamp"    // of an account or a container, the latest
	BackendDelete   = "X-Backend-Delete-Timestamp" // likewise
	ObjectCount     = "X-Object-Count"
	BytesUsed       = "X-Bytes-Used"
	AllowReserved   = "X-Backend-Allow-Reserved-Names"   // has listings show what clients never see
	Elsewhere       = "X-Backend-Rows-Of-Other-Policies" // of a container's listing: policies, with commas between, besides its own, of which it has rows
	OverrideGone    = "X-Account-Override-Deleted"       // has an account that was deleted take word of its containers

	// RetryAfter on a 503 says that the server has no room for more requests just
	// now: nothing is wrong with the device.
	RetryAfter = "Retry-After"

	// NewVersion on a PUT or DELETE of an object keeps what is written as a version of
	// it, and has the object itself only say which version is current (package object).
	// Preserved is the time up to which what has no version yet may be replaced by that.
	NewVersion = "X-Backend-New-Version"
	Preserved  = "X-Backend-Preserved"
	// VersionID in an answer says which version was read or written.
	VersionID = "X-Backend-Version-Id"
	// Unversioned in the answer to a write with NewVersion is the time of data that has
	// to be kept as a version first. In a read it asks for exactly that data, and in a
	// HEAD AnyData for what is there, be it a link, wherever its version is.
	Unversioned = "X-Backend-Unversioned"
	AnyData     = "any"
	// Superseded in the answer to a write with NewVersion is the time of the data or the
	// tombstone that was there; of a link it is not told.
	Superseded = "X-Backend-Superseded"
	// VersionLink is the field of an object that says which version of it is current.
	VersionLink = "X-Object-Sysmeta-Version-Link"
	// NoVersion on a 503 says that the object has been a link for longer than a version can
	// be on its way, and that this is not here.
	NoVersion = "X-Backend-No-Version"
	// Limited on a StatusLimited says what the limit is of: a device, a method on it, or an account
	// (LimitedAccount).
	Limited        = "X-Backend-Limited"
	LimitedAccount = "account"

	// CodedWrite is the field of an object that says in which fragments its data is (Coded).
	CodedWrite = "X-Object-Sysmeta-Coded-Write"
	// FragmentIndex in a request under the index that a policy has for its fragments
	// (policy.Index.Fragments) says which fragment is meant; a GET without it asks for any
	// but those that FragmentsBut names, numbers with commas between. FragmentTime is the
	// time of the data, and FragmentWrite, in hexadecimal, the write that it has to be of.
	FragmentIndex = "X-Backend-Fragment-Index"
	FragmentsBut  = "X-Backend-Fragments-But"
	FragmentTime  = "X-Backend-Fragment-Timestamp"
	FragmentWrite = "X-Backend-Fragment-Write"
	// FragmentSuspect in a GET of a fragment on the replication network says that another node has
	// found it damaged, in a way that the disk's own checksums don't show. It is answered
	// with 202, and without a body: its device looks at it by itself.
	FragmentSuspect = "X-Backend-Fragment-Suspect"
	// Fragment is the field of a fragment that says which it is: the header of its archive
	// (package ec), in hexadecimal. FragmentsHeld in the answer to a HEAD lists those of a
	// name that are here.
	Fragment      = "X-Object-Sysmeta-Fragment"
	FragmentsHeld = "X-Backend-Fragments"

	// CommitETag and CommitCRC close a body: the MD5 in hexadecimal and the
	// CRC32C as eight hexadecimal digits of the bytes that the sender sent. They
	// stand in the header where the sender knows them in time, else in the
	// trailer. A body without them was not meant to be kept.
	CommitETag = "X-Backend-Commit-Etag"
	CommitCRC  = "X-Backend-Commit-Crc32c"

	// Announced in a PUT whose body comes in chunks, since its commit is in the trailer, is how long the body is going to
	// be, in bytes, as the sender has been told, or knows: a hint. By it a node chooses where the bytes go while they come; what is
	// kept, and whether, is for those that come to say. A node of a release before this one doesn't look at it, and a proxy of one doesn't send it.
	Announced = "X-Backend-Obj-Content-Length"
)

// StatusLimited answers a request that is more than may be in a second: nothing is wrong with the
// device.
const StatusLimited = 529

// Field is one line of a header.
type Field struct {
	Name, Value string
}

// Valid reports whether servers take such a field in a request.
func (f Field) Valid() bool {
	return f.Name != "" && all(f.Name, nameByte) && all(f.Value, valueByte) && strings.Trim(f.Value, " \t") == f.Value
}

// The sets of bytes that may stand in a field.
const (
	nameByte uint8 = 1 << iota
	valueByte
)

var byteSets = func() (t [256]uint8) {
	for i := range t {
		b := byte(i)
		if b >= ' ' && b != 0x7f || b == '\t' {
			t[b] |= valueByte
		}
		if 'a' <= b && b <= 'z' || 'A' <= b && b <= 'Z' || '0' <= b && b <= '9' || strings.IndexByte("!#$%&'*+-.^_`|~", b) >= 0 {
			t[b] |= nameByte
		}
	}
	return t
}()

func all(s string, set uint8) bool {
	for i := range len(s) {
		if byteSets[s[i]]&set == 0 {
			return false
		}
	}
	return true
}

// Header is the fields of a request or response in the order they were sent.
// Names are compared without regard to case. Being short, it is searched and not
// indexed.
type Header []Field

// Get returns the first value of a name, "" where there is none.
func (h Header) Get(name string) string {
	v, _ := h.Lookup(name)
	return v
}

// Lookup returns the first value of a name and whether there is one.
func (h Header) Lookup(name string) (string, bool) {
	for i := range h {
		if sameName(h[i].Name, name) {
			return h[i].Value, true
		}
	}
	return "", false
}

// Has reports whether the name is there, be it with an empty value.
func (h Header) Has(name string) bool {
	_, ok := h.Lookup(name)
	return ok
}

// Add appends a field.
func (h *Header) Add(name, value string) { *h = append(*h, Field{name, value}) }

// Set replaces the first field of the name, removes its others, and appends
// where there is none.
func (h *Header) Set(name, value string) {
	for i := range *h {
		if sameName((*h)[i].Name, name) {
			(*h)[i].Value = value
			rest := (*h)[i+1:]
			*h = append((*h)[:i+1], rest.without(name)...)
			return
		}
	}
	h.Add(name, value)
}

// Del removes every field of the name.
func (h *Header) Del(name string) { *h = h.without(name) }

func (h Header) without(name string) Header {
	kept := h[:0]
	for _, f := range h {
		if !sameName(f.Name, name) {
			kept = append(kept, f)
		}
	}
	return kept
}

// WithPrefix yields the fields whose names begin with prefix, each with what
// follows it.
func (h Header) WithPrefix(prefix string) iter.Seq2[string, string] {
	return func(yield func(string, string) bool) {
		for _, f := range h {
			if rest, ok := CutPrefix(f.Name, prefix); ok && !yield(rest, f.Value) {
				return
			}
		}
	}
}

// CutPrefix returns what follows prefix in a header name, without regard to
// case, and whether it began with it.
func CutPrefix(name, prefix string) (rest string, ok bool) {
	if len(name) < len(prefix) || !strings.EqualFold(name[:len(prefix)], prefix) {
		return "", false
	}
	return name[len(prefix):], true
}

func sameName(a, b string) bool { return len(a) == len(b) && (a == b || strings.EqualFold(a, b)) }
