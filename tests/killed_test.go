package tests

import (
	"strings"
	"testing"
)

// killed is the name of a run that has changed the file "a", and of which sbx was killed just
// now.
func (a account) killed(t *testing.T, tree string) (run string) {
	t.Helper()
	r := a.background(t, tree, "--", "sh", "-c", `echo layer >a; for i in $(seq 50); do sleep 1000 & done; wait`)
	run = a.lives(t, tree, 1)[0]["run"].(string)
	soon(t, "a change", func() bool { return there(a.upperFile(t, tree, "a")) })
	r.Process.Kill()
	r.ends(t)
	return run
}

// TestKilledThenVerbs: a run that was killed has let go of the layer for who comes next.
func TestKilledThenVerbs(t *testing.T) {
	t.Parallel()
	needUserNS(t)
	a := newAccount(t)
	tree := a.tree(t, map[string]string{"a": "host\n"})
	for _, args := range [][]string{{"drop", "a"}, {"layer", "copy", "default", "other"}, {"export"}, {"reset"}, {"drop", "--all"}, {"reset", "--all"}} {
		a.killed(t, tree)
		if r := a.sbx(t, tree, args...); r.Status != 0 {
			t.Errorf("%q just after a kill: %v", args, r)
		}
	}
}

// TestKilledRecord: it has a record, too.
func TestKilledRecord(t *testing.T) {
	t.Parallel()
	needUserNS(t)
	a := newAccount(t)
	tree := a.tree(t, map[string]string{"a": "host\n"})
	id := a.killed(t, tree)
	for range 2 {
		soon(t, "a record", func() bool { return strings.Contains(a.sbx(t, tree, "log").Stdout, id) })
		if r := a.sbx(t, tree, "log", "--json", id); r.Status != 0 || !strings.Contains(r.Stdout, `"signal": 9`) || !strings.Contains(r.Stdout, "echo layer") || !strings.Contains(r.Stdout, tree) {
			t.Errorf("log %s: %v", id, r)
		}
	}
	if r := a.sbx(t, tree, "log"); strings.Count(r.Stdout, id) != 1 {
		t.Errorf("log: %v", r)
	}
}
