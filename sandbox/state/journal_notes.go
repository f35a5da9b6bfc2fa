package state

import (
	"maps"
	"strconv"
	"strings"
)

// place is a path in one of the pairs.
type place struct{ pair, path string }

// notes are what the lines of a journal add up to.
type notes struct {
	seen  map[string]map[string]string // by pair and path
	keep  map[place]bool
	temps map[Note]bool
	// mirrors are few: only what processes inside watch.
	mirrors map[place]string
	// Of the pairs that are settled: when, and what has been seen since then.
	settled map[string]int64
	since   map[place]bool
	lines   int
	size    int64
	room    int // how many paths to expect
}

func (n *notes) add(note Note) {
	n.lines++
	at := place{note.Pair, note.Path}
	switch note.Op {
	case Seen:
		paths := n.seen[note.Pair]
		if paths == nil {
			// Nearly all are of one pair.
			paths = make(map[string]string, n.room)
			n.seen[strings.Clone(note.Pair)], n.room = paths, 0
		}
		paths[note.Path] = note.Value
		if _, ok := n.settled[note.Pair]; ok {
			n.since[at] = true
		}
	case Forget:
		if paths := n.seen[note.Pair]; paths != nil {
			if delete(paths, note.Path); len(paths) == 0 {
				delete(n.seen, note.Pair)
			}
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

func newNotes(size int) notes {
	return notes{seen: map[string]map[string]string{}, keep: map[place]bool{}, temps: map[Note]bool{}, mirrors: map[place]string{}, settled: map[string]int64{}, since: map[place]bool{}, room: size}
}

// all are the lines of needed. That pairs are settled is not among them: it says
// something of the lines before it.
func (n *notes) all(yield func(Note) bool) {
	for pair, paths := range n.seen {
		for path, value := range paths {
			if !yield(Note{Seen, pair, path, value}) {
				return
			}
		}
	}
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
