package tests

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// closed makes files of other ids that the caller can neither read nor delete.
const closed = "mkdir p; echo s >p/s; chmod 600 p/s; chown -R 33:33 p; chmod 700 p; echo two >f; chown 12 f; touch up; "

// TestRootShared: runs of --root share a layer with files of other ids, and the verbs
// work beside them.
func TestRootShared(t *testing.T) {
	a := newAccount(t)
	a.needSubIDs(t)
	tree := a.tree(t, map[string]string{"f": "one\n"})
	run := a.background(t, tree, "--root", "--", "sh", "-c", closed+"sleep 1000")
	soon(t, "the run", func() bool { return a.sbx(t, tree, "--root", "--", "test", "-e", "up").Status == 0 })
	want := func(out string, args ...string) {
		t.Helper()
		if r := a.sbx(t, tree, args...); r.Status != 0 || r.Stdout != out {
			t.Errorf("%q: %v", args, r)
		}
	}
	want("33 s\n", "--root", "--", "sh", "-c", "echo $(stat -c %u p) $(cat p/s); echo three >>f; touch q; chown 4 q")
	want("two\nthree\n", "--root", "--", "sh", "-c", "cat f; rm q")
	if r := a.sbx(t, tree, "diff", "--layer", "root"); !strings.Contains(r.Stdout, "b/p/s\n@@ -0,0 +1 @@\n+s\n") {
		t.Errorf("diff: %v", r)
	}
	if r := a.sbx(t, tree, "pull", "--layer", "root", "f", "p"); r.Status != 0 || strings.Contains(r.Stderr, "nothing") {
		t.Errorf("pull: %v", r)
	}
	if data, err := os.ReadFile(filepath.Join(tree, "p/s")); err != nil || string(data) != "s\n" {
		t.Errorf("pulled: %q, %v", data, err)
	}
	want("4\n", "--root", "--", "sh", "-c", "echo 4 >p/s; cat p/s")
	if r := a.sbx(t, tree, "drop", "--layer", "root", "p/s"); r.Status != 0 {
		t.Errorf("drop: %v", r)
	}
	want("s\n", "--root", "--", "cat", "p/s")
	if r := a.sbx(t, tree, "reset", "--layer", "root"); r.Status == 0 || !strings.Contains(r.Stderr, "hint: sbx reset --force") {
		t.Errorf("reset beside a run: %v", r)
	}
	run.Process.Kill()
	run.ends(t)
	want("two\nthree\ns\n", "--root", "--", "cat", "f", "p/s")
	if r := a.sbx(t, tree, "reset", "--layer", "root"); r.Status != 0 {
		t.Errorf("reset: %v", r)
	}
}

// TestRootKilled: after kill -9 of sbx the next one puts the layer in order, whatever
// it is.
func TestRootKilled(t *testing.T) {
	a := newAccount(t)
	a.needSubIDs(t)
	for name, next := range map[string][]string{
		"run": {"--root", "--", "true"}, "status": {"status", "--layer", "root"}, "pull": {"pull", "--layer", "root", "p"},
		"export": {"export", "--layer", "root"}, "reset": {"reset", "--layer", "root"}, "rm": {"layer", "rm", "root"},
	} {
		t.Run(name, func(t *testing.T) {
			tree := a.tree(t, map[string]string{"f": "one\n"})
			run := a.background(t, tree, "--root", "--", "sh", "-c", closed+"(sleep 1000) & wait")
			soon(t, "the run", func() bool { return a.sbx(t, tree, "--root", "--", "test", "-e", "up").Status == 0 })
			run.Process.Kill()
			run.ends(t)
			for range 2 {
				if r := a.sbx(t, tree, next...); r.Status != 0 && name != "rm" {
					t.Errorf("%q: %v", next, r)
				}
			}
			if r := a.sbx(t, tree, "--root", "--", "true"); r.Status != 0 || r.Stderr != "" {
				t.Errorf("the next run: %v", r)
			}
		})
	}
}
