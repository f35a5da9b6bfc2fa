package host

import (
	"fmt"
	"io"
	"strconv"
	"strings"
)

// A Mount is one line of /proc/PID/mountinfo; the fields are those of
// proc_pid_mountinfo(5), in its order.
//
// Root, Point, FSType and Source are decoded. Options and Super are as the
// kernel wrote them, because a decoded comma could no longer be told from a
// separating one: [MountOption] reads them.
type Mount struct {
	ID, Parent int
	Dev        string // major:minor of st_dev
	Root       string // the directory of the file system that is mounted; not always a path ("net:[4026531840]")
	Point      string // where, relative to the reader's root directory
	Options    string // of this mount: "ro,nosuid,relatime"
	Optional   string // propagation, separated by spaces: "shared:1 master:2"; empty for private
	FSType     string // with subtype: "fuse.sshfs"
	Source     string
	Super      string // options of the superblock
}

// MountOption looks for an option in a comma-separated list, [Mount.Options] or
// [Mount.Super], and returns its value ("" where it has none).
func MountOption(list, name string) (value string, found bool) {
	for option := range strings.SplitSeq(list, ",") {
		key, value, _ := strings.Cut(option, "=")
		if key == name {
			return unescapeMount(value), true
		}
	}
	return "", false
}

// ParseMountinfo reads a mount table as in /proc/self/mountinfo,
// proc_pid_mountinfo(5). It runs at every start, so all strings share the
// memory of the one text that was read.
func ParseMountinfo(r io.Reader) ([]Mount, error) {
	text, err := readMountinfo(r)
	if err != nil {
		return nil, fmt.Errorf("cannot read the mount table: %w", err)
	}
	ms := make([]Mount, 0, strings.Count(text, "\n")+1)
	for number := 1; text != ""; number++ {
		var line string
		line, text, _ = strings.Cut(text, "\n")
		ms = append(ms, Mount{})
		if problem := ms[len(ms)-1].parse(line); problem != "" {
			return nil, fmt.Errorf("cannot read the mount table: line %d: %s: %q", number, problem, line)
		}
	}
	return ms, nil
}

// readMountinfo is io.ReadAll with a first buffer that holds most tables: the
// kernel gives a page per read(2), and growing from 512 bytes costs more than
// the parsing.
func readMountinfo(r io.Reader) (string, error) {
	buf := make([]byte, 0, 8<<10)
	for {
		if len(buf) == cap(buf) {
			buf = append(buf, 0)[:len(buf)]
		}
		n, err := r.Read(buf[len(buf):cap(buf)])
		buf = buf[:len(buf)+n]
		if err == io.EOF {
			return string(buf), nil
		}
		if err != nil {
			return "", err
		}
	}
}

// parse fills m from a line; what it returns says what is wrong with the line.
//
// Fields are cut at single spaces: a mount whose source is the empty string
// has two spaces there.
func (m *Mount) parse(line string) (problem string) {
	var ok [2]bool
	var id, parent, word string
	id, line, _ = strings.Cut(line, " ")
	parent, line, _ = strings.Cut(line, " ")
	m.ID, ok[0] = mountID(id)
	m.Parent, ok[1] = mountID(parent)
	if !ok[0] || !ok[1] {
		return "no mount number"
	}
	m.Dev, line, _ = strings.Cut(line, " ")
	m.Root, line, _ = strings.Cut(line, " ")
	m.Point, line, _ = strings.Cut(line, " ")
	m.Options, line, _ = strings.Cut(line, " ")

	optional := line
	for length := 0; ; {
		var more bool
		word, line, more = strings.Cut(line, " ")
		if !more {
			return `no separator "-"`
		}
		if word == "-" {
			m.Optional = optional[:max(length-1, 0)]
			break
		}
		length += len(word) + 1
	}

	var more [2]bool
	m.FSType, line, more[0] = strings.Cut(line, " ")
	// The rest of the line are the superblock's options: some file systems do
	// not escape a space in theirs.
	m.Source, m.Super, more[1] = strings.Cut(line, " ")
	if !more[0] || !more[1] {
		return "too few fields"
	}
	m.Root, m.Point = unescapeMount(m.Root), unescapeMount(m.Point)
	m.FSType, m.Source = unescapeMount(m.FSType), unescapeMount(m.Source)
	if !strings.HasPrefix(m.Point, "/") {
		return "no mount point"
	}
	return ""
}

