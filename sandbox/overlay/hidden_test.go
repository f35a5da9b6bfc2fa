package overlay

import (
	"os"
	"slices"
	"strings"
	"testing"
)

// checkShadowed compares what status shows as shadowed.
func checkShadowed(t *testing.T, o *Opened, n Notes, when, want string) {
	t.Helper()
	var list []string
	for c, err := range o.Changes(Options{All: true, Base: n.Base, Notes: n}) {
		must(t, err)
		if c.Shadowed {
			list = append(list, string(c.Kind.Letter())+c.Path)
		}
	}
	slices.Sort(list)
	if got := strings.Join(list, " "); got != want {
		t.Errorf("%s: %q is shadowed, want %q", when, got, want)
	}
}

// TestHidden: what the host edits below a directory that the layer has made anew is
// shadowed, and not deleted by a pull of all; what it had edited before is not.
func TestHidden(t *testing.T) {
	p := newPair(t)
	fill(t, p.Lower, `
		op/before=1
		op/after=1
		op/s/deep=1
		op/s/quiet=1
		op/gone/x=1
	`)
	tick()
	fill(t, p.Lower, "op/before=edited\n")
	tick()
	fill(t, p.Upper, `
		op!/
		op/new=1
		op/s/own=1
	`)
	o, n := mustOpen(t, p), newNotes(t)
	checkShadowed(t, o, n, "before the first note", "")
	must(t, o.Settle(n))
	checkShadowed(t, o, n, "noted", "")
	tick()
	fill(t, p.Lower, `
		op/after=edited
		op/s/deep=edited
		op/gone/x=edited
		op/added=1
	`)
	check := func(when string) {
		t.Helper()
		checkShadowed(t, o, n, when, "Dop/added Dop/after Dop/s/deep")
	}
	check("edited")
	must(t, o.Settle(n))
	check("settled")
	// A build that makes it anew does not make the edits older.
	must(t, os.RemoveAll(p.Upper+"/op"))
	tick()
	fill(t, p.Upper, `
		op!/
		op/new=1
		op/s/own=1
	`)
	must(t, o.Settle(n))
	check("made anew")

	var refused []string
	must(t, o.Pull(n, PullOptions{Selection: Selection{All: true}, Report: func(out Outcome) {
		if !out.Done() {
			refused = append(refused, out.Change.Path)
		}
	}}))
	if got := strings.Join(refused, " "); got != "op/added op/after op/gone op/s/deep" {
		t.Errorf("refused: %s", got)
	}
	checkListing(t, p.Lower, `
		op/
		op/added=1
		op/after=edited
		op/gone/
		op/gone/x=edited
		op/new=1
		op/s/
		op/s/deep=edited
		op/s/own=1
	`)
}

// TestHiddenPulled: what a pull has brought, and the build deletes then, was not edited by
// the host.
func TestHiddenPulled(t *testing.T) {
	p := newPair(t)
	fill(t, p.Lower, "op/a=1\n")
	tick()
	fill(t, p.Upper, "op!/\nop/n=1\n")
	o, n := mustOpen(t, p), newNotes(t)
	must(t, o.Pull(n, PullOptions{Selection: Selection{Paths: []string{"op/n"}}, Live: true}))
	must(t, os.Remove(p.Upper+"/op/n"))
	for _, when := range []string{"live", "settled"} {
		checkShadowed(t, o, n, when, "")
		must(t, o.Settle(n))
	}
	tick()
	fill(t, p.Lower, "op/n=edited\n")
	checkShadowed(t, o, n, "edited", "Dop/n")
}

// TestRemovedAbove: what the host has removed with the directory above does not come back
// by a pull of all.
func TestRemovedAbove(t *testing.T) {
	p := newPair(t)
	fill(t, p.Lower, `
		d/f=1
		d/e/g=1
	`)
	tick()
	fill(t, p.Upper, `
		d/f=2
		d/e/g=2
		d/new=2
	`)
	o, n := mustOpen(t, p), newNotes(t)
	must(t, o.Settle(n))
	must(t, os.RemoveAll(p.Lower+"/d"))
	for range 2 {
		checkShadowed(t, o, n, "shadowed", "Ad Ad/e Ad/e/g Ad/f")
		must(t, o.Settle(n))
	}
	must(t, o.Pull(n, PullOptions{Selection: Selection{Paths: []string{"d/f", "d/e"}}}))
	must(t, o.Pull(n, PullOptions{Selection: Selection{All: true}}))
	checkListing(t, p.Lower, `
		d/
		d/new=2
	`)
}

// TestPulledLinks: names of one file go from the layer when all of them are pulled.
func TestPulledLinks(t *testing.T) {
	p := newPair(t)
	fill(t, p.Lower, "d/z=0\n")
	fill(t, p.Upper, "x=1\nd/\n")
	must(t, os.Link(p.Upper+"/x", p.Upper+"/y"))
	must(t, os.Link(p.Upper+"/x", p.Upper+"/d/z"))
	o, n := mustOpen(t, p), newNotes(t)
	must(t, o.Pull(n, PullOptions{Selection: Selection{Paths: []string{"x", "d"}}}))
	checkListing(t, p.Upper, "d/\nd/z=1\nx=1\ny=1\n")
	must(t, o.Pull(n, PullOptions{Selection: Selection{All: true}}))
	must(t, o.Settle(n))
	checkListing(t, p.Upper, "")
	checkListing(t, p.Lower, "d/\nd/z=1\nx=1\ny=1\n")
	fill(t, p.Lower, "x=2\n")
	checkShadowed(t, o, n, "shadowed", "")
}

// TestHiddenReplaced: another directory that the host has put in the place of one that is
// hidden is shadowed with all that is in it, whatever its times.
func TestHiddenReplaced(t *testing.T) {
	p := newPair(t)
	fill(t, p.Lower, `
		op/a=1
		op/s/b=1
		file=1
		other/old=1
		other2/old=1
		other3/old=1
	`)
	tick()
	fill(t, p.Upper, `
		op!/
		op/s/own=1
		file/own=1
	`)
	opaque(t, p.Upper+"/file")
	o, n := mustOpen(t, p), newNotes(t)
	must(t, o.Settle(n))
	tick()
	must(t, os.RemoveAll(p.Lower+"/op/s"))
	must(t, os.Rename(p.Lower+"/other", p.Lower+"/op/s"))
	must(t, os.Remove(p.Lower+"/file"))
	must(t, os.Rename(p.Lower+"/other2", p.Lower+"/file"))
	check := func(want string) {
		t.Helper()
		for range 2 {
			checkShadowed(t, o, n, "replaced", want)
			must(t, o.Settle(n))
		}
	}
	check("Dfile/old Dop/s/old")
	must(t, o.Pull(n, PullOptions{Selection: Selection{All: true}}))
	must(t, os.RemoveAll(p.Lower+"/op"))
	must(t, os.Rename(p.Lower+"/other3", p.Lower+"/op"))
	check("Aop/s Aop/s/own Dfile/old Dop/old")
	must(t, o.Pull(n, PullOptions{Selection: Selection{All: true}}))
	if got := listing(t, p.Lower); !strings.Contains(got, "op/old=1") || !strings.Contains(got, "file/old=1") {
		t.Errorf("the host has\n%s", got)
	}
}
