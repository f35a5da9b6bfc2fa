package overlay

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// pull pulls and tells what became of each path, a line each.
func pull(t testing.TB, p Pair, n Notes, opts PullOptions) string {
	t.Helper()
	o, err := p.Open()
	must(t, err)
	defer o.Close()
	var lines []string
	opts.Report = func(out Outcome) {
		line := string(out.Change.Kind.Letter()) + " " + out.Change.Path
		switch {
		case out.Err != nil:
			line += ": " + out.Err.Error()
		case out.Unnamed:
			line += ": unnamed"
		case !out.Done():
			line += ": " + strings.Join(out.Refused, "; ")
		}
		lines = append(lines, line)
	}
	must(t, o.Pull(n, opts))
	slices.Sort(lines)
	return strings.Join(lines, "\n") + "\n"
}

func named(paths ...string) Selection { return Selection{Paths: paths} }

func checkPull(t *testing.T, p Pair, n Notes, opts PullOptions, want string) {
	t.Helper()
	if got := pull(t, p, n, opts); got != text(want) {
		t.Errorf("got\n%swant\n%s", got, text(want))
	}
}

// everything is a pair with a change of each kind.
func everything(t testing.TB) Pair {
	p := newPair(t)
	fill(t, p.Lower, `
		mod=old
		gone=x
		mode=x
		todir=x
		tolink=x
		dtof/a/b=x
		wd/a/b=x
		op/a=1
		op/b=2
		op/s/x=1
		md/f=1
		link->a
		keep=x
	`)
	tick()
	fill(t, p.Upper, `
		mod=new text
		gone%
		mode:755=x
		todir/f=1
		tolink->mod
		dtof=now a file
		wd%
		op/
		op!/
		op/a=1
		op/c=3
		op/s/y=1
		md/:711
		md/g=2
		link->b
		new/a/b/c:755=deep
		new/empty/:700
		new/l->../mod
	`)
	tick()
	return p
}

// After a pull of everything the host is what the merged view was, and the layer
// is empty.
func TestPullAll(t *testing.T) {
	p, n := everything(t), newNotes(t)
	checkPull(t, p, n, PullOptions{Selection: Selection{All: true}}, `
		A md/g
		A new
		A new/a
		A new/a/b
		A new/a/b/c
		A new/empty
		A new/l
		A op/c
		A op/s/y
		A todir/f
		D gone
		D op/b
		D op/s/x
		D wd
		M link
		M mod
		P md
		P mode
		T dtof
		T todir
		T tolink
	`)
	checkListing(t, p.Upper, "")
	checkListing(t, p.Lower, `
		dtof=now a file
		keep=x
		link->b
		md/:711
		md/f=1
		md/g=2
		mod=new text
		mode:755=x
		new/
		new/a/
		new/a/b/
		new/a/b/c:755=deep
		new/empty/:700
		new/l->../mod
		op/
		op/a=1
		op/c=3
		op/s/
		op/s/y=1
		todir/
		todir/f=1
		tolink->mod
	`)
	if rest := slices.Collect(n.Journal.Paths(n.Pair)); len(rest) != 0 {
		t.Errorf("still noted: %q", rest)
	}
	if temps := n.Journal.Temps(n.Pair); len(temps) != 0 {
		t.Errorf("still temporary: %v", temps)
	}
}

// The time of modification comes along, ownership and set-user-id do not.
func TestPullMetadata(t *testing.T) {
	p, n := newPair(t), newNotes(t)
	fill(t, p.Upper, "f:4755=x\nd/g=x\nl->x\n")
	when := time.Unix(1_000_000_000, 123456789)
	for _, f := range []string{"f", "d/g", "d"} {
		must(t, os.Chtimes(filepath.Join(p.Upper, f), time.Time{}, when))
	}
	pull(t, p, n, PullOptions{Selection: named("")})
	for _, f := range []string{"f", "d/g", "d"} {
		st, err := os.Lstat(filepath.Join(p.Lower, f))
		must(t, err)
		if !st.ModTime().Equal(when) || st.Mode()&os.ModeSetuid != 0 {
			t.Errorf("%s: %v, %v", f, st.ModTime(), st.Mode())
		}
	}
}

