package tests

import (
	"archive/tar"
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"
)

// plain is a listing without what never comes to the host: fifos, set-user-id
// bits.
func (l listing) plain() listing {
	out := l.masked()
	for p, s := range out {
		if s[0] == tar.TypeFifo {
			delete(out, p)
		}
	}
	return out
}

// Whatever builds do: a layer that was exported, imported or copied shows the
// same tree; dropping everything shows the host's again, and dropping a part
// that part; and pulling everything makes the host's tree what the layer shows,
// and the layer empty.
func TestPullProperty(t *testing.T) {
	t.Parallel()
	needUserNS(t)
	for seed := range uint64(6) {
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			t.Parallel()
			a := newAccount(t)
			r := rand.New(rand.NewPCG(seed, 23))
			tree := a.randomTree(t, r)
			for round := range 3 {
				script := randomOps(r, 25)
				if got := a.sbx(t, tree, "--", "sh", "-c", script); got.Status != 0 {
					t.Fatal(got)
				}
				check := func(what string, got, want listing) {
					t.Helper()
					if d := expected(want, got); len(d) > 0 {
						t.Fatalf("seed %d, round %d: %s: %q\nafter\n%s", seed, round, what, d, script)
					}
				}
				host, inside := a.listHost(t, tree), a.listInside(t, tree)
				other := func(layer string) listing {
					t.Helper()
					got := a.sbx(t, tree, append([]string{"--layer", layer, "--"}, tarArgs...)...)
					if got.Status > 1 {
						t.Fatal(got)
					}
					return list(t, got.Stdout)
				}
				sh := func(line string) {
					t.Helper()
					if got := finish(t, a.command(tree, nil, "sh", "-ec", line)); got.Status != 0 {
						t.Fatalf("seed %d, round %d: %s: %v\nafter\n%s", seed, round, line, got, script)
					}
				}
				// A set-user-id bit is not for an archive.
				sh("sbx export >~/x.tar.zst; sbx import --force --layer moved <~/x.tar.zst; sbx layer copy default copied")
				check("imported", other("moved").masked(), inside.masked())
				check("copied", other("copied"), inside)

				// A part is the host's after its drop, all else is as it was.
				now := inside
				for _, part := range []string{"a", "b", "é"} {
					got := a.sbx(t, tree, "drop", "--layer", "copied", part)
					if got.Status > 1 {
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
					now = other("copied")
					check("dropped "+part, now, want)
					check("the host after a drop", a.listHost(t, tree), host)
				}
				sh("sbx drop --layer moved --all; sbx layer rm copied 2>/dev/null")
				check("dropped all", other("moved"), host)
				if round == 2 {
					// All is no name for --unsafe.
					sh(`sbx pull --unsafe --all -- a b é x.c 'c d' a-b || test $? = 1; sbx pull --all || test $? = 1`)
					check("pulled", a.listHost(t, tree).plain(), inside.plain())
					check("inside after the pull", a.listInside(t, tree).plain(), inside.plain())
				}
			}
		})
	}
}

// masked is a listing without set-user-id bits.
func (l listing) masked() listing {
	out := listing{}
	for p, s := range l {
		w := strings.SplitN(s, " ", 3)
		var mode uint32
		if w[1] != "" {
			fmt.Sscanf(w[1], "%o", &mode)
			w[1] = fmt.Sprintf("%o", mode&0o777)
		}
		out[p] = strings.Join(w, " ")
	}
	return out
}