func mountID(s string) (int, bool) {
	n, err := strconv.ParseUint(s, 10, 31)
	return int(n), err == nil
}

// unescapeMount undoes what the kernel's seq_escape() does to a space, tab,
// newline, backslash, and some more: a backslash and three octal digits. All
// else stays as it is.
func unescapeMount(s string) string {
	next := strings.IndexByte(s, '\\')
	if next < 0 {
		return s
	}
	out := make([]byte, 0, len(s))
	for i := 0; i < len(s); i++ {
		if s[i] == '\\' && i+3 < len(s) {
			if c, err := strconv.ParseUint(s[i+1:i+4], 8, 8); err == nil {
				out = append(out, byte(c))
				i += 3
				continue
			}
		}
		out = append(out, s[i])
	}
	return string(out)
}

// MountOf returns the mount that holds path, an absolute and clean path without
// symbolic links.
//
// It follows the table as the kernel walks the path, from parent to child: a
// mount that was later covered by one on a directory above it is not found,
// although its mount point is the longest. Where the table does not lead there
// (no numbers, no root) the longest mount point counts, of equal ones the last.
func MountOf(ms []Mount, path string) (Mount, bool) {
	if at, ok := walkMounts(ms, path); ok {
		return ms[at], true
	}
	best := -1
	for i := range ms {
		if pathWithin(path, ms[i].Point) && (best < 0 || len(ms[i].Point) >= len(ms[best].Point)) {
			best = i
		}
	}
	if best < 0 {
		return Mount{}, false
	}
	return ms[best], true
}

// walkMounts is the index of the mount that holds path.
func walkMounts(ms []Mount, path string) (at int, ok bool) {
	at = -1
	for i := range ms {
		if ms[i].Point == "/" && (at < 0 || ms[i].ID == ms[at].Parent) {
			at = i
		}
	}
	if at < 0 || ms[at].ID == 0 {
		return 0, false
	}
	// Every turn goes one mount up the stack, so more turns than mounts means
	// a table that goes in a circle.
	for range ms {
		child := -1
		for i := range ms {
			if ms[i].Parent != ms[at].ID || i == at || !pathWithin(path, ms[i].Point) || !pathWithin(ms[i].Point, ms[at].Point) {
				continue
			}
			// The nearest child covers those further down.
			if child < 0 || len(ms[i].Point) <= len(ms[child].Point) {
				child = i
			}
		}
		if child < 0 {
			return at, true
		}
		at = child
	}
	return 0, false
}

// MountsBelow returns the mounts strictly below dir, in the table's order: what
// a recursive bind of dir takes along, and what an overlay with dir as its lower
// directory cannot show. Mounts that something mounted on dir or above
// it has covered do not count.
func MountsBelow(ms []Mount, dir string) []Mount {
	top, numbered := walkMounts(ms, dir)
	var below []Mount
	for i := range ms {
		if ms[i].Point == dir || !pathWithin(ms[i].Point, dir) {
			continue
		}
		if !numbered || descends(ms, i, ms[top].ID) {
			below = append(below, ms[i])
		}
	}
	return below
}

// descends says whether mount i is mounted, through however many others, on the
// mount with the number top.
func descends(ms []Mount, i, top int) bool {
	for range ms {
		if ms[i].Parent == top {
			return true
		}
		parent := -1
		for j := range ms {
			if ms[j].ID == ms[i].Parent && j != i {
				parent = j
			}
		}
		if parent < 0 {
			return false
		}
		i = parent
	}
	return false
}

// pathWithin says whether path is dir or below it; both absolute and clean.
func pathWithin(path, dir string) bool {
	if dir == "/" {
		return strings.HasPrefix(path, "/")
	}
	return strings.HasPrefix(path, dir) && (len(path) == len(dir) || path[len(dir)] == '/')
}