// Large files keep their holes and their content.
func TestPullSparse(t *testing.T) {
	p, n := newPair(t), newNotes(t)
	f, err := os.Create(p.Upper + "/big")
	must(t, err)
	must(t, f.Truncate(1<<40))
	_, err = f.WriteAt([]byte("in the middle"), 1<<39)
	must(t, err)
	must(t, f.Close())
	must(t, os.WriteFile(p.Upper+"/dense", []byte(strings.Repeat("0123456789abcdef", 1<<16)), 0o644))
	pull(t, p, n, PullOptions{Selection: named("big", "dense")})
	var st unix.Stat_t
	must(t, unix.Lstat(p.Lower+"/big", &st))
	if st.Size != 1<<40 || st.Blocks > 64 {
		t.Errorf("%d bytes in %d blocks", st.Size, st.Blocks)
	}
	g, err := os.Open(p.Lower + "/big")
	must(t, err)
	defer g.Close()
	buf := make([]byte, 13)
	g.ReadAt(buf, 1<<39)
	dense, _ := os.ReadFile(p.Lower + "/dense")
	if string(buf) != "in the middle" || len(dense) != 1<<20 || !strings.HasSuffix(string(dense), "def") {
		t.Errorf("%q, %d bytes", buf, len(dense))
	}
}

// Only what was named comes, and a deletion only by its own name.
func TestPullSelection(t *testing.T) {
	const lower = "src/gone.c=x\nsrc/dir/f=x\nsrc/a.c=1\n"
	const upper = "src/gone.c%\nsrc/dir%\nsrc/a.c=2\nsrc/b.c=3\nsrc/sub/c.c=4\nother=5\nsrc/x*=6\n"
	glob := func(s string) Pattern {
		g, err := ParsePattern(s)
		must(t, err)
		return g
	}
	for _, tt := range []struct {
		name string
		s    Selection
		want string
	}{
		{"file", named("src/a.c"), "M src/a.c"},
		{"new in new", named("src/sub/c.c"), "A src/sub/c.c"},
		{"directory", named("src"), "A src/b.c\nA src/sub\nA src/sub/c.c\nA src/x*\nD src/dir: unnamed\nD src/gone.c: unnamed\nM src/a.c"},
		{"deletion", named("src/gone.c"), "D src/gone.c"},
		{"deleted directory", named("src/dir"), "D src/dir"},
		{"all below", Selection{All: true, Paths: []string{"src/dir", "src/gone.c"}}, "D src/dir\nD src/gone.c"},
		{"glob", Selection{Globs: []Pattern{glob("src/*.c")}}, "A src/b.c\nD src/gone.c: unnamed\nM src/a.c"},
		{"glob of all depths", Selection{Globs: []Pattern{glob("**/*.c")}}, "A src/b.c\nA src/sub/c.c\nD src/gone.c: unnamed\nM src/a.c"},
		{"glob of a directory", Selection{Globs: []Pattern{glob("*/su?")}}, "A src/sub\nA src/sub/c.c"},
		{"include", Selection{All: true, Include: []Pattern{glob("[bc].c")}}, "A src/b.c\nA src/sub/c.c"},
		{"include a path", Selection{All: true, Include: []Pattern{glob("src/*.c")}}, "A src/b.c\nD src/gone.c\nM src/a.c"},
		{"nothing", Selection{}, ""},
		{"absent", named("nothing", "src/a.c/x", "../x"), ""},
	} {
		t.Run(tt.name, func(t *testing.T) {
			p := newPair(t)
			fill(t, p.Lower, lower)
			tick()
			fill(t, p.Upper, upper)
			tick()
			before := listing(t, p.Lower)
			got := strings.TrimSpace(pull(t, p, newNotes(t), PullOptions{Selection: tt.s, DryRun: true}))
			if got != tt.want || listing(t, p.Lower) != before {
				t.Errorf("dry run: got\n%s\nwant\n%s\nlower:\n%s", got, tt.want, listing(t, p.Lower))
			}
			if got := strings.TrimSpace(pull(t, p, newNotes(t), PullOptions{Selection: tt.s})); got != tt.want {
				t.Errorf("got\n%s\nwant\n%s", got, tt.want)
			}
			rest := changes(t, p, Options{All: true})
			for line := range strings.Lines(tt.want) {
				line = strings.TrimSuffix(line, "\n")
				if !strings.Contains(line, ":") && strings.Contains(rest, line+"\n") {
					t.Errorf("%q was pulled and differs:\n%s", line, rest)
				}
			}
		})
	}
}

