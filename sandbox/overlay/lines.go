package overlay

import (
	"strings"

	"github.com/aymanbagabas/go-udiff/lcs"
)

// edit says that lines [a0,a1) of the old file are lines [b0,b1) of the new one.
// Lines between two edits are equal.
type edit struct{ a0, a1, b0, b1 int }

// splitLines keeps the line ends.
func splitLines(s string) []string {
	if s == "" {
		return nil
	}
	list := make([]string, 0, strings.Count(s, "\n")+1)
	for line := range strings.Lines(s) {
		list = append(list, line)
	}
	return list
}

// diffLines finds the edits between two files. Equal lines at both ends go
// first. Then lines that each side has once are matched, in the longest order
// that they have in common, which cuts large files into small pieces at sensible
// places (patience diff); the pieces are compared in full, up to a limit.
func diffLines(a, b []string) []edit {
	d := differ{a: a, b: b}
	d.diff(0, len(a), 0, len(b), 0)
	return d.edits
}

type differ struct {
	a, b  []string
	edits []edit
}

func (d *differ) diff(a0, a1, b0, b1, depth int) {
	for a0 < a1 && b0 < b1 && d.a[a0] == d.b[b0] {
		a0++
		b0++
	}
	for a0 < a1 && b0 < b1 && d.a[a1-1] == d.b[b1-1] {
		a1--
		b1--
	}
	if a0 == a1 || b0 == b1 {
		d.add(edit{a0, a1, b0, b1})
		return
	}
	if a1-a0 == 1 || b1-b0 == 1 {
		// One line, which is somewhere in the other's or is not.
		for i := a0; i < a1; i++ {
			for k := b0; k < b1; k++ {
				if d.a[i] == d.b[k] {
					d.add(edit{a0, i, b0, k})
					d.add(edit{i + 1, a1, k + 1, b1})
					return
				}
			}
		}
		d.add(edit{a0, a1, b0, b1})
		return
	}
	if depth < 8 && (a1-a0 > 32 || b1-b0 > 32) {
		if anchors := d.anchors(a0, a1, b0, b1); len(anchors) > 0 {
			for _, m := range append(anchors, [2]int{a1, b1}) {
				d.diff(a0, m[0], b0, m[1], depth+1)
				a0, b0 = m[0], m[1]
			}
			return
		}
	}
	for _, e := range lcs.DiffLines(d.a[a0:a1], d.b[b0:b1]) {
		d.add(edit{a0 + e.Start, a0 + e.End, b0 + e.ReplStart, b0 + e.ReplEnd})
	}
}

// add adds an edit, to the one before if nothing is between.
func (d *differ) add(e edit) {
	if e.a0 == e.a1 && e.b0 == e.b1 {
		return
	}
	if n := len(d.edits) - 1; n >= 0 && d.edits[n].a1 == e.a0 && d.edits[n].b1 == e.b0 {
		d.edits[n].a1, d.edits[n].b1 = e.a1, e.b1
		return
	}
	d.edits = append(d.edits, e)
}

// anchors are pairs of equal lines that occur once on each side, in order.
func (d *differ) anchors(a0, a1, b0, b1 int) [][2]int {
	type seen struct{ a, b, na, nb int }
	lines := make(map[string]*seen, a1-a0)
	for i := a0; i < a1; i++ {
		s := lines[d.a[i]]
		if s == nil {
			s = &seen{}
			lines[d.a[i]] = s
		}
		s.a, s.na = i, s.na+1
	}
	for j := b0; j < b1; j++ {
		if s := lines[d.b[j]]; s != nil {
			s.b, s.nb = j, s.nb+1
		}
	}
	// The longest increasing sequence of b, by piles: tops has the pair on top
	// of each pile, back the pair on the pile before when one was laid down.
	var pairs [][2]int
	for i := a0; i < a1; i++ {
		if s := lines[d.a[i]]; s.na == 1 && s.nb == 1 {
			pairs = append(pairs, [2]int{i, s.b})
		}
	}
	var tops []int
	back := make([]int, len(pairs))
	for i, p := range pairs {
		lo, hi := 0, len(tops)
		for lo < hi {
			if mid := (lo + hi) / 2; pairs[tops[mid]][1] < p[1] {
				lo = mid + 1
			} else {
				hi = mid
			}
		}
		back[i] = -1
		if lo > 0 {
			back[i] = tops[lo-1]
		}
		if lo == len(tops) {
			tops = append(tops, i)
		} else {
			tops[lo] = i
		}
	}
	if len(tops) == 0 {
		return nil
	}
	list := make([][2]int, len(tops))
	for i, k := tops[len(tops)-1], len(tops)-1; k >= 0; i, k = back[i], k-1 {
		list[k] = pairs[i]
	}
	return list
}
