package main

import (
	"errors"
	"fmt"
	"io/fs"
	"strings"

	"github.com/urfave/cli/v2"

	"github.com/sbx-build/sbx/sandbox"
	"github.com/sbx-build/sbx/sandbox/overlay"
)

func diffFlags() []cli.Flag {
	return []cli.Flag{
		&cli.BoolFlag{Name: "stat", Usage: "count the lines instead"},
		&cli.BoolFlag{Name: "name-only", Usage: "print the names instead"},
		&cli.BoolFlag{Name: "binary", Usage: "print binary files, for git apply"},
		&cli.BoolFlag{Name: "exit-code", Usage: "end with 1 if there are changes"},
	}
}

// printDiff is `sbx diff [PATH…]`.
func printDiff(c *cli.Context, o *sandbox.Options, r *report, status *int) (*output, error) {
	s, err := sandbox.Open(*o)
	if err != nil {
		return nil, err
	}
	list, err := pick(s, c.Args().Slice())
	if err != nil {
		return nil, err
	}
	out := newOutput(o.Getenv, true)
	d := &diff{out: out, binary: c.Bool("binary")}
	one := d.patch
	switch {
	case c.Bool("name-only"):
		one = d.name
	case c.Bool("stat"):
		one = d.stat
	}
	opts := overlay.Options{All: true, Gone: true, Lines: c.Bool("stat") && !c.Bool("name-only")}
	out.meter = newMeter(r, "compared")
	var failed error
	var bytes int64
	for p, c := range changes(list, opts, false) {
		err := c.err
		if err == nil {
			d.n++
			if c.Upper.IsRegular() {
				bytes += c.Upper.Size
			}
			out.meter.show(d.n, bytes)
			err = one(p, c.Change)
		}
		if err == nil {
			continue
		}
		if errors.Is(err, fs.ErrPermission) || d.broken() {
			return out, err
		}
		if failed != nil {
			out.meter.end()
			r.line("%s", failed)
		}
		failed = err
	}
	if c.Bool("stat") && !c.Bool("name-only") {
		d.total()
	}
	if c.Bool("exit-code") && d.n > 0 {
		*status = exitPartly
	}
	return out, failed
}

// diff prints changes as git-diff(1) does.
type diff struct {
	out *output
	// binary has the content of binary files printed.
	binary bool
	n      int64
	files  int64
	sum    overlay.Lines
}

// broken says that nobody reads any more.
func (d *diff) broken() bool { return d.out.buf.Flush() != nil }

// patch prints the patch of a change. What a program reads is as it is in the
// file; what a terminal shows has the file's control characters escaped.
func (d *diff) patch(p *picked, c overlay.Change) error {
	patches, err := p.o.Patches(c, p.patched(c.Path), d.binary)
	if err != nil {
		return err
	}
	for _, p := range patches {
		if p.Note != "" {
			d.out.raw(bold, p.Note)
		}
		for _, l := range p.Head {
			d.out.raw(bold, l)
		}
		for l := range p.Body() {
			if err := d.out.raw(lineColour(l), d.content(l)); err != nil {
				return fmt.Errorf("cannot print the difference: %w", err)
			}
		}
	}
	return nil
}

func lineColour(l string) colour {
	switch l[0] {
	case '@':
		return cyan
	case '-':
		return red
	case '+':
		return green
	}
	return plain
}

// content escapes what could drive a terminal. Tabs are harmless.
func (d *diff) content(l string) string {
	if !d.out.terminal {
		return l
	}
	parts := strings.Split(l, "\t")
	for i, p := range parts {
		parts[i] = printable(p)
	}
	return strings.Join(parts, "\t")
}

// name prints a path alone.
func (d *diff) name(p *picked, c overlay.Change) error {
	if c.IsDir() && c.Kind != overlay.ModeChanged && c.Kind != overlay.TypeChanged {
		return nil // its files come by themselves
	}
	return d.out.raw(plain, overlay.QuoteName(p.Shown(c.Path)))
}

// statWidth is for the names, graphWidth for the signs behind them. Lines are
// printed as they come, so neither fits itself to the longest.
const statWidth, graphWidth = 40, 30

func (d *diff) stat(p *picked, c overlay.Change) error {
	name := overlay.QuoteName(p.Shown(c.Path))
	text := ""
	switch l := c.Lines; {
	case c.IsDir() && c.Kind == overlay.ModeChanged, c.Kind == overlay.ModeChanged:
		text = fmt.Sprintf("mode %o -> %o", c.Lower.Perm(), c.Upper.Perm())
	case c.IsDir() && c.Kind != overlay.TypeChanged:
		return nil
	case l.Binary:
		text = fmt.Sprintf("Bin %d -> %d bytes", c.Lower.Size, c.Upper.Size)
	case c.Upper.Exists() && !c.Upper.IsRegular() && !c.Upper.IsSymlink():
		text = c.Upper.TypeName()
	default:
		d.sum.Added += l.Added
		d.sum.Removed += l.Removed
		n := l.Added + l.Removed
		added, removed := l.Added, l.Removed
		if n > graphWidth {
			added = (l.Added*graphWidth + n - 1) / n
			removed = graphWidth - added
			if l.Removed > 0 && removed == 0 {
				added, removed = added-1, 1
			}
		}
		text = fmt.Sprintf("%5d ", n) + d.sign(green, '+', added) + d.sign(red, '-', removed)
	}
	d.files++
	return d.out.raw(plain, strings.TrimRight(fmt.Sprintf(" %-*s | %s", statWidth, name, text), " "))
}

func (d *diff) sign(c colour, sign byte, n int) string {
	s := strings.Repeat(string(sign), n)
	if n > 0 && d.out.colour {
		return "\x1b[" + string(c) + "m" + s + "\x1b[m"
	}
	return s
}

func (d *diff) total() {
	if d.files == 0 {
		return
	}
	line := " " + count(d.files, "file", "files") + " changed"
	if d.sum.Added > 0 {
		line += ", " + count(int64(d.sum.Added), "insertion(+)", "insertions(+)")
	}
	if d.sum.Removed > 0 {
		line += ", " + count(int64(d.sum.Removed), "deletion(-)", "deletions(-)")
	}
	d.out.raw(plain, line)
}
