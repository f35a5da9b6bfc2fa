package state

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"
)

// missing skips a test for want of something on this machine; with
// SBX_MUST_WORK=1 that is a failure.
func missing(t *testing.T, format string, args ...any) {
	t.Helper()
	if os.Getenv("SBX_MUST_WORK") == "1" {
		t.Fatalf("SBX_MUST_WORK=1, and "+format, args...)
	}
	t.Skipf(format, args...)
}

// asUser runs the test as an ordinary user: root is asked for no permission, so
// it would show nothing of those that a build took away. It returns false where
// the test has been run by another process, which does not come back.
func asUser(t *testing.T) bool {
	t.Helper()
	if os.Geteuid() != 0 {
		return true
	}
	dir, err := os.MkdirTemp("/var/tmp", "sbx-state-")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	const id = 54319
	if err := os.Chown(dir, id, id); err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command("/proc/self/exe", "-test.run=^"+t.Name()+"$", "-test.v", "-test.short="+strconv.FormatBool(testing.Short()))
	cmd.Env = append(os.Environ(), "TMPDIR="+dir, "HOME="+dir)
	cmd.Dir = "/"
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: id, Gid: id}}
	out, err := cmd.CombinedOutput()
	if err != nil || !strings.Contains(string(out), "--- PASS: "+t.Name()) {
		t.Errorf("as uid %d: %v\n%s", id, err, out)
	}
	return false
}

// newStore is a state directory, and a layer in it that nothing has used.
func newStore(t *testing.T) (Store, Layer) {
	t.Helper()
	s := Store{Root: filepath.Join(t.TempDir(), "state")}
	return s, s.Tree("/src/app").Layer("default")
}

func mustLock(t *testing.T, l Layer, ids string) *Lock {
	t.Helper()
	k, err := l.Lock("pid 1: make", ids)
	if err != nil {
		if errors.Is(err, unix.EOPNOTSUPP) || strings.Contains(err.Error(), "xattr") {
			missing(t, "$TMPDIR cannot hold a layer: %v", err)
		}
		t.Fatal(err)
	}
	return k
}

func write(t *testing.T, file string) {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(file), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(file, []byte(file), 0o644); err != nil {
		t.Fatal(err)
	}
}

func there(path string) bool {
	_, err := os.Lstat(path)
	return err == nil
}

// TestFind goes through where the state directory may come from, the strongest
// first.
func TestFind(t *testing.T) {
	tests := []struct {
		flag string
		env  map[string]string
		want string
	}{
		{"/flag", map[string]string{"SBX_STATE": "/env", "XDG_STATE_HOME": "/xdg", "HOME": "/h"}, "/flag"},
		{"", map[string]string{"SBX_STATE": "/env", "XDG_STATE_HOME": "/xdg", "HOME": "/h"}, "/env"},
		{"", map[string]string{"XDG_STATE_HOME": "/xdg", "HOME": "/h"}, "/xdg/sbx"},
		{"", map[string]string{"XDG_STATE_HOME": "relative", "HOME": "/h"}, "/h/.local/state/sbx"},
		{"", map[string]string{"HOME": "/h"}, "/h/.local/state/sbx"},
		{"rel/x", nil, "/cwd/rel/x"},
		{"", map[string]string{"SBX_STATE": "../rel"}, "/rel"},
		{"/a//b/../c/", nil, "/a/c"},
	}
	for _, test := range tests {
		s, err := Find(test.flag, "/cwd", func(n string) string { return test.env[n] })
		if err != nil || s.Root != test.want {
			t.Errorf("Find(%q, %v) = %q, %v; want %q", test.flag, test.env, s.Root, err, test.want)
		}
	}
	for _, env := range []map[string]string{nil, {"HOME": "relative"}} {
		_, err := Find("", "/cwd", func(n string) string { return env[n] })
		var e *Error
		if !errors.As(err, &e) || e.Hint() == "" || err.Error() != "cannot find the state directory: $HOME is not set" {
			t.Errorf("Find with %v: %v", env, err)
		}
	}
}

