// Package lru remembers what was used last, and no more than so many values: what
// takes more than it is given is what clients choose.
package lru

import "container/list"

// A Map holds values by their keys, so many at most. Where one more comes, the one that
// was not used for longest is forgotten. It is not safe for concurrent use.
type Map[K comparable, V any] struct {
	capacity int
	at       map[K]*list.Element // of order
	order    list.List           // of entry[K, V], the one that was used last first
}

type entry[K comparable, V any] struct {
	key   K
	value V
}

// New returns an empty map for at most capacity values, at least one.
func New[K comparable, V any](capacity int) *Map[K, V] {
	return &Map[K, V]{capacity: max(capacity, 1), at: map[K]*list.Element{}}
}

// Get returns a value, which counts as used now, and whether it is there.
func (m *Map[K, V]) Get(key K) (value V, ok bool) {
	e, ok := m.at[key]
	if !ok {
		return value, false
	}
	m.order.MoveToFront(e)
	return entryOf[K, V](e).value, true
}

// Put sets a value, which counts as used now.
func (m *Map[K, V]) Put(key K, value V) {
	if e, ok := m.at[key]; ok {
		entryOf[K, V](e).value = value
		m.order.MoveToFront(e)
		return
	}
	if len(m.at) >= m.capacity {
		last := m.order.Back()
		delete(m.at, entryOf[K, V](last).key)
		m.order.Remove(last)
	}
	m.at[key] = m.order.PushFront(&entry[K, V]{key, value})
}

// Len is how many values there are.
func (m *Map[K, V]) Len() int { return len(m.at) }

func entryOf[K comparable, V any](e *list.Element) *entry[K, V] {
	return e.Value.(*entry[K, V]) //nolint:forcetypeassert // nothing else is in it
}
