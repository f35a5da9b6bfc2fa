package main

import (
	"errors"
	"fmt"
	"io/fs"
	"path"
	"strings"

	"github.com/urfave/cli/v2"

	"github.com/sbx-build/sbx/sandbox"
	"github.com/sbx-build/sbx/sandbox/overlay"
)

func statusFlags() []cli.Flag {
	return []cli.Flag{
		&cli.BoolFlag{Name: "all", Usage: "list what is in new directories"},
		&cli.BoolFlag{Name: "json", Usage: "print JSON"},
		&cli.BoolFlag{Name: "porcelain", Usage: "print lines for programs"},
		&cli.BoolFlag{Name: "z", Usage: "the same, ended by NUL"},
	}
}

// printStatus is `sbx status [PATH…]`.
func printStatus(c *cli.Context, o *sandbox.Options, r *report) (*output, error) {
	s, err := sandbox.Open(*o)
	if err != nil {
		return nil, err
	}
	list, err := pick(s, c.Args().Slice())
	if err != nil {
		return nil, err
	}
	out := newOutput(o.Getenv, false)
	var f statusFormat
	switch {
	case c.Bool("json"):
		f = &jsonStatus{out: out, session: s}
	case c.Bool("porcelain") || c.Bool("z"):
		f = &porcelainStatus{out: out, zero: c.Bool("z")}
	default:
		f = &humanStatus{out: out, session: s, whole: !c.Args().Present(), largest: map[string]int64{}, fresh: map[string]bool{}}
	}
	out.meter = newMeter(r, "compared")
	var failed error
	var files, bytes int64
	guards := map[*picked]*overlay.Guard{}
	for p, c := range changes(list, overlay.Options{All: c.Bool("all"), Same: true, Guard: true}, true) {
		if c.err != nil {
			if errors.Is(c.err, fs.ErrPermission) {
				return out, c.err
			}
			if failed != nil {
				out.meter.end()
				r.line("%s", failed)
			}
			failed = c.err
			continue
		}
		files++
		if c.Upper.IsRegular() {
			bytes += c.Upper.Size
		}
		out.meter.show(files+c.Count, bytes+c.Size)
		g := guards[p]
		if g == nil {
			g = overlay.NewGuard(p.o)
			guards[p] = g
		}
		var reasons []overlay.Reason
		if c.Kind != overlay.Same {
			reasons = g.Check(c.Change)
		}
		f.change(p, c.Change, reasons)
	}
	f.end(failed == nil)
	return out, failed
}

// statusFormat is a way to print changes.
type statusFormat interface {
	change(p *picked, c overlay.Change, reasons []overlay.Reason)
	// end comes after the last; complete says that nothing was left out.
	end(complete bool)
}

// isRefused says whether a pull would leave something out.
func isRefused(c overlay.Change, reasons []overlay.Reason) bool {
	return c.Refused > 0 || overlay.Gravest(reasons) >= overlay.Refuse
}

// humanStatus is for people:
//
//	A  build/            (12 files and directories, 1.2 MB)
//	M! .envrc            (a shell runs it on cd, or when it starts)
type humanStatus struct {
	out              *output
	session          *sandbox.Session
	whole            bool // the footer is that of the whole layer
	n, shadowed, bad int64
	alloc            int64
	largest          map[string]int64
	fresh            map[string]bool // new directories, with --all
	// Of the directory that came last: what is added to.
	lastPair *picked
	last, at string
}

var statusColours = [...]colour{overlay.Added: green, overlay.Modified: yellow, overlay.Deleted: red, overlay.TypeChanged: yellow, overlay.ModeChanged: yellow}

func (h *humanStatus) change(p *picked, c overlay.Change, reasons []overlay.Reason) {
	h.occupied(p, c)
	if c.Kind == overlay.Same {
		return
	}
	h.n++
	var notes []string
	mark := byte(' ')
	switch {
	case c.Count > 0:
		notes = append(notes, count(c.Count, "entry", "entries")+", "+size(c.Size))
	case c.Kind == overlay.TypeChanged:
		notes = append(notes, c.Lower.TypeName()+" -> "+c.Upper.TypeName())
	case c.Kind == overlay.ModeChanged:
		notes = append(notes, fmt.Sprintf("%o -> %o", c.Lower.Perm(), c.Upper.Perm()))
	}
	if c.Shadowed {
		h.shadowed++
		notes = append(notes, "shadowed: the host's has changed since")
	}
	for _, r := range reasons {
		if r.Level > overlay.Note || c.Kind != overlay.Deleted {
			notes = append(notes, r.Text)
		}
	}
	if isRefused(c, reasons) {
		mark = '!'
		h.bad++
		if c.Refused > 0 {
			notes = append(notes, count(c.Refused, "of them refused", "of them refused"))
		}
	}
	name := p.shown(h.session.Policy.Dir, c.Path)
	if c.IsDir() {
		name += "/"
	}
	line := string([]byte{c.Kind.Letter(), mark, ' '}) + name
	if len(notes) > 0 {
		line += "  (" + strings.Join(notes, "; ") + ")"
	}
	h.out.raw(statusColours[c.Kind], printable(line))
}

