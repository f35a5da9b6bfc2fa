package overlay

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// patchText is the diff of a pair, as it goes into git apply.
func patchText(t testing.TB, p Pair, binary bool) string {
	t.Helper()
	o, err := p.Open()
	must(t, err)
	defer o.Close()
	var b strings.Builder
	for c, err := range o.Changes(Options{All: true, Gone: true, Lines: true}) {
		must(t, err)
		patches, err := o.Patches(c, c.Path, binary)
		must(t, err)
		sum := Lines{}
		for _, p := range patches {
			sum.Added += p.Added
			sum.Removed += p.Removed
			sum.Binary = sum.Binary || p.Binary
		}
		if sum != c.Lines && !c.Lines.Binary {
			t.Errorf("%q: %+v lines differ, the walk counts %+v", c.Path, sum, c.Lines)
		}
		for _, p := range patches {
			if p.Note != "" {
				fmt.Fprintln(&b, p.Note)
			}
			for _, l := range p.Head {
				fmt.Fprintln(&b, l)
			}
			for l := range p.Body() {
				b.WriteString(l + "\n")
			}
		}
	}
	return b.String()
}

func TestPatch(t *testing.T) {
	p := newPair(t)
	fill(t, p.Lower, "b=one\nd/x=1\ne=\nexe:755=x\nl->one\nmode=m\nno end=1\nt=text\nw:644=x\ns/:755")
	fill(t, p.Upper, "a/f=new\nb=two\nbin=nul\nd%\ne%\nexe:644=x\nl->two\nmode:600=m\nno end=2\nt->text\nw:755=y\nempty=\npipe|\nq\"\t=1\ns/:700")
	must(t, os.WriteFile(filepath.Join(p.Upper, "bin"), []byte("x\x00y"), 0o644))
	want := text(`
		diff --git a/a/f b/a/f
		new file mode 100644
		--- /dev/null
		+++ b/a/f
		@@ -0,0 +1 @@
		+new
		\ No newline at end of file
		diff --git a/b b/b
		--- a/b
		+++ b/b
		@@ -1 +1 @@
		-one
		\ No newline at end of file
		+two
		\ No newline at end of file
		diff --git a/bin b/bin
		new file mode 100644
		Binary files /dev/null and b/bin differ
		diff --git a/d/x b/d/x
		deleted file mode 100644
		--- a/d/x
		+++ /dev/null
		@@ -1 +0,0 @@
		-1
		\ No newline at end of file
		diff --git a/e b/e
		deleted file mode 100644
		diff --git a/empty b/empty
		new file mode 100644
		diff --git a/exe b/exe
		old mode 100755
		new mode 100644
		diff --git a/l b/l
		--- a/l
		+++ b/l
		@@ -1 +1 @@
		-one
		\ No newline at end of file
		+two
		\ No newline at end of file
		 mode change 100644 => 100600 mode
		diff --git a/no end b/no end
		--- a/no end~
		+++ b/no end~
		@@ -1 +1 @@
		-1
		\ No newline at end of file
		+2
		\ No newline at end of file
		Only on the layer's side: pipe (fifo)
		diff --git "a/q\"\t" "b/q\"\t"
		new file mode 100644
		--- /dev/null
		+++ "b/q\"\t"
		@@ -0,0 +1 @@
		+1
		\ No newline at end of file
		 mode change 040755 => 040700 s
		diff --git a/t b/t
		deleted file mode 100644
		--- a/t
		+++ /dev/null
		@@ -1 +0,0 @@
		-text
		\ No newline at end of file
		diff --git a/t b/t
		new file mode 120000
		--- /dev/null
		+++ b/t
		@@ -0,0 +1 @@
		+text
		\ No newline at end of file
		diff --git a/w b/w
		old mode 100644
		new mode 100755
		--- a/w
		+++ b/w
		@@ -1 +1 @@
		-x
		\ No newline at end of file
		+y
		\ No newline at end of file
	`)
	if got, want := patchText(t, p, false), strings.ReplaceAll(want, "~", "\t"); got != want {
		t.Errorf("got\n%swant\n%s", got, want)
	}
}

