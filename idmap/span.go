package idmap

// span is the ids first to end-1. It is kept in 64 bits, in which the sum of an
// id and a length cannot overflow.
type span struct{ first, end uint64 }

func newSpan(first, length uint32) span {
	return span{uint64(first), uint64(first) + uint64(length)}
}

func (s span) length() uint64        { return s.end - s.first }
func (s span) empty() bool           { return s.first >= s.end }
func (s span) holds(id uint32) bool  { return s.first <= uint64(id) && uint64(id) < s.end }
func (s span) overlaps(t span) bool  { return s.first < t.end && t.first < s.end }
func (s span) intersect(t span) span { return span{max(s.first, t.first), min(s.end, t.end)} }

// without returns what is left of the spans when the ids of cut are taken out.
func without(spans []span, cut span) []span {
	var left []span
	for _, s := range spans {
		if cut.empty() || !s.overlaps(cut) {
			left = append(left, s)
			continue
		}
		for _, part := range [...]span{{s.first, cut.first}, {cut.end, s.end}} {
			if !part.empty() {
				left = append(left, part)
			}
		}
	}
	return left
}
