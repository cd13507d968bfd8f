package vfs

import "maps"

const (
	sectorSize     = 512 // what a disk writes whole or not at all
	pageSize       = 4096
	sectorsPerPage = pageSize / sectorSize
)

// A page is never changed once it is part of a content, so that contents,
// versions and clones share pages.
type page [pageSize]byte

// content is the bytes of a file. What has no page reads as zeros; no page has
// anything but zeros past size.
type content struct {
	size  int64
	pages map[int64]*page // by offset / pageSize
}

func newContent() content { return content{pages: map[int64]*page{}} }

func (c *content) clone() content { return content{size: c.size, pages: maps.Clone(c.pages)} }

// read fills p from off on and returns how much of it lies within the file.
func (c *content) read(p []byte, off int64) int {
	p = p[:max(0, min(int64(len(p)), c.size-off))]
	for done := 0; done < len(p); {
		at := off + int64(done)
		part := p[done:min(len(p), done+int(pageSize-at%pageSize))]
		if from := c.pages[at/pageSize]; from != nil {
			copy(part, from[at%pageSize:])
		} else {
			clear(part)
		}
		done += len(part)
	}
	return len(p)
}

// write puts p at off and returns the pages it made, from off's page on.
func (c *content) write(p []byte, off int64) []*page {
	if len(p) == 0 {
		return nil
	}
	made := make([]*page, 0, pagesIn(off, int64(len(p))))
	c.size = max(c.size, off+int64(len(p)))
	for len(p) > 0 {
		to, skip := new(page), off%pageSize
		if from := c.pages[off/pageSize]; from != nil && (skip > 0 || len(p) < pageSize) {
			*to = *from
		}
		n := copy(to[skip:], p)
		c.pages[off/pageSize] = to
		made = append(made, to)
		p, off = p[n:], off+int64(n)
	}
	return made
}

// sectors says which sectors of a page are meant.
type sectors [sectorsPerPage]bool

// setSectors puts sectors of from, a version of page number, in place. It leaves size
// alone and may put bytes past it: the caller ends with clip.
func (c *content) setSectors(number int64, which sectors, from *page) {
	switch which {
	case sectors{}:
		return
	case sectors{true, true, true, true, true, true, true, true}:
		c.pages[number] = from // shared, as pages are
		return
	}
	to := new(page)
	if old := c.pages[number]; old != nil {
		*to = *old
	}
	for s, set := range which {
		if at := s * sectorSize; set {
			copy(to[at:at+sectorSize], from[at:])
		}
	}
	c.pages[number] = to
}

// truncate sets the size and drops what lies past it.
func (c *content) truncate(size int64) {
	shorter := size < c.size
	c.size = size
	if shorter {
		c.clip()
	}
}

// clip drops what lies past the size.
func (c *content) clip() {
	end := (c.size + pageSize - 1) / pageSize
	maps.DeleteFunc(c.pages, func(number int64, _ *page) bool { return number >= end })
	if last := c.pages[c.size/pageSize]; last != nil {
		cut := *last
		clear(cut[c.size%pageSize:])
		c.pages[c.size/pageSize] = &cut
	}
}

// pagesIn returns how many pages n > 0 bytes from off on touch.
func pagesIn(off, n int64) int64 { return (off+n-1)/pageSize - off/pageSize + 1 }