// TestFindResolves: the state directory is compared with real paths, so it is
// one, also before it exists.
func TestFindResolves(t *testing.T) {
	dir, err := filepath.EvalSymlinks(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	if err := os.MkdirAll(dir+"/real/sbx", 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink("real", dir+"/link"); err != nil {
		t.Fatal(err)
	}
	for flag, want := range map[string]string{"link/sbx": "real/sbx", "link": "real", "link/new": "real/new", "link/new/deeper": "real/new/deeper"} {
		s, err := Find(dir+"/"+flag, "/", func(string) string { return "" })
		if err != nil || s.Root != dir+"/"+want {
			t.Errorf("Find(%q) = %q, %v; want %q", flag, s.Root, err, want)
		}
	}
}

func TestContains(t *testing.T) {
	s := Store{Root: "/home/me/.local/state/sbx"}
	for dir, want := range map[string]string{
		"/home/me/.local/state/sbx":         "lies in",
		"/home/me":                          "where the build could write it",
		"/home/me/.local/state/sbx/trees/x": "it lies in the state directory",
		"/home/me/src":                      "",
		"/home/me/.local/state/sbx2":        "",
		"/":                                 "where the build could write it",
	} {
		err := s.Contains(dir)
		var e *Error
		if (err == nil) != (want == "") || err != nil && (!errors.As(err, &e) || e.Hint() == "" || !strings.Contains(err.Error(), want)) {
			t.Errorf("Contains(%q): %v, want %q", dir, err, want)
		}
	}
}

// TestTreeNames: one directory for each tree, whatever bytes its name has.
func TestTreeNames(t *testing.T) {
	s := Store{Root: "/state"}
	sources := []string{"/a/b", "/a/c/b", "/a/ä", "/a/\xff\xfe", "/a/x\ny", "/a/..b", "/a/" + strings.Repeat("long", 60), "/a/b ", "/a/:,\\*", "/a/" + strings.Repeat("ä", 100), "/", "/a/-rf", "/a/.."}
	seen := map[string]string{}
	for _, source := range sources {
		tree := s.Tree(source)
		name, ok := strings.CutPrefix(tree.Dir, "/state/trees/")
		if !ok || strings.Trim(name, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789._+-") != "" || len(name) > 60 || name == ".." {
			t.Errorf("the tree %q has the directory %q", source, tree.Dir)
		}
		if other, twice := seen[tree.Dir]; twice {
			t.Errorf("%q and %q share %s", source, other, tree.Dir)
		}
		seen[tree.Dir] = source
		if again := s.Tree(source); again != tree {
			t.Errorf("the tree %q has two directories", source)
		}
		if l := tree.Layer("x"); l.Dir != tree.Dir+"/layers/x" || l.Upper() != l.Dir+"/upper" {
			t.Errorf("the layer of %q is %+v", source, l)
		}
	}
	if a, b := s.Tree("/a").Layer("x").ID(), s.Tree("/a").Layer("y").ID(); a == b || len(a) != 64 {
		t.Errorf("two layers have the ids %s and %s", a, b)
	}
}

// TestCreate: nobody else can reach into the state directory, and what looks
// wrong about it is said.
func TestCreate(t *testing.T) {
	s, l := newStore(t)
	if l.Exists() || s.HasTree("/src/app") {
		t.Error("the layer exists before it has been used")
	}
	if err := os.Mkdir(s.Root, 0o777); err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(s.Root, 0o777); err != nil {
		t.Fatal(err)
	}
	mustLock(t, l, "ids").Unlock()
	for _, d := range []string{s.Root, s.Root + "/trees", l.Dir} {
		if st, err := os.Stat(d); err != nil || st.Mode().Perm() != 0o700 {
			t.Errorf("%s has mode %v, %v", d, st.Mode(), err)
		}
	}
	if !l.Exists() || !s.HasTree("/src/app") || l.IDs() != "ids" {
		t.Errorf("after a lock the layer exists: %v, with the ids %q", l.Exists(), l.IDs())
	}
	if data, err := os.ReadFile(filepath.Join(filepath.Dir(filepath.Dir(l.Dir)), "tree")); string(data) != "\"/src/app\"\n" {
		t.Errorf("the tree is noted as %q, %v", data, err)
	}

	file := Store{Root: filepath.Join(t.TempDir(), "file")}
	write(t, file.Root)
	link := Store{Root: filepath.Join(t.TempDir(), "link")}
	if err := os.Symlink(s.Root, link.Root); err != nil {
		t.Fatal(err)
	}
	below := Store{Root: file.Root + "/x"}
	for _, bad := range []Store{file, link, below} {
		_, err := bad.Tree("/src/app").Layer("default").Lock("x", "ids")
		var e *Error
		if !errors.As(err, &e) || e.Hint() == "" || !strings.HasPrefix(err.Error(), "cannot ") {
			t.Errorf("the state directory %s: %v", bad.Root, err)
		}
	}
	if os.Geteuid() == 0 {
		other := Store{Root: filepath.Join(t.TempDir(), "other")}
		if err := errors.Join(os.Mkdir(other.Root, 0o700), os.Chown(other.Root, 54319, 54319)); err != nil {
			t.Fatal(err)
		}
		if _, err := other.Tree("/src/app").Layer("default").Lock("x", "ids"); err == nil || !strings.Contains(err.Error(), "belongs to another user") {
			t.Errorf("another user's state directory: %v", err)
		}
	}
}

// TestFindFile is `sbx path`: a file of the layer's, and never by a symlink that
// a build has made.
func TestFindFile(t *testing.T) {
	_, l := newStore(t)
	if _, err := l.Find("x"); err == nil || !strings.Contains(err.Error(), "no run has written it") {
		t.Errorf("in a layer that does not exist: %v", err)
	}
	outside := filepath.Join(t.TempDir(), "secret")
	write(t, outside)
	write(t, l.Upper()+"/dir/file")
	for link, to := range map[string]string{"link": outside, "linkdir": filepath.Dir(outside), "inner": "dir/file", "dir/up": "../.."} {
		if err := os.Symlink(to, filepath.Join(l.Upper(), link)); err != nil {
			t.Fatal(err)
		}
	}
	if p, err := l.Find("dir/file"); err != nil || p != l.Upper()+"/dir/file" {
		t.Errorf("Find gives %q, %v", p, err)
	}
	for rel, want := range map[string]string{
		"link": "symlink", "linkdir/secret": "symlink", "inner": "symlink", "dir/up/x": "symlink", "dir/nothing": "no run has written it", "dir/file/x": "no run has written it",
		"../lock": "", "dir/../../lock": "", "/etc/passwd": "",
	} {
		if p, err := l.Find(rel); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("Find(%q) = %q, %v; want %q", rel, p, err, want)
		}
	}
	if os.Geteuid() == 0 {
		if err := unix.Mknod(l.Upper()+"/gone", unix.S_IFCHR, 0); err != nil {
			missing(t, "whiteouts cannot be made here: %v", err)
		}
		if _, err := l.Find("gone"); err == nil || !strings.Contains(err.Error(), "deleted") {
			t.Errorf("a whiteout: %v", err)
		}
	}
}

func TestErrors(t *testing.T) {
	_, l := newStore(t)
	for errno, want := range map[syscall.Errno]string{
		unix.ENOSPC: "room", unix.EDQUOT: "room", unix.ENOTDIR: "sbx reset --all", unix.EROFS: "sbx --state", unix.EACCES: "sbx --state",
	} {
		err := l.broken(&os.PathError{Op: "open", Path: "/secret/path", Err: errno})
		var h interface{ Hint() string }
		if !errors.As(err, &h) || !strings.Contains(h.Hint(), want) || !errors.Is(err, errno) || strings.Contains(err.Error(), "/secret/path") {
			t.Errorf("%v becomes %q with the hint %q", errno, err, h.Hint())
		}
	}
	busy := &BusyError{Layer: l, Run: "pid 12: make"}
	if fmt.Sprint(busy) != `cannot use the layer "default": another run has it (pid 12: make)` || busy.Hint() == "" {
		t.Errorf("a busy layer: %v, %s", busy, busy.Hint())
	}
}

// A file of sbx's own is read to its end.
func TestReadSmall(t *testing.T) {
	for _, size := range []int{0, 1, 8191, 8192, 8193, 100_000} {
		file := filepath.Join(t.TempDir(), "f")
		if err := os.WriteFile(file, bytes.Repeat([]byte("x"), size), 0o600); err != nil {
			t.Fatal(err)
		}
		if data, err := readSmall(file); err != nil || len(data) != size {
			t.Errorf("of %d bytes %d are read, %v", size, len(data), err)
		}
	}
}
