package index

import (
	"slices"
	"unsafe"

	"martlet/internal/seglog"
	"martlet/internal/timestamp"
)

// memory is the table of what changed since the last checkpoint. It locks nothing: one
// that is frozen never changes again.
type memory struct {
	slots  [][]slot // all full but the last
	count  int
	index  map[rawKey]int32
	groups [1 << groupBits][]int32 // slots, by the first bits of the hash
	values []byte
	upTo   seglog.Position // of the last change
	extra  []byte          // of Config.Extra, once the table is frozen
}

const (
	slotsBits = 10
	groupBits = 12
	slotSize  = unsafe.Sizeof(slot{})
)

// slot is one key. It has no pointers, so that nobody has to look through them.
type slot struct {
	key    rawKey
	length uint8
	at     int // in values
	before Digest
	digest Digest
}

func newMemory(upTo seglog.Position) *memory {
	return &memory{index: map[rawKey]int32{}, upTo: upTo}
}

func (m *memory) slot(i int32) *slot { return &m.slots[i>>slotsBits][i&(1<<slotsBits-1)] }

// value returns the value of a slot, as long as the table does not change.
func (m *memory) value(s *slot) []byte { return m.values[s.at:][:s.length] }

// since reports whether a slot has a state of a time or later.
func (m *memory) since(s *slot, at timestamp.T) bool {
	var e Entry
	if err := e.parse(m.value(s)); err != nil || e.Kind == Absent {
		return false
	}
	return !e.Times.Data.Before(at) || !e.Times.ContentType.Before(at) || !e.Times.Meta.Before(at)
}

// get returns the value of a key, as long as the table does not change; nil if the
// table says nothing of it.
func (m *memory) get(k *rawKey) *slot {
	if m == nil {
		return nil
	}
	if i, ok := m.index[*k]; ok {
		return m.slot(i)
	}
	return nil
}

// put sets the value of a key and returns by how much its bucket changes. What it
// counted for before is told if the table does not know it.
func (m *memory) put(k *rawKey, e *Entry, before Digest) Digest {
	var room [maxValue]byte
	value := e.append(room[:0])
	s := m.get(k)
	if s == nil {
		i := int32(m.count)
		if i>>slotsBits == int32(len(m.slots)) {
			m.slots = append(m.slots, make([]slot, 0, 1<<slotsBits))
		}
		last := &m.slots[i>>slotsBits]
		*last = append(*last, slot{key: *k, before: before, digest: before})
		m.count++
		m.index[*k] = i
		group := &m.groups[k.prefix(groupBits)]
		*group = append(*group, i)
		s = m.slot(i)
	}
	if len(value) > int(s.length) {
		s.at = len(m.values)
		m.values = append(m.values, value...)
	} else {
		copy(m.values[s.at:], value)
	}
	s.length = uint8(len(value))
	old := s.digest
	s.digest = digestOf(k, e)
	return s.digest.Sub(old)
}

// in returns the slots of a span, in order.
func (m *memory) in(keys span) []*slot {
	found := m.unsorted(keys)
	slices.SortFunc(found, func(a, b *slot) int { return a.key.compare(&b.key) })
	return found
}

// unsorted returns the slots of a span.
func (m *memory) unsorted(keys span) (found []*slot) {
	m.forSpan(keys, func(s *slot) { found = append(found, s) })
	return found
}

// forSpan calls do with the slots of a span, in any order.
func (m *memory) forSpan(keys span, do func(*slot)) {
	if m == nil || m.count == 0 {
		return
	}
	first, last := uint32(0), uint32(len(m.groups)-1)
	if keys.from.policy() == keys.to.policy() {
		first, last = keys.from.prefix(groupBits), keys.to.prefix(groupBits)
	}
	for g := first; g <= last; g++ {
		for _, i := range m.groups[g] {
			if s := m.slot(i); keys.has(&s.key) {
				do(s)
			}
		}
	}
}

// everything is the span of all keys.
func everything() (s span) {
	for i := range s.to {
		s.to[i] = 0xff
	}
	return s
}

// bytes is about how much memory the table takes.
func (m *memory) bytes() int64 {
	const others = 2 * (keySize + 4 + 4) // map and groups, about
	return int64(m.count)*(int64(slotSize)+others) + int64(cap(m.values))
}

// slotsOf is a source over slots.
type slotsOf struct {
	m     *memory
	slots []*slot
}

func (s *slotsOf) next() (record, bool, error) {
	if len(s.slots) == 0 {
		return record{}, false, nil
	}
	head := s.slots[0]
	s.slots = s.slots[1:]
	return record{key: head.key, value: s.m.value(head)}, true, nil
}

// copied returns a source over slots that later changes do not reach, once it is sorted,
// for which nobody needs to wait.
func (m *memory) copied(keys span) *listOf {
	found, size := m.unsorted(keys), 0
	for _, s := range found {
		size += int(s.length)
	}
	list, values := make(listOf, len(found)), make([]byte, 0, size)
	for i, s := range found {
		start := len(values)
		values = append(values, m.value(s)...)
		list[i] = record{key: s.key, value: values[start:len(values):len(values)]}
	}
	return &list
}

func (l *listOf) sort() {
	slices.SortFunc(*l, func(a, b record) int { return a.key.compare(&b.key) })
}

// listOf is a source over a list.
type listOf []record

func (l *listOf) next() (record, bool, error) {
	if len(*l) == 0 {
		return record{}, false, nil
	}
	r := (*l)[0]
	*l = (*l)[1:]
	return r, true, nil
}