// occupied adds up what the layer takes, by new directories, and by others of up
// to three names.
func (h *humanStatus) occupied(p *picked, c overlay.Change) {
	n := max(c.Alloc, c.Upper.Alloc)
	if n == 0 {
		return
	}
	h.alloc += n
	if c.Upper.IsDir() && c.Kind == overlay.Added {
		h.fresh[p.Name+c.Path] = true
	}
	dir := c.Path
	if !c.Upper.IsDir() {
		if dir = path.Dir(dir); dir == "." {
			return
		}
	}
	if p != h.lastPair || dir != h.last {
		h.lastPair, h.last, h.at = p, dir, h.summed(p, dir)
	}
	h.largest[h.at] += n
}

// summed is the directory under which the footer has another.
func (h *humanStatus) summed(p *picked, dir string) string {
	names := strings.SplitN(dir, "/", 4)
	top := strings.Join(names[:min(3, len(names))], "/")
	for i := range names {
		if d := strings.Join(names[:i+1], "/"); h.fresh[p.Name+d] {
			top = d
			break
		}
	}
	return p.shown(h.session.Policy.Dir, top)
}

func (h *humanStatus) end(complete bool) {
	if !complete {
		return
	}
	if h.n == 0 {
		h.out.line(plain, "nothing is changed in the layer %q", h.session.Layer.Name)
		return
	}
	if h.bad > 0 || h.shadowed > 0 || h.whole {
		h.out.line(plain, "")
	}
	if h.bad > 0 {
		h.out.line(plain, "! is what the guard of sbx pull refuses (sbx help guard)")
	}
	if h.shadowed > 0 {
		h.out.line(plain, "shadowed: you have changed them on the host, and the sandbox still sees its own; sbx drop --shadowed%s", h.session.Layer.Flag())
	}
	if !h.whole {
		return
	}
	line := fmt.Sprintf("the layer %q has %s and occupies %s", h.session.Layer.Name, count(h.n, "change", "changes"), size(h.alloc))
	for i := range 3 {
		most, n := "", int64(0)
		for dir, k := range h.largest {
			if k > n || k == n && dir < most {
				most, n = dir, k
			}
		}
		if n == 0 {
			break
		}
		delete(h.largest, most)
		line += [...]string{", most in ", ", ", ", "}[i] + fmt.Sprintf("%s/ (%s)", most, size(n))
	}
	h.out.line(plain, "%s", line)
}

// porcelainStatus is for programs. A line has, with a blank between them: the
// letter; "!" if pull refuses it, else "."; "s" if it is shadowed, else "."; the
// type of what the layer has, or of what it deletes; the number of entries of a
// new directory, else 0; bytes; and the path, of which a directory's ends in a
// slash. It is relative to the source tree, or absolute, and quoted as git
// does; with -z it is as it is, and a NUL is in place of each line end.
type porcelainStatus struct {
	out  *output
	zero bool
}

func (f *porcelainStatus) change(p *picked, c overlay.Change, reasons []overlay.Reason) {
	if c.Kind == overlay.Same {
		return
	}
	flags := [2]byte{'.', '.'}
	if isRefused(c, reasons) {
		flags[0] = '!'
	}
	if c.Shadowed {
		flags[1] = 's'
	}
	st := c.Upper
	if !st.Exists() {
		st = c.Lower
	}
	bytes := c.Size
	if !st.IsDir() {
		bytes = st.Size
	}
	name := p.Shown(c.Path)
	if c.IsDir() {
		name += "/"
	}
	end := byte('\n')
	if f.zero {
		end = 0
	} else {
		name = overlay.QuoteName(name)
	}
	fmt.Fprintf(f.out.buf, "%c %s %c %d %d %s%c", c.Kind.Letter(), flags[:], st.Fingerprint().Type, c.Count, bytes, name, end)
}

func (f *porcelainStatus) end(bool) {}
