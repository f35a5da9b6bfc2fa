package overlay

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// newPair is an empty pair.
func newPair(t testing.TB) Pair {
	t.Helper()
	dir := t.TempDir()
	p := Pair{Lower: filepath.Join(dir, "lower"), Upper: filepath.Join(dir, "upper")}
	mkdir(t, p.Lower, 0o755)
	mkdir(t, p.Upper, 0o755)
	t.Cleanup(func() { // mode-000 directories
		filepath.Walk(dir, func(path string, info os.FileInfo, err error) error {
			if info != nil && info.IsDir() {
				os.Chmod(path, 0o755)
			}
			return nil
		})
	})
	return p
}

// fill makes what a listing says, a path in each line:
//
//	dir/         a directory
//	dir!/        an opaque one
//	file=TEXT    a file
//	link->TARGET a symlink
//	gone%        a whiteout
//	pipe|        a fifo
//	path:600     any of these, with its mode
func fill(t testing.TB, root, listing string) {
	t.Helper()
	for line := range strings.Lines(listing) {
		line = strings.TrimSpace(line)
		if line == "" {
			continue
		}
		entry, text, isFile := strings.Cut(line, "=")
		target, isLink := "", false
		if !isFile {
			entry, target, isLink = strings.Cut(line, "->")
		}
		mode := os.FileMode(0)
		if e, m, ok := strings.Cut(entry, ":"); ok {
			entry = e
			var n uint32
			fmt.Sscanf(m, "%o", &n)
			mode = os.FileMode(n & 0o777)
			if n&unix.S_ISUID != 0 {
				mode |= os.ModeSetuid
			}
		}
		path := filepath.Join(root, strings.TrimRight(entry, "/!%|"))
		must(t, os.MkdirAll(filepath.Dir(path), 0o755))
		switch {
		case isFile:
			must(t, os.WriteFile(path, []byte(text), 0o644))
		case isLink:
			must(t, os.Symlink(target, path))
		case strings.HasSuffix(entry, "!/"):
			must(t, os.MkdirAll(path, 0o755))
			opaque(t, path)
		case strings.HasSuffix(entry, "/"):
			must(t, os.MkdirAll(path, 0o755))
		case strings.HasSuffix(entry, "%"):
			whiteout(t, path)
		case strings.HasSuffix(entry, "|"):
			must(t, unix.Mkfifo(path, 0o644))
		default:
			t.Fatalf("cannot make %q", line)
		}
		if mode != 0 {
			must(t, os.Chmod(path, mode))
		}
	}
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func mkdir(t testing.TB, dir string, mode os.FileMode) {
	t.Helper()
	must(t, os.MkdirAll(dir, mode))
	must(t, os.Chmod(dir, mode))
}

func whiteout(t testing.TB, path string) {
	t.Helper()
	must(t, unix.Mknod(path, unix.S_IFCHR, 0))
}

func opaque(t testing.TB, dir string) {
	t.Helper()
	if err := unix.Setxattr(dir, "user.overlay.opaque", []byte("y"), 0); err != nil {
		t.Skipf("user xattrs: %v", err)
	}
}

// changes lists what Changes gives, a line each: letter, path, and what else is
// of interest.
func changes(t testing.TB, p Pair, opts Options) string {
	t.Helper()
	o, err := p.Open()
	must(t, err)
	defer o.Close()
	var b strings.Builder
	for c, err := range o.Changes(opts) {
		if err != nil {
			fmt.Fprintf(&b, "! %s: %v\n", c.Path, err)
			continue
		}
		fmt.Fprintf(&b, "%c %s", c.Kind.Letter(), c.Path)
		if c.IsDir() {
			b.WriteByte('/')
		}
		if c.Count > 0 {
			fmt.Fprintf(&b, " %d %d", c.Count, c.Size)
		}
		if c.Opaque {
			b.WriteString(" opaque")
		}
		if c.Shadowed {
			b.WriteString(" shadowed")
		}
		b.WriteByte('\n')
	}
	return b.String()
}

// text takes the indentation of a literal away.
func text(s string) string {
	var b strings.Builder
	for line := range strings.Lines(strings.TrimLeft(s, "\n")) {
		line = strings.TrimLeft(line, "\t")
		if line == "" {
			continue
		}
		b.WriteString(line)
	}
	return b.String()
}

func checkChanges(t *testing.T, p Pair, opts Options, want string) {
	t.Helper()
	if got := changes(t, p, opts); got != text(want) {
		t.Errorf("got\n%swant\n%s", got, text(want))
	}
}
