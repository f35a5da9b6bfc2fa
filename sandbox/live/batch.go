package live

import (
	"time"

	"golang.org/x/sys/unix"
)

// batch is what has happened since the last refresh.
type batch struct {
	first, last time.Time
	wait        time.Duration // for quiet, from first on
	// paths are those at which a name may be wrong, and whether a mode may be.
	paths map[string]bool
	bytes int
	many  bool // and more than can be remembered
	// kinds are what has happened to them, and to files that were only written to,
	// which makes no name wrong.
	kinds map[string]uint32
	hard  bool
}

func newBatch(cost time.Duration) batch {
	return batch{wait: min(max(20*cost, minWait), maxWait), paths: map[string]bool{}, kinds: map[string]uint32{}}
}

// written are the events of a file that is written to in place.
const written = unix.IN_CLOSE_WRITE | unix.IN_MODIFY

// soft says whether an event makes no name wrong.
func soft(mask uint32) bool { return mask&written != 0 && mask&unix.IN_ALL_EVENTS&^written == 0 }

func (b *batch) add(path string, mask uint32) {
	now := time.Now()
	if b.first.IsZero() {
		b.first = now
	}
	b.last = now
	if _, ok := b.kinds[path]; !ok {
		if len(b.kinds) >= maxPaths || b.bytes+len(path) > maxBytes {
			b.many, b.hard = true, true
			return
		}
		b.bytes += len(path)
	}
	b.kinds[path] |= mask
	if !soft(mask) {
		b.hard = true
		b.paths[path] = b.paths[path] || mask == 0 || mask&unix.IN_ATTRIB != 0
	}
}

// due is when it is time for a refresh; false if there is nothing to show.
func (b *batch) due() (time.Time, bool) {
	if b.first.IsZero() {
		return time.Time{}, false
	}
	due := b.last.Add(quiet)
	if end := b.first.Add(b.wait); due.After(end) {
		due = end
	}
	return due, true
}
