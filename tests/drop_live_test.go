package tests

import "testing"

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