// git apply makes the host's tree into the layer's view, whatever they are.
func TestPatchApplies(t *testing.T) {
	git, err := exec.LookPath("git")
	if err != nil {
		t.Skip(err)
	}
	words := []string{"alpha", "beta", "gamma", "", "  ", "tab\t", "cr\r", "@@ -1 +1 @@", "--- a/x", "diff --git a/x b/x", "\\ No newline", "é", "\x1b[31m", "nul\x00"}
	for seed := range uint64(60) {
		r := rand.New(rand.NewPCG(seed, 7))
		content := func() []byte {
			var b bytes.Buffer
			for range r.IntN(40) {
				b.WriteString(words[r.IntN(len(words))] + "\n")
			}
			if r.IntN(3) == 0 {
				b.WriteString("no end")
			}
			return b.Bytes()
		}
		p := newPair(t)
		for _, name := range []string{"a", "a b", "sub/c", "sub/é\n", "sub/dir/\"q\"", "top\\", "x\x80"} {
			low, up := filepath.Join(p.Lower, name), filepath.Join(p.Upper, name)
			must(t, os.MkdirAll(filepath.Dir(low), 0o755))
			must(t, os.MkdirAll(filepath.Dir(up), 0o755))
			if r.IntN(4) > 0 {
				if r.IntN(5) == 0 {
					must(t, os.Symlink("target "+name, low))
				} else {
					must(t, os.WriteFile(low, content(), 0o644))
				}
			}
			switch r.IntN(6) {
			case 0:
				whiteout(t, up)
			case 1:
				must(t, os.Symlink("other "+name, up))
			case 2:
				data, _ := os.ReadFile(low)
				edited := strings.Replace(string(data), "beta", "BETA", 2)
				must(t, os.WriteFile(up, []byte(edited+"more\n"), 0o755))
			default:
				must(t, os.WriteFile(up, content(), []os.FileMode{0o644, 0o755}[r.IntN(2)]))
			}
		}
		want := merged(t, p.Lower, p.Upper)
		patch := patchText(t, p, true)
		if patch == "" {
			continue
		}
		cmd := exec.Command(git, "apply", "--whitespace=nowarn", "-")
		cmd.Dir = p.Lower
		cmd.Env = []string{"GIT_CEILING_DIRECTORIES=" + filepath.Dir(p.Lower), "HOME=/nonexistent"}
		cmd.Stdin = strings.NewReader(patch)
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Fatalf("seed %d: git apply: %v\n%s\n%s", seed, err, out, patch)
		}
		for path, is := range plain(t, p.Lower) {
			if strings.HasPrefix(is, "dir") {
				continue
			}
			if want[path] != is {
				t.Errorf("seed %d: %q is %q, want %q", seed, path, is, want[path])
			}
			delete(want, path)
		}
		for path, is := range want {
			if !strings.HasPrefix(is, "dir") {
				t.Errorf("seed %d: %q is missing, want %q", seed, path, is)
			}
		}
	}
}

// The edits make the one file into the other, whatever they are.
func FuzzDiffLines(f *testing.F) {
	f.Add("a\nb\nc\n", "a\nc\nd")
	f.Add(strings.Repeat("x\n", 100), strings.Repeat("y\nx\n", 60))
	f.Fuzz(func(t *testing.T, s, u string) {
		a, b := splitLines(s), splitLines(u)
		var got strings.Builder
		at, bt := 0, 0
		for _, e := range diffLines(a, b) {
			if e.a0 < at || e.b0 < bt || e.a1 < e.a0 || e.b1 < e.b0 || e.a0-at != e.b0-bt {
				t.Fatalf("edit %v after %d, %d", e, at, bt)
			}
			got.WriteString(strings.Join(a[at:e.a0], "") + strings.Join(b[e.b0:e.b1], ""))
			at, bt = e.a1, e.b1
		}
		got.WriteString(strings.Join(a[at:], ""))
		if got.String() != u {
			t.Errorf("%q becomes %q, want %q", s, got.String(), u)
		}
	})
}

