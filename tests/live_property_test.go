package tests

import (
	"fmt"
	"io"
	"math/rand/v2"
	"strings"
	"testing"
)

// driven is a run that lives for a whole test, and that gets scripts one by one.
type driven struct {
	*running
	in    io.WriteCloser
	count int
}

// drive starts such a run. Beside the scripts it writes numbers, now and then, into
// a file that it holds open.
func (a account) drive(t *testing.T, tree string) *driven {
	t.Helper()
	d := &driven{}
	r, w := io.Pipe()
	d.in = w
	d.running = a.backgroundWith(t, tree, r, "--", "sh", "-c", `(exec 3>>log </dev/null; i=0; while [ ! -e /tmp/end ]; do i=$((i+1)); echo $i >&3; sleep 0.03; done; echo "wrote $i") & sh; touch /tmp/end; wait`)
	return d
}

// do runs a script inside and waits for its end.
func (d *driven) do(t *testing.T, script string) {
	t.Helper()
	d.count++
	fmt.Fprintf(d.in, "cat >/tmp/script <<'END'\n%sEND\nsh /tmp/script </dev/null >/dev/null 2>&1; echo done %d\n", script, d.count)
	soon(t, "the end of a script", func() bool { return strings.Contains(d.out.String(), fmt.Sprintf("done %d\n", d.count)) })
}

// without is a listing without a file.
func (l listing) without(path string) listing {
	delete(l, path)
	return l
}

// part is what a listing has at and below a path, and rest what it has elsewhere.
func (l listing) part(path string) (part, rest listing) {
	part, rest = listing{}, listing{}
	for p, s := range l {
		if p == path || strings.HasPrefix(p, path+"/") {
			part[p] = s
		} else {
			rest[p] = s
		}
	}
	return part, rest
}

// Whatever builds do while status, pull and drop are done from outside: status
// names exactly the difference, a pull changes nothing inside and brings what it
// names, a drop changes what it names and nothing else, nothing that a build wrote
// is lost, and in the end pulling everything makes the host's tree what the layer
// shows.
func TestLiveProperty(t *testing.T) {
	t.Parallel()
	needUserNS(t)
	for seed := range uint64(6) {
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			t.Parallel()
			a := newAccount(t)
			r := rand.New(rand.NewPCG(seed, 37))
			tree := a.randomTree(t, r)
			// One that a pull may not make what it is here.
			if got := finish(t, a.command(tree, nil, "sh", "-c", "echo 1 >s; chmod 4711 s")); got.Status != 0 {
				t.Fatal(got)
			}
			run := a.drive(t, tree)
			a.lives(t, tree, 1)
			script, round := "", 0
			check := func(what string, got, want listing) {
				t.Helper()
				if d := expected(want, got); len(d) > 0 {
					t.Fatalf("seed %d, round %d: %s: %q\nafter\n%s", seed, round, what, d, script)
				}
			}
			host := func() listing { return a.listHost(t, tree).without("log") }
			inside := func() listing { return a.listInside(t, tree).without("log") }
			for round = range 4 {
				script = randomOps(r, 20) + "echo 2 >>s\n"
				run.do(t, script)
				if r.IntN(2) == 0 {
					more := randomOps(r, 5)
					script += more
					if got := a.sbx(t, tree, "--", "sh", "-c", more); got.Status != 0 {
						t.Fatal(got)
					}
				}
				there, here := inside(), host()
				got := a.sbx(t, tree, "status", "--all", "-z")
				if got.Status != 0 || got.Stderr != "" {
					t.Fatal(got)
				}
				var listed []string
				for _, s := range said(t, got.Stdout, here) {
					if !strings.HasSuffix(s, " log") {
						listed = append(listed, s)
					}
				}
				if want := expected(here, there); fmt.Sprint(listed) != fmt.Sprint(want) {
					t.Fatalf("seed %d, round %d: status says\n%q\nwant\n%q\nafter\n%s", seed, round, listed, want, script)
				}

				parts := []string{"a", "b", "é", "c d", "x.c", "s"}
				r.Shuffle(len(parts), func(i, j int) { parts[i], parts[j] = parts[j], parts[i] })
				pulled, dropped := parts[0], parts[1]
				if got := a.sbx(t, tree, "pull", "log"); got.Status != 0 && !strings.Contains(got.Stderr, "writing it at this moment") {
					t.Fatal(got)
				}
				if got := a.sbx(t, tree, "pull", "--unsafe", "--all", pulled); got.Status > 1 && !strings.Contains(got.Stderr, "no change") {
					t.Fatal(got)
				}
				check("inside after a pull of "+pulled, inside(), there)
				want, _ := there.plain().part(pulled)
				now, rest := host().plain().part(pulled)
				check("pulled "+pulled, now, want)
				_, before := here.plain().part(pulled)
				check("the host beside the pull", rest, before)

				here = host()
				if got := a.sbx(t, tree, "drop", dropped); got.Status > 1 {
					t.Fatal(got)
				}
				check("the host after a drop", host(), here)
				want, _ = here.masked().part(dropped)
				_, before = there.part(dropped)
				after := inside()
				now, _ = after.masked().part(dropped)
				_, rest = after.part(dropped)
				check("dropped "+dropped, now, want)
				check("inside beside the drop", rest, before)
			}
			last := inside()
			run.in.Close()
			if err := run.ends(t); err != nil {
				t.Fatalf("%v: %s", err, run.out.String())
			}
			check("the layer at rest", inside(), last)
			// All is no name for --unsafe.
			a.sbx(t, tree, "pull", "--unsafe", "--all", "--", "a", "b", "é", "c d", "x.c", "s", "a-b", "log")
			if got := a.sbx(t, tree, "pull", "--all"); got.Status > 1 {
				t.Fatal(got)
			}
			check("pulled", host().plain(), last.plain())
			check("inside after the pull of all", inside().plain(), last.plain())
			if got := a.sbx(t, tree, "pull", "--all", "--dry-run"); strings.Contains(got.Stderr, "would pull") {
				t.Errorf("something is left to pull: %v", got)
			}
			var wrote int
			out := run.out.String()
			fmt.Sscanf(out[strings.LastIndex(out, "wrote "):], "wrote %d", &wrote)
			numbers := finish(t, a.command(tree, nil, "cat", "log")).Stdout
			for i := range wrote {
				line, rest, _ := strings.Cut(numbers, "\n")
				if line != fmt.Sprint(i+1) {
					t.Fatalf("line %d of %d of the log is %q", i+1, wrote, line)
				}
				numbers = rest
			}
			if wrote == 0 || numbers != "" {
				t.Errorf("%d lines were written, and the log ends in %q", wrote, numbers)
			}
		})
	}
}
