package tests

import "testing"

// TestEscapeDropWritten: a file that a build has open for writing is dropped in place, by sbx
// on the host. However fast the build exchanges it, or its directory, for a symlink, nothing
// outside is written to.
func TestEscapeDropWritten(t *testing.T) {
	t.Parallel()
	needUserNS(t)
	a := newAccount(t)
	victim := a.dir(t)
	a.mkTree(t, victim, map[string]string{"f": "precious"})
	tree := a.tree(t, map[string]string{"f": "host\n", "d/f": "host\n"})
	a.arm(t, tree)
	same, sameTree := unchanged(t, victim), unchanged(t, tree)
	run := a.background(t, tree, "--", "sh", "-c", `
		ln -s "$1"/f link; rm -r d; mkdir d d2; ln -s "$1"/f d2/f; ./victim "swap f link" & ./victim "swap d d2" &
		while :; do
			for at in f d/f; do exec 3>new; echo mine >&3; sleep 0.1 & mv -T new $at; done
			ln -s "$1"/f new; mv -T new link; sleep 0.01
		done`, "sh", victim)
	a.lives(t, tree, 1)
	rounds, dropped := 100, 0
	if testing.Short() {
		rounds = 20
	}
	for range rounds {
		got := a.sbx(t, tree, "drop", "f", "d/f")
		if got.Status > 1 {
			t.Fatal(got)
		}
		if got.Status == 0 {
			dropped++
		}
	}
	if dropped == 0 {
		t.Error("nothing was dropped, so that the test shows nothing")
	}
	if got := a.sbx(t, tree, "stop", "last"); got.Status != 0 {
		t.Fatal(got)
	}
	run.ends(t)
	same()
	sameTree()
}