func TestDiffLinesLarge(t *testing.T) {
	var a, b []string
	for i := range 50_000 {
		a = append(a, fmt.Sprintf("line %d\n", i))
		if i%10 != 0 {
			b = append(b, fmt.Sprintf("line %d\n", i))
		} else {
			b = append(b, "changed\n")
		}
	}
	if n := len(diffLines(a, b)); n != 5000 {
		t.Errorf("%d edits, want 5000", n)
	}
}

func TestQuoteName(t *testing.T) {
	for name, want := range map[string]string{
		"a b":        "a b",
		"é":          "é",
		"a\nb":       `"a\nb"`,
		"\x1b[m":     `"\033[m"`,
		"\xff":       `"\377"`,
		"a\\\"":      `"a\\\""`,
		"x\u202ey":   `"x\342\200\256y"`,
		"zero\u200b": `"zero\342\200\213"`,
	} {
		if got := QuoteName(name); got != want {
			t.Errorf("%q is quoted %s, want %s", name, got, want)
		}
	}
}

// A file that became a fifo between two looks is not opened.
func TestPatchMoved(t *testing.T) {
	p := newPair(t)
	fill(t, p.Lower, "f=1")
	fill(t, p.Upper, "f=2")
	o, err := p.Open()
	must(t, err)
	defer o.Close()
	for c, err := range o.Changes(Options{}) {
		must(t, err)
		must(t, os.Remove(filepath.Join(p.Upper, "f")))
		must(t, unix.Mkfifo(filepath.Join(p.Upper, "f"), 0o644))
		if _, err := o.Patches(c, c.Path, false); err == nil || !strings.Contains(err.Error(), errMoved.Error()) {
			t.Errorf("error %v, want %v", err, errMoved)
		}
	}
}

// Lines that are taken away at the ends do not change what is counted.
func FuzzTrimLines(f *testing.F) {
	f.Add("a\nb\nc\n", "a\nc\n")
	f.Add("x\nx\n", "x\nx\nx")
	f.Fuzz(func(t *testing.T, s, u string) {
		a, b := trimLines([]byte(s), []byte(u))
		if !strings.Contains(s, string(a)) || !strings.Contains(u, string(b)) {
			t.Fatalf("%q, %q: %q, %q", s, u, a, b)
		}
		if len(s)-len(a) != len(u)-len(b) {
			t.Errorf("%q, %q: %d and %d bytes are taken", s, u, len(s)-len(a), len(u)-len(b))
		}
		count := func(s, u string) (n int) {
			for _, e := range diffLines(splitLines(s), splitLines(u)) {
				n += e.a1 - e.a0 + e.b1 - e.b0
			}
			return n
		}
		if x, y := count(s, u), count(string(a), string(b)); x != y {
			t.Errorf("%q, %q: %d lines differ, trimmed %d", s, u, x, y)
		}
	})
}

// What is compared without memory counts as many lines as a patch has.
func TestCountFewLines(t *testing.T) {
	random := rand.New(rand.NewPCG(3, 32))
	text := func() string {
		var b strings.Builder
		for range random.IntN(fewLines + 8) {
			b.WriteString([]string{"a\n", "b\n", "c\n", "\n", "long\n", "\r\n"}[random.IntN(6)])
		}
		if random.IntN(3) == 0 {
			b.WriteString("no end")
		}
		return b.String()
	}
	for range 20000 {
		a, b := text(), text()
		if a == b {
			continue
		}
		var want Lines
		for _, e := range diffLines(splitLines(a), splitLines(b)) {
			want.Removed += e.a1 - e.a0
			want.Added += e.b1 - e.b0
		}
		if got := countLines([]byte(a), []byte(b)); got != want {
			t.Fatalf("%q, %q: %v lines differ, the patch has %v", a, b, got, want)
		}
	}
}
