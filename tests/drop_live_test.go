package tests

import (
	"strings"
	"testing"
)

// TestDropLiveAll: all of a layer is dropped while a run has it mounted: the tree and its
// directories of any kind.
func TestDropLiveAll(t *testing.T) {
	t.Parallel()
	needUserNS(t)
	a := newAccount(t)
	tree := a.tree(t, map[string]string{"a": "host\n", "gone/x": "host\n", "d/e/f": "host\n", "type": "host\n"})
	run := a.background(t, tree, "--", "sh", "-c", `echo mine >a; rm -r gone; echo mine >d/e/f; rm type; mkdir -p type/new/deep; : >type/new/deep/f; mkfifo p; ln -s a l; chmod 700 d; : >ready; sleep 1000`)
	a.lives(t, tree, 1)
	soon(t, "the build's changes", func() bool { return there(a.upperFile(t, tree, "ready")) })
	want := a.listHost(t, tree)
	for _, args := range [][]string{{"drop", "--all"}, {"drop", "--all"}} {
		if r := a.sbx(t, tree, args...); r.Status != 0 {
			t.Errorf("%q: %v", args, r)
		}
	}
	if d := expected(want, a.listInside(t, tree)); len(d) > 0 {
		t.Errorf("inside differs: %q", d)
	}
	if r := a.sbx(t, tree, "status", "--porcelain"); r.Status != 0 || r.Stdout != "" {
		t.Errorf("status: %v", r)
	}
	if r := a.sbx(t, tree, "stop", "last"); r.Status != 0 {
		t.Error(r)
	}
	run.ends(t)
	if d := expected(want, a.listInside(t, tree)); len(d) > 0 {
		t.Errorf("afterwards inside differs: %q", d)
	}
	a.nothingLeft(t, tree)
}

// TestDropLiveEdited: what a drop or a pull has left in the layer while a run had it mounted
// is gone when the last has ended, also if the host has edited it by then: it was never the
// layer's own. What the build has written to it since is.
func TestDropLiveEdited(t *testing.T) {
	t.Parallel()
	needUserNS(t)
	a := newAccount(t)
	tree := a.tree(t, map[string]string{"dropped": "host\n", "white": "host\n", "gone": "host\n", "pulled": "host\n", "deleted": "host\n", "kept": "host\n", "again": "host\n", "link": "host\n"})
	g := a.guest(t, tree)
	g.do(`for f in dropped gone pulled kept again; do echo layer >>$f; done; rm white deleted; echo layer >new; echo layer >new2; ln -sf pulled link`)
	for _, args := range [][]string{{"drop", "dropped", "white", "gone", "again", "link"}, {"pull", "pulled", "new", "new2", "deleted"}, {"pull", "--keep", "kept"}} {
		if r := a.sbx(t, tree, args...); r.Status != 0 {
			t.Fatalf("%q: %v", args, r)
		}
	}
	g.do(`echo build >>again`)
	a.edit(t, tree, `for f in dropped white pulled new deleted kept; do echo edited >$f; done; rm gone new2; ln -sf new link`)
	if r := a.sbx(t, tree, "status", "--porcelain"); !strings.Contains(r.Stdout, " dropped") || !strings.Contains(r.Stdout, " pulled") {
		t.Errorf("while the run lives the edits are shadowed: %v", r)
	}
	g.ends()
	r := a.sbx(t, tree, "--", "sh", "-c", `cat dropped white pulled new deleted kept again; readlink link; ls gone new2`)
	if want := "edited\nedited\nedited\nedited\nedited\nhost\nlayer\nhost\nbuild\nnew\n"; r.Stdout != want {
		t.Errorf("inside: %v\nwant\n%s", r, want)
	}
	if r := a.sbx(t, tree, "status", "--porcelain"); strings.Count(r.Stdout, "\n") != 2 || !strings.Contains(r.Stdout, " kept") || !strings.Contains(r.Stdout, " again") {
		t.Errorf("status: %v", r)
	}
}

// TestDropLiveElsewhere: while a run lives that does not have a joined directory, what the
// layer changes there stays, which is said, and the rest is dropped.
func TestDropLiveElsewhere(t *testing.T) {
	t.Parallel()
	needUserNS(t)
	a := newAccount(t)
	tree := a.tree(t, map[string]string{"a": "host\n"})
	lib := a.tree(t, map[string]string{"l": "host\n"})
	if r := a.sbx(t, tree, "--with", lib, "--", "sh", "-c", `echo layer >`+lib+`/l`); r.Status != 0 {
		t.Fatal(r)
	}
	run := a.background(t, tree, "--", "sh", "-c", `echo layer >a; sleep 1000`)
	a.lives(t, tree, 1)
	soon(t, "a change", func() bool { return there(a.upperFile(t, tree, "a")) })
	for _, args := range [][]string{{"drop", "--all"}, {"drop", "--all"}, {"drop", lib + "/l"}} {
		if r := a.sbx(t, tree, args...); r.Status != 1 || !strings.Contains(r.Stderr, "no run that lives has it") || !strings.Contains(r.Stderr, lib) {
			t.Errorf("%q: %v", args, r)
		}
	}
	if r := a.sbx(t, tree, "status", "--porcelain"); strings.Count(r.Stdout, "\n") != 1 {
		t.Errorf("status: %v", r)
	}
	run.Process.Kill()
	run.ends(t)
	if r := a.sbx(t, tree, "drop", "--all"); r.Status != 0 {
		t.Error(r)
	}
	if r := a.sbx(t, tree, "status", "--porcelain"); r.Status != 0 || r.Stdout != "" {
		t.Errorf("in the end: %v", r)
	}
}