// What the host has changed since is refused, and with Unsafe overwritten.
func TestPullDrift(t *testing.T) {
	for _, noted := range []bool{true, false} {
		t.Run(fmt.Sprint(noted), func(t *testing.T) {
			p, n := newPair(t), newNotes(t)
			fill(t, p.Lower, "f=1\ng=1\ngone=1\nwd/a/b=1\nop/a/b=1\nt/x/y=1\nsame=1\n")
			tick()
			fill(t, p.Upper, "f=2\ng=2\ngone%\nwd%\nop!/\nt=2\nnew=2\nsame=2\n")
			opaque(t, p.Upper+"/op")
			tick()
			if noted {
				must(t, mustOpen(t, p).Settle(n))
			}
			// Deep below, so that only the files' own times tell.
			fill(t, p.Lower, "f=3\ngone=3\nwd/a/b=3\nop/a/b=3\nt/x/y=3\nnew=3\nsame=2\n")
			before := listing(t, p.Lower)
			all := PullOptions{Selection: Selection{All: true, Paths: []string{""}}}
			checkPull(t, p, n, all, `
				D gone: `+Drifted+`
				D op/a: `+Drifted+`
				D wd: `+Drifted+`
				M f: `+Drifted+`
				M g
				M new: `+Drifted+`
				T t: `+Drifted+`
			`)
			if after := listing(t, p.Lower); after != strings.Replace(before, "g=1", "g=2", 1) {
				t.Errorf("the host had\n%sand has\n%s", before, after)
			}
			// Neither all nor a pattern for all is a name.
			all.Unsafe = true
			refused := "D gone: " + Drifted + "\nD op/a: " + Drifted + "\nD wd: " + Drifted + "\nM f: " + Drifted + "\nM new: " + Drifted + "\nT t: " + Drifted + "\n"
			checkPull(t, p, n, all, refused)
			checkPull(t, p, n, PullOptions{Selection: Selection{All: true, Globs: []Pattern{{[]string{"*"}}, {[]string{"**", "*"}}}}, Unsafe: true}, refused)
			all.Paths = []string{"f", "gone", "new", "op", "t"}
			all.Globs = []Pattern{{[]string{"w*"}}}
			checkPull(t, p, n, all, "D gone\nD op/a\nD wd\nM f\nM new\nT t\n")
			checkListing(t, p.Lower, "f=2\ng=2\nnew=2\nop/\nsame=2\nt=2\n")
			checkListing(t, p.Upper, "")
		})
	}
}

// Live: the layer's copies stay, and are no drift afterwards.
func TestPullLive(t *testing.T) {
	p, n := everything(t), newNotes(t)
	before := listing(t, p.Upper)
	pull(t, p, n, PullOptions{Selection: Selection{All: true}, Live: true})
	if after := listing(t, p.Upper); after != before {
		t.Errorf("the upper was\n%sand is\n%s", before, after)
	}
	if rest := changes(t, p, Options{All: true, Base: n.Base}); rest != "" {
		t.Errorf("left are\n%s", rest)
	}
	// A run goes on writing: a change again, and no drift.
	must(t, os.WriteFile(p.Upper+"/mod", []byte("newer"), 0o644))
	checkChanges(t, p, Options{All: true, Base: n.Base}, "M mod\n")
	// The end of the last run.
	must(t, mustOpen(t, p).Settle(n))
	checkListing(t, p.Upper, "mod=newer")
}

// Keep: the copies stay when no run lives, too.
func TestPullKeep(t *testing.T) {
	p, n := newPair(t), newNotes(t)
	fill(t, p.Lower, "f=1\n")
	tick()
	fill(t, p.Upper, "f=2\ng=2\n")
	checkPull(t, p, n, PullOptions{Selection: named("f"), Keep: true}, "M f\n")
	must(t, mustOpen(t, p).Settle(n))
	checkListing(t, p.Upper, "f=2\ng=2")
	must(t, os.WriteFile(p.Lower+"/f", []byte("3"), 0o644))
	checkChanges(t, p, Options{Base: n.Base}, "M f shadowed\nA g\n")
}

// The guard's word is final, unless what it refuses was named.
func TestPullGuard(t *testing.T) {
	guard := func(c Change) []Reason {
		switch {
		case strings.HasPrefix(c.Path, "bad"):
			return []Reason{{Refuse, "bad"}}
		case c.Path == "never":
			return []Reason{{Never, "never"}}
		}
		return []Reason{{Note, "said"}}
	}
	p, n := newPair(t), newNotes(t)
	fill(t, p.Upper, "bad=1\nbad2=1\ngood=1\nnever=1\n")
	checkPull(t, p, n, PullOptions{Selection: Selection{All: true}, Guard: guard, Unsafe: true}, "A bad2: bad\nA bad: bad\nA good\nA never: never\n")
	checkPull(t, p, n, PullOptions{Selection: named("bad", "never"), Guard: guard, Unsafe: true}, "A bad\nA never: never\n")
	checkListing(t, p.Lower, "bad=1\ngood=1")
	checkListing(t, p.Upper, "bad2=1\nnever=1")
}

