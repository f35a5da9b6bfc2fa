package overlay

import (
	"bytes"
	"fmt"
	"iter"
	"strings"
	"unicode/utf8"

	"golang.org/x/sys/unix"
)

// MaxText is the size up to which a file is compared by lines; a larger one is
// binary.
const MaxText = 8 << 20

// Lines counts what a change does to the lines of a file.
type Lines struct {
	Added, Removed int
	Binary         bool
}

// Patch is what git-diff(1) prints for one file. What git cannot express, as
// directories and fifos, has a Note alone, which git-apply(1) passes over.
type Patch struct {
	// Head are the lines above the first hunk, Note a line instead.
	Head []string
	Note string
	Lines
	a, b    []string
	edits   []edit
	literal []string
}

// Patches gives the one or two patches of a change: a change of type is a
// deletion and an addition. Path is how the file is to be named. A binary file's
// content is left out unless asked for.
func (o *Opened) Patches(c Change, path string, binary bool) ([]Patch, error) {
	low, up := c.Lower, c.Upper
	note := func(format string, a ...any) ([]Patch, error) {
		return []Patch{{Note: fmt.Sprintf(format, a...)}}, nil
	}
	switch {
	case c.Kind == Same:
		return nil, nil
	case c.Kind == TypeChanged:
		gone, add := c, c
		gone.Kind, gone.Upper = Deleted, Stat{}
		add.Kind, add.Lower = Added, Stat{}
		list, err := o.Patches(gone, path, binary)
		if err != nil {
			return nil, err
		}
		more, err := o.Patches(add, path, binary)
		return append(list, more...), err
	case low.IsDir() || up.IsDir():
		if c.Kind == ModeChanged {
			return note(" mode change %06o => %06o %s", low.Mode, up.Mode, QuoteName(path))
		}
		return nil, nil // git knows directories by their files
	case !textual(low) || !textual(up):
		which, st := "layer", up
		if !up.Exists() {
			which, st = "host", low
		}
		return note("Only on the %s's side: %s (%s)", which, QuoteName(path), st.TypeName())
	case c.Kind == ModeChanged && gitMode(low) == gitMode(up):
		return note(" mode change %06o => %06o %s", low.Mode, up.Mode, QuoteName(path))
	}
	p := Patch{}
	err := o.fill(&p, c)
	if err == nil && p.Binary && binary {
		err = o.binary(&p, c)
	}
	if err != nil {
		return nil, &Error{Do: "read", Path: path, Err: err}
	}
	p.head(c, path)
	return []Patch{p}, nil
}

// textual says whether git can have a file of this type, or none is there.
func textual(s Stat) bool { return !s.Exists() || s.IsRegular() || s.IsSymlink() }

// fill reads both sides and compares them.
func (o *Opened) fill(p *Patch, c Change) error {
	if c.Kind == ModeChanged {
		return nil
	}
	a, okA, err := readText(o.lower, c.Path, c.Lower)
	if err != nil {
		return err
	}
	b, okB, err := readText(o.upper, c.Path, c.Upper)
	if err != nil {
		return err
	}
	if p.Binary = !okA || !okB; p.Binary {
		return nil
	}
	p.a, p.b = splitLines(a), splitLines(b)
	p.edits = diffLines(p.a, p.b)
	for _, e := range p.edits {
		p.Removed += e.a1 - e.a0
		p.Added += e.b1 - e.b0
	}
	return nil
}

// readText reads a file, or the target of a symlink; false if it is binary.
func readText(root int, path string, st Stat) (string, bool, error) {
	if !st.Exists() {
		return "", true, nil
	}
	if st.IsSymlink() {
		fd, err := OpenBeneath(root, path, unix.O_PATH)
		if err != nil {
			return "", false, err
		}
		defer unix.Close(fd)
		var buf [unix.PathMax]byte
		n, err := unix.Readlinkat(fd, "", buf[:])
		return string(buf[:max(n, 0)]), true, err
	}
	if st.Size > MaxText {
		return "", false, nil
	}
	fd, err := OpenBeneath(root, path, unix.O_RDONLY)
	if err != nil {
		return "", false, err
	}
	defer unix.Close(fd)
	if now, err := StatFd(fd); err != nil || !now.same(st) {
		return "", false, errMoved
	}
	buf := make([]byte, st.Size)
	n, err := preadFull(fd, buf, 0)
	if err != nil {
		return "", false, err
	}
	if bytes.IndexByte(buf[:n], 0) >= 0 {
		return "", false, nil
	}
	return string(buf[:n]), true, nil
}

