package tests

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
)

// The same while a run lives, which has the mount: status is right, a part that is
// dropped is the host's in all runs, and what is pulled is what the runs see. When the
// last has ended, nothing has been lost and nothing is left to pull.
func TestPullPropertyLive(t *testing.T) {
	t.Parallel()
	needUserNS(t)
	for seed := range uint64(6) {
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			t.Parallel()
			a := newAccount(t)
			r := rand.New(rand.NewPCG(seed, 29))
			tree := a.tree(t, map[string]string{".git/HEAD": "ref: refs/heads/main\n", "a/a": "1\n", "a/b/x.c": "22\n", "b": "1\n", "é/c d/a": "", "x.c": "old\n"})
			if got := finish(t, a.command(tree, nil, "sh", "-c", randomOps(r, 30))); got.Status != 0 {
				t.Fatal(got)
			}
			if got := finish(t, a.command(tree, nil, "sh", "-c", "echo 1 >s; chmod 4711 s")); got.Status != 0 {
				t.Fatal(got)
			}
			for round := range 3 {
				living := a.background(t, tree, "--", "sleep", "1000")
				a.lives(t, tree, 1)
				script := randomOps(r, 25) + "echo 2 >s\n"
				if got := a.sbx(t, tree, "--", "sh", "-c", script); got.Status != 0 {
					t.Fatal(got)
				}
				check := func(what string, got, want listing) {
					t.Helper()
					if d := expected(want, got); len(d) > 0 {
						t.Fatalf("seed %d, round %d: %s: %q\nafter\n%s", seed, round, what, d, script)
					}
				}
				host, now := a.listHost(t, tree), a.listInside(t, tree)
				status := a.sbx(t, tree, "status", "--all", "-z")
				if want, said := expected(host, now), said(t, status.Stdout, host); !slices.Equal(said, want) {
					t.Fatalf("seed %d, round %d: status says\n%q\nwant\n%q\nafter\n%s", seed, round, said, want, script)
				}
				part := []string{"a", "b", "é", "s"}[r.IntN(4)]
				if got := a.sbx(t, tree, "drop", part); got.Status > 1 {
					t.Fatal(got)
				}
				want := listing{}
				for p, s := range now {
					if p != part && !strings.HasPrefix(p, part+"/") {
						want[p] = s
					}
				}
				for p, s := range host {
					if p == part || strings.HasPrefix(p, part+"/") {
						want[p] = s
					}
				}
				now = a.listInside(t, tree)
				check("dropped "+part, now, want)
				check("the host after a drop", a.listHost(t, tree), host)
				if round > 0 {
					if got := a.sbx(t, tree, "pull", "--unsafe", "--all", "."); got.Status > 1 {
						t.Fatal(got)
					}
					check("pulled", a.listHost(t, tree).plain(), now.plain())
					check("inside after the pull", a.listInside(t, tree), now)
				}
				if got := a.sbx(t, tree, "stop", "last"); got.Status != 0 {
					t.Fatal(got)
				}
				living.ends(t)
				check("inside when the last run has ended", a.listInside(t, tree).plain(), now.plain())
				if round > 0 {
					if got := a.sbx(t, tree, "pull", "--all", "--dry-run"); strings.Contains(got.Stderr, "would pull") {
						t.Errorf("seed %d, round %d: %v\nafter\n%s", seed, round, got, script)
					}
				}
			}
		})
	}
}