// What can never come.
func TestPullNever(t *testing.T) {
	p, n := newPair(t), newNotes(t)
	fill(t, p.Lower, "m=x\n")
	fill(t, p.Upper, "pipe|\nm:4644=x\nok=1\n")
	fd, err := unix.Socket(unix.AF_UNIX, unix.SOCK_STREAM, 0)
	must(t, err)
	defer unix.Close(fd)
	must(t, unix.Bind(fd, &unix.SockaddrUnix{Name: p.Upper + "/sock"}))
	checkPull(t, p, n, PullOptions{Selection: named(""), Unsafe: true}, `
		A ok
		A pipe: it is a fifo
		A sock: it is a socket
		P m: it is set-user-id, set-group-id or sticky
	`)
	checkListing(t, p.Lower, "m=x\nok=1")
}

// A host with a symlink, or a file, on the way is left alone.
func TestPullHostInTheWay(t *testing.T) {
	p, n := newPair(t), newNotes(t)
	out := t.TempDir()
	fill(t, p.Upper, "d/x=1\ne/x=1\nf/x=1\n")
	must(t, os.Symlink(out, p.Lower+"/d"))
	must(t, os.Symlink(".", p.Lower+"/e"))
	fill(t, p.Lower, "f=file\n")
	tick()
	got := pull(t, p, n, PullOptions{Selection: named("d/x", "e/x", "f/x")})
	if got != strings.ReplaceAll("A d/x: W\nA e/x: W\nA f/x: W\n", "W", "the host has a file or symlink in the place of a directory above it") {
		t.Errorf("got\n%s", got)
	}
	checkListing(t, out, "")
}

// An interrupted pull leaves temporaries, which the next removes, and nothing
// else that looks like one.
func TestPullTidies(t *testing.T) {
	p, n := newPair(t), newNotes(t)
	fill(t, p.Lower, "d/"+pullMark+"00-1=other\nd/f=1\n")
	tick()
	fill(t, p.Upper, "d/f=2\n")
	o := mustOpen(t, p)
	u := newPuller(o, n, PullOptions{})
	h, tmp, err := u.temp("d")
	must(t, err)
	must(t, unix.Mkdirat(h.fd, tmp, 0o700))
	h, tmp, err = u.temp("d")
	must(t, err)
	must(t, unix.Symlinkat("x", h.fd, tmp))
	u.close()
	if got := listing(t, p.Lower); strings.Count(got, pullMark) != 3 {
		t.Fatalf("the host has\n%s", got)
	}
	pull(t, p, n, PullOptions{Selection: named("d/f")})
	checkListing(t, p.Lower, "d/\nd/"+pullMark+"00-1=other\nd/f=2")
	if len(n.Journal.Temps(n.Pair)) != 0 {
		t.Error("the journal still has a temporary")
	}
}

// swap never loses a version that the caller has not seen.
func TestSwap(t *testing.T) {
	dir := t.TempDir()
	fd, err := unix.Open(dir, unix.O_PATH|unix.O_DIRECTORY, 0)
	must(t, err)
	defer unix.Close(fd)
	fill(t, dir, "f=1\ntmp=2\n")
	was, err := FingerprintOf(fd, "f")
	must(t, err)
	must(t, os.WriteFile(dir+"/f", []byte("saved"), 0o644))
	if err := swap(fd, "tmp", "f", was); !errors.Is(err, errHostChanged) {
		t.Error(err)
	}
	if err := takeAway(fd, "tmp2", "f", was); !errors.Is(err, errHostChanged) {
		t.Error(err)
	}
	if err := swap(fd, "tmp", "f", Fingerprint{}); !errors.Is(err, errHostAppeared) {
		t.Error(err)
	}
	must(t, os.Remove(dir+"/f"))
	if err := swap(fd, "tmp", "f", was); !errors.Is(err, errHostChanged) {
		t.Error(err)
	}
	checkListing(t, dir, "tmp=2")
	must(t, swap(fd, "tmp", "f", Fingerprint{}))
	checkListing(t, dir, "f=2")
}