func (p *Patch) head(c Change, path string) {
	add := func(format string, a ...any) { p.Head = append(p.Head, fmt.Sprintf(format, a...)) }
	a, b := QuoteName("a/"+path), QuoteName("b/"+path)
	add("diff --git %s %s", a, b)
	switch {
	case !c.Lower.Exists():
		add("new file mode %06o", gitMode(c.Upper))
		a = "/dev/null"
	case !c.Upper.Exists():
		add("deleted file mode %06o", gitMode(c.Lower))
		b = "/dev/null"
	case gitMode(c.Lower) != gitMode(c.Upper):
		add("old mode %06o", gitMode(c.Lower))
		add("new mode %06o", gitMode(c.Upper))
	}
	switch {
	case p.literal != nil:
		p.Head = append(p.Head, p.literal...)
	case p.Binary:
		add("Binary files %s and %s differ", a, b)
	case len(p.edits) > 0:
		add("--- %s", tabbed(a))
		add("+++ %s", tabbed(b))
	}
}

// tabbed marks the end of a name that has a blank, as git does for patch(1).
func tabbed(name string) string {
	if strings.Contains(name, " ") {
		return name + "\t"
	}
	return name
}

// gitMode is the mode as git keeps it.
func gitMode(s Stat) uint32 {
	switch {
	case s.IsSymlink():
		return unix.S_IFLNK
	case s.Mode&0o100 != 0:
		return unix.S_IFREG | 0o755
	}
	return unix.S_IFREG | 0o644
}

// context is how many equal lines are around those that differ.
const context = 3

// noNewline is the line that follows one without an end.
const noNewline = `\ No newline at end of file`

// Body gives the lines of the hunks, without their ends: "@@ …", and those that
// begin with a blank, "-", "+" or "\".
func (p *Patch) Body() iter.Seq[string] {
	return func(yield func(string) bool) {
		side := func(op string, lines []string) bool {
			for _, l := range lines {
				text, ended := strings.CutSuffix(l, "\n")
				if !yield(op+text) || !ended && !yield(noNewline) {
					return false
				}
			}
			return true
		}
		for i := 0; i < len(p.edits); {
			n := i + 1
			for n < len(p.edits) && p.edits[n].a0-p.edits[n-1].a1 <= 2*context {
				n++
			}
			group := p.edits[i:n]
			i = n
			first, last := group[0], group[len(group)-1]
			a0, b0 := max(0, first.a0-context), max(0, first.b0-context)
			a1, b1 := min(len(p.a), last.a1+context), min(len(p.b), last.b1+context)
			if !yield(fmt.Sprintf("@@ -%s +%s @@", hunkRange(a0, a1), hunkRange(b0, b1))) {
				return
			}
			at := a0
			for _, e := range group {
				if !side(" ", p.a[at:e.a0]) || !side("-", p.a[e.a0:e.a1]) || !side("+", p.b[e.b0:e.b1]) {
					return
				}
				at = e.a1
			}
			if !side(" ", p.a[at:a1]) {
				return
			}
		}
	}
}

// hunkRange is how diff(1) writes lines: an empty range names the line before.
func hunkRange(from, to int) string {
	switch to - from {
	case 0:
		return fmt.Sprintf("%d,0", from)
	case 1:
		return fmt.Sprint(from + 1)
	}
	return fmt.Sprintf("%d,%d", from+1, to-from)
}

// QuoteName quotes a name as git's quote.c does, where it has control
// characters, quotes, backslashes or what is misleading; other text stays.
func QuoteName(name string) string {
	if !odd(name) && !strings.ContainsAny(name, "\"\\") {
		return name
	}
	var b strings.Builder
	b.WriteByte('"')
	for len(name) > 0 {
		r, size := utf8.DecodeRuneInString(name)
		s := name[:size]
		name = name[size:]
		switch i := strings.IndexByte("\a\b\t\n\v\f\r\"\\", s[0]); {
		case i >= 0:
			b.WriteByte('\\')
			b.WriteByte(`abtnvfr"\`[i])
		case odd(s) || r == utf8.RuneError:
			for k := range len(s) {
				fmt.Fprintf(&b, "\\%03o", s[k])
			}
		default:
			b.WriteString(s)
		}
	}
	b.WriteByte('"')
	return b.String()
}
