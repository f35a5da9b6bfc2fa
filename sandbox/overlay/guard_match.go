package overlay

import (
	"iter"
	"strings"
	"sync"
)

// row is a name that something on the host acts upon. Names are compared
// without regard to case, because a tree may move to where it has none.
type row struct {
	// dir is the directory that name must be in, "" for any; it may be several
	// names. Without name it is the directory itself and everything below.
	// A * in name stands for any characters.
	dir, name string
	level     Level
	why       string
}

// pattern is the folded last name of a row.
type pattern struct {
	name string
	row  *row
}

// index finds the rows that a name may match, by the first byte of their
// patterns; those that begin with a * are under 0.
var index = sync.OnceValue(func() *[256][]pattern {
	var x [256][]pattern
	for i := range rows {
		p := pattern{fold(rows[i].last()), &rows[i]}
		c := p.name[0]
		if c == '*' {
			c = 0
		}
		x[c] = append(x[c], p)
	}
	return &x
})

// last is the last name of a row.
func (r *row) last() string {
	if r.name != "" {
		return r.name
	}
	return r.dir[strings.LastIndexByte(r.dir, '/')+1:]
}

// byName finds the gravest row for a name, folded, in a directory; nil if there
// is none. A directory of a row matches itself; what is below it is the walk's,
// or guard's, to know.
func byName(dir, name string) *row {
	if name == "" {
		return nil
	}
	var found *row
	x := index()
	for _, list := range [2][]pattern{x[name[0]], x[0]} {
		for _, p := range list {
			if (found == nil || p.row.level > found.level) && glob(p.name, name) && p.row.in(dir) {
				found = p.row
			}
		}
	}
	return found
}

// in says whether a row may be in a directory, whose path is not folded.
func (r *row) in(dir string) bool {
	want := r.dir
	if r.name == "" {
		i := strings.LastIndexByte(r.dir, '/')
		want = r.dir[:max(i, 0)]
	}
	if want == "" {
		return true
	}
	dir, want = foldPath(dir), foldPath(want)
	return dir == want || strings.HasSuffix(dir, "/"+want)
}

// glob compares a name with a pattern in which * stands for anything.
func glob(pattern, name string) bool {
	head, tail, star := strings.Cut(pattern, "*")
	if !star {
		return pattern == name
	}
	if len(name) < len(head) || name[:len(head)] != head {
		return false
	}
	if !strings.Contains(tail, "*") {
		return len(name) >= len(head)+len(tail) && strings.HasSuffix(name, tail)
	}
	for i := len(head); i <= len(name); i++ {
		if glob(tail, name[i:]) {
			return true
		}
	}
	return false
}

// GuardName is a line of the guard's table, for people.
type GuardName struct {
	Level     Level
	Why, Name string
}

// GuardTable gives the names that the guard knows, the graver level first, and
// of a level those with the same reason together. A directory ends in a slash
// and means all below it.
func GuardTable() iter.Seq[GuardName] {
	return func(yield func(GuardName) bool) {
		for _, level := range [...]Level{Refuse, Note} {
			done := map[string]bool{}
			for i, first := range rows {
				if first.level != level || done[first.why] {
					continue
				}
				done[first.why] = true
				for _, r := range rows[i:] {
					if r.level != level || r.why != first.why {
						continue
					}
					name := strings.TrimPrefix(r.dir+"/"+r.name, "/")
					if !yield(GuardName{r.level, r.why, name}) {
						return
					}
				}
			}
		}
	}
}