func TestPattern(t *testing.T) {
	for _, tt := range []struct {
		pattern, path string
		want          bool
	}{
		{"a", "a", true}, {"a", "b/a", false}, {"*", "a", true}, {"*", "a/b", false}, {"*.c", ".c", true},
		{"**", "a/b/c", true}, {"**/c", "c", true}, {"**/c", "a/b/c", true}, {"**/c", "a/b/cc", false},
		{"a/**", "a", true}, {"a/**", "a/b/c", true}, {"a/**/b", "a/b", true}, {"a/**/b", "a/x/y/b", true}, {"a/**/b", "a/x/y/c", false},
		{"a/**/b/**/c", "a/b/x/b/c", true}, {"**/**/a", "a", true}, {"a?c", "abc", true}, {"a?c", "a/c", false},
		{"[a-c]x", "bx", true}, {"[^a]x", "ax", false}, {`\*`, "*", true}, {`\*`, "a", false}, {"a//b/", "a/b", true}, {"./a", "a", true},
	} {
		p, err := ParsePattern(tt.pattern)
		if err != nil {
			t.Errorf("%q: %v", tt.pattern, err)
		}
		if got := p.Match(tt.path); got != tt.want {
			t.Errorf("%q matches %q: %v", tt.pattern, tt.path, got)
		}
	}
	for _, bad := range []string{"[", "a/[b", `a\`} {
		if _, err := ParsePattern(bad); err == nil {
			t.Errorf("%q is a pattern", bad)
		}
	}
	slow, _ := ParsePattern(strings.Repeat("**/a/", 30) + "b")
	if slow.Match(strings.Repeat("a/", 3000) + "c") {
		t.Error("a long path matches")
	}
}

func BenchmarkPull10k(b *testing.B) {
	for b.Loop() {
		b.StopTimer()
		p, n := newPair(b), newNotes(b)
		for d := range many(100) {
			dir := fmt.Sprintf("/d%02d", d)
			mkdir(b, p.Lower+dir, 0o755)
			mkdir(b, p.Upper+dir, 0o755)
			for f := range 100 {
				name := fmt.Sprintf("%s/f%02d", dir, f)
				if f%2 == 0 {
					must(b, os.WriteFile(p.Lower+name, []byte("host"), 0o644))
				}
				must(b, os.WriteFile(p.Upper+name, []byte(strings.Repeat("layer ", 1000)), 0o644))
			}
		}
		o := mustOpen(b, p)
		b.StartTimer()
		must(b, o.Pull(n, PullOptions{Selection: Selection{All: true}, Unsafe: true, Guard: NewGuard(o).Check}))
		b.StopTimer()
		if !o.Empty() {
			b.Fatal("the layer still has something")
		}
		b.StartTimer()
	}
}

// What could not go back stays, and the error says where.
func TestSwapStranded(t *testing.T) {
	dir := t.TempDir()
	fd, err := unix.Open(dir, unix.O_PATH|unix.O_DIRECTORY, 0)
	must(t, err)
	defer unix.Close(fd)
	fill(t, dir, "f=another\ntmp=saved\n")
	err = putBack(fd, "tmp", "f")
	if !stranded(err) || !strings.Contains(err.Error(), `"tmp"`) || errors.Is(err, errHostChanged) {
		t.Error(err)
	}
	checkListing(t, dir, "f=another\ntmp=saved\n")
	must(t, os.Remove(dir+"/f"))
	if err := putBack(fd, "tmp", "f"); err != errHostChanged {
		t.Error(err)
	}
	checkListing(t, dir, "f=saved\n")
}

// A directory's set-group-ID bit is the host's business: neither taken from the
// layer nor lost.
func TestPullSetgid(t *testing.T) {
	p, n := newPair(t), newNotes(t)
	mkdir(t, p.Lower+"/shared", 0o755)
	must(t, unix.Chmod(p.Lower+"/shared", 0o2775))
	mkdir(t, p.Upper+"/shared", 0o755)
	mkdir(t, p.Upper+"/shared/new", 0o755)
	mkdir(t, p.Upper+"/new", 0o755)
	must(t, unix.Chmod(p.Upper+"/new", 0o2755))
	pull(t, p, n, PullOptions{Selection: Selection{All: true}})
	for path, want := range map[string]uint32{"shared": 0o2755, "shared/new": 0o2755, "new": 0o755} {
		var st unix.Stat_t
		must(t, unix.Stat(p.Lower+"/"+path, &st))
		if st.Mode&0o7777 != want {
			t.Errorf("%s: mode %o, want %o", path, st.Mode&0o7777, want)
		}
	}
}
