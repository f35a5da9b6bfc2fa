package state

import (
	"hash/maphash"
	"maps"
	"strconv"
	"strings"
)

// place is a path in one of the pairs.
type place struct{ pair, path string }

// notes are what the lines of a journal add up to.
type notes struct {
	// seen has of each pair, by the hashes of paths, where in the file the last line
	// is that says with what the path was seen: there may be as many as a layer has
	// files.
	seen  map[string]map[uint64]int64
	seed  maphash.Seed
	keep  map[place]bool
	temps map[Note]bool
	// mirrors are few: only what processes inside watch.
	mirrors map[place]string
	// Of the pairs that are settled: when, and what has been seen since then.
	settled map[string]int64
	since   map[place]bool
	lines   int
	size    int64
}

// key stands for a path. It is not to be foreseen, so that nobody makes two that are
// the same; of two that are by chance one is not known.
func (n *notes) key(path string) uint64 { return maphash.String(n.seed, path) }

// last says whether a line is the one that counts for its path.
func (n *notes) last(note Note, line int64) bool {
	at, ok := n.seen[note.Pair][n.key(note.Path)]
	return ok && note.Op == Seen && at == line
}

// add adds a note, whose line begins at a place in the file that was read, -1: not there.
func (n *notes) add(note Note, line int64) {
	n.lines++
	at := place{note.Pair, note.Path}
	switch note.Op {
	case Seen:
		paths := n.seen[note.Pair]
		if paths == nil {
			paths = map[uint64]int64{}
			n.seen[strings.Clone(note.Pair)] = paths
		}
		if line >= 0 {
			paths[n.key(note.Path)] = line
		} else {
			delete(paths, n.key(note.Path))
		}
		if _, ok := n.settled[note.Pair]; ok {
			n.since[at] = true
		}
	case Forget:
		if paths := n.seen[note.Pair]; paths != nil {
			delete(paths, n.key(note.Path))
		}
		delete(n.keep, at)
	case Keep:
		n.keep[at] = true
	case Temp:
		n.temps[note] = true
	case Done:
		note.Op = Temp
		delete(n.temps, note)
	case Mirror:
		if note.Value == "" {
			delete(n.mirrors, at)
		} else {
			n.mirrors[at] = note.Value
		}
	case Settled:
		if when, err := strconv.ParseInt(note.Value, 10, 64); err == nil {
			n.settled[note.Pair] = when
			maps.DeleteFunc(n.since, func(at place, _ bool) bool { return at.pair == note.Pair })
		}
	}
}

// needed is how many lines say the same.
func (n *notes) needed() int {
	sum := len(n.keep) + len(n.temps) + len(n.mirrors)
	for _, paths := range n.seen {
		sum += len(paths)
	}
	return sum
}

func newNotes() notes {
	return notes{seen: map[string]map[uint64]int64{}, seed: maphash.MakeSeed(), keep: map[place]bool{}, temps: map[Note]bool{}, mirrors: map[place]string{}, settled: map[string]int64{}, since: map[place]bool{}}
}

// others are the lines of needed, but those of seen. That pairs are settled is not among
// them: it says something of the lines before it.
func (n *notes) others(yield func(Note) bool) {
	for at := range n.keep {
		if !yield(Note{Op: Keep, Pair: at.pair, Path: at.path}) {
			return
		}
	}
	for note := range n.temps {
		if !yield(note) {
			return
		}
	}
	for at, value := range n.mirrors {
		if !yield(Note{Mirror, at.pair, at.path, value}) {
			return
		}
	}
}
