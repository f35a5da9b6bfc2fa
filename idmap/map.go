package idmap

import (
	"bufio"
	"fmt"
	"io"
	"math"
	"slices"
	"strconv"
	"strings"
)

const (
	// maxExtents is the most lines that a map may have since Linux 4.15
	// (user_namespaces(7); UID_GID_MAP_MAX_EXTENTS in user_namespace.h).
	maxExtents = 340

	// pageSize is the least page size that Linux has, in bytes. A map is written
	// in one write(2), which has to be shorter than a page.
	pageSize = 4096

	// noID is (uid_t)-1. It is no id, and so the end of all ranges.
	noID = math.MaxUint32
)

// Extent is one line of a map: Length ids, which begin at Inside in the user
// namespace and at Outside in its parent. See user_namespaces(7).
type Extent struct{ Inside, Outside, Length uint32 }

// String returns the extent as in /proc/PID/uid_map, with single spaces and no
// newline: "0 100000 65536".
func (e Extent) String() string {
	return fmt.Sprintf("%d %d %d", e.Inside, e.Outside, e.Length)
}

// Map is a uid map or a gid map of a user namespace. The nil Map is that of a
// namespace which has not been given one: it holds no id.
type Map []Extent

// ParseMap reads a map in the format of /proc/PID/uid_map and gid_map: on each
// line three decimal numbers of 32 bits, separated by blanks.
//
// It checks the syntax only, see [Map.Validate]: the kernel shows 4294967295 in
// the second column for what the reader's own namespace does not hold. The map
// of a new namespace is empty, which is no error.
func ParseMap(r io.Reader) (Map, error) {
	var m Map
	scanner := bufio.NewScanner(r)
	for n := 1; scanner.Scan(); n++ {
		if n > maxExtents {
			return nil, fmt.Errorf("cannot parse id map: more than %d lines", maxExtents)
		}
		e, err := parseExtent(scanner.Text())
		if err != nil {
			return nil, fmt.Errorf("cannot parse id map: line %d: %w", n, err)
		}
		m = append(m, e)
	}
	if err := scanner.Err(); err != nil {
		return nil, fmt.Errorf("cannot parse id map: %w", err)
	}
	return m, nil
}

func parseExtent(line string) (Extent, error) {
	fields := strings.Fields(line)
	if len(fields) != 3 {
		return Extent{}, fmt.Errorf("%q has %d fields, not 3", line, len(fields))
	}
	var numbers [3]uint32
	for i, field := range fields {
		n, err := strconv.ParseUint(field, 10, 32)
		if err != nil {
			return Extent{}, fmt.Errorf("%q is not an id or a count of ids", field)
		}
		numbers[i] = uint32(n)
	}
	return Extent{Inside: numbers[0], Outside: numbers[1], Length: numbers[2]}, nil
}

// String returns the map as it is written to /proc/PID/uid_map: one line
// "inside outside length" per extent, each ended by a newline.
func (m Map) String() string {
	var b strings.Builder
	for _, e := range m {
		b.WriteString(e.String())
		b.WriteByte('\n')
	}
	return b.String()
}

// Validate reports why the kernel would refuse the map with EINVAL, in one
// error with all the reasons: no extent or more than 340 of them, a text of a
// page (4096 bytes) or more, an extent of no ids or one that goes past the last
// id 4294967294, two extents that overlap inside or outside.
//
// A valid map may still be refused with EPERM, for who writes it: see [Write].
func (m Map) Validate() error {
	if faults := m.faults(); len(faults) > 0 {
		return fmt.Errorf("cannot use id map: %s", strings.Join(faults, "; "))
	}
	return nil
}

// faults returns what Validate reports. A map with too many extents is not
// looked at further, which bounds the comparison of each extent with all.
func (m Map) faults() []string {
	switch {
	case len(m) == 0:
		return []string{"it has no extent"}
	case len(m) > maxExtents:
		return []string{fmt.Sprintf("it has %d extents, and the kernel takes %d", len(m), maxExtents)}
	}
	var faults []string
	for i, e := range m {
		switch {
		case e.Length == 0:
			faults = append(faults, fmt.Sprintf("extent %q has no ids", e))
			continue
		case e.inside().end > noID, e.outside().end > noID:
			faults = append(faults, fmt.Sprintf("extent %q goes past the last id %d", e, uint32(noID-1)))
			continue
		}
		for _, f := range m[:i] {
			if e.inside().overlaps(f.inside()) {
				faults = append(faults, fmt.Sprintf("extents %q and %q overlap inside", f, e))
			}
			if e.outside().overlaps(f.outside()) {
				faults = append(faults, fmt.Sprintf("extents %q and %q overlap outside", f, e))
			}
		}
	}
	if n := len(m.String()); n >= pageSize {
		faults = append(faults, fmt.Sprintf("it is %d bytes of text, and a write has to be shorter than a page of %d", n, pageSize))
	}
	return faults
}

// Lookup returns the id outside that inside stands for. ok is false when the
// namespace does not hold the id, or holds it without a counterpart that the
// reader of the map can see (4294967295 in the second column).
func (m Map) Lookup(inside uint32) (outside uint32, ok bool) {
	for _, e := range m {
		if e.Outside != noID && e.inside().holds(inside) {
			return shift(e.Outside, inside-e.Inside)
		}
	}
	return 0, false
}

// Reverse returns the id inside by which the namespace knows outside. ok is
// false when it knows the id not at all; such an owner of a file shows as 65534.
func (m Map) Reverse(outside uint32) (inside uint32, ok bool) {
	for _, e := range m {
		if e.Outside != noID && e.outside().holds(outside) {
			return shift(e.Inside, outside-e.Outside)
		}
	}
	return 0, false
}

// Single reports whether the map holds one id only.
func (m Map) Single() bool { return len(m) == 1 && m[0].Length == 1 }

// holdsSpan returns the extent of m that holds all of s, as ids inside.
func (m Map) holdsSpan(s span) bool {
	return slices.ContainsFunc(m, func(e Extent) bool {
		return e.inside().first <= s.first && s.end <= e.inside().end
	})
}

// shift is the id that lies by ids after first; ok is false past the last one.
func shift(first, by uint32) (id uint32, ok bool) {
	if by >= noID-first {
		return 0, false
	}
	return first + by, true
}

func (e Extent) inside() span  { return newSpan(e.Inside, e.Length) }
func (e Extent) outside() span { return newSpan(e.Outside, e.Length) }
