package host

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// makeFiles makes what is named below dir: "a/" is a directory, "a=text" a file,
// "a->b" a symbolic link.
func makeFiles(t *testing.T, dir string, names ...string) {
	t.Helper()
	for _, name := range names {
		var err error
		path := filepath.Join(dir, name)
		link, to, isLink := strings.Cut(name, "->")
		file, text, isFile := strings.Cut(name, "=")
		switch {
		case isLink:
			err = os.Symlink(to, filepath.Join(dir, link))
		case isFile:
			path = filepath.Join(dir, file)
			if err = os.MkdirAll(filepath.Dir(path), 0o755); err == nil {
				err = os.WriteFile(path, []byte(text), 0o644)
			}
		default:
			err = os.MkdirAll(path, 0o755)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
}

// realTemp is a temporary directory by its real path.
func realTemp(t *testing.T) string {
	t.Helper()
	dir, err := filepath.EvalSymlinks(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	return dir
}

func TestFindTree(t *testing.T) {
	only := func(want string) func(string) bool {
		return func(dir string) bool { return filepath.Base(dir) == want }
	}
	for _, tc := range []struct {
		name  string
		files []string
		o     TreeOptions // Dir, Source, Env below the home directory
		want  string      // below the home directory
		why   string
	}{
		{"nothing", []string{"a/b/"}, TreeOptions{Dir: "a/b"}, "a/b", "current directory"},
		{"git above", []string{"a/.git/", "a/b/c/"}, TreeOptions{Dir: "a/b/c"}, "a", "git"},
		{"git here", []string{"a/.git/"}, TreeOptions{Dir: "a"}, "a", "git"},
		{"nearest", []string{"a/.git/", "a/b/.hg/", "a/b/c/"}, TreeOptions{Dir: "a/b/c"}, "a/b", "hg"},
		{"two systems", []string{"a/.git/", "a/.jj/"}, TreeOptions{Dir: "a"}, "a", "git"},
		{"fossil", []string{"a/.fslckout=", "a/b/"}, TreeOptions{Dir: "a/b"}, "a", "fossil"},
		{"a file is no hg", []string{"a/.hg=", "a/b/"}, TreeOptions{Dir: "a/b"}, "a/b", "current directory"},
		{"cvs is everywhere", []string{"a/CVS/Entries=", "a/b/CVS/Entries=", "a/b/c/CVS/Entries="}, TreeOptions{Dir: "a/b/c"}, "a", "cvs"},
		{"cvs with a gap", []string{"a/CVS/Entries=", "a/b/", "a/b/c/CVS/Entries="}, TreeOptions{Dir: "a/b/c"}, "a/b/c", "cvs"},
		{"a git file of no use", []string{"a/.git=gitdir: ../../.ssh\n", "a/b/"}, TreeOptions{Dir: "a/b"}, "a", "git"},
		{"a git file of garbage", []string{"a/.git=\x00\xff", "a/b/"}, TreeOptions{Dir: "a/b"}, "a", "git"},
		{"a git link", []string{"a/", "a/.git->/nowhere", "a/b/"}, TreeOptions{Dir: "a/b"}, "a", "git"},
		{"home is a checkout", []string{".git/", "a/b/"}, TreeOptions{Dir: "a/b"}, "a/b", "current directory"},
		{"home is a checkout, with state", []string{".git/", "a/b/c/"}, TreeOptions{Dir: "a/b/c", HasState: only("b")}, "a/b", "state"},
		{"git before state", []string{"a/.git/", "a/b/"}, TreeOptions{Dir: "a/b", HasState: only("b")}, "a", "git"},
		{"config before git", []string{"a/b/.git/"}, TreeOptions{Dir: "a/b", Named: only("a")}, "a", "config"},
		{"said", []string{"a/.git/", "b/"}, TreeOptions{Dir: "a", Source: "b"}, "b", "--source"},
		{"environment", []string{"a/.git/", "b/"}, TreeOptions{Dir: "a", Env: "b"}, "b", "$SBX_SOURCE"},
		{"said before environment", []string{"a/", "b/"}, TreeOptions{Dir: "a", Env: "b", Source: "a"}, "a", "--source"},
		{"by a link", []string{"a/.git/", "a/b/", "l->a/b"}, TreeOptions{Dir: "l"}, "a", "git"},
		// An unpacked archive must not make the repository around it the tree.
		{"forged submodule", []string{"r/.git/modules/m/HEAD=", "r/.git/modules/m/objects/", "r/.git/modules/m/refs/",
			"r/.git/modules/m/config=[core]\nworktree = ../../../real\n", "r/x/.git=gitdir: ../.git/modules/m\n"},
			TreeOptions{Dir: "r/x"}, "r/x", "git"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			home := realTemp(t)
			makeFiles(t, home, tc.files...)
			o := tc.o
			o.Home = home
			for _, p := range []*string{&o.Dir, &o.Source, &o.Env} {
				if *p != "" {
					*p = filepath.Join(home, *p)
				}
			}
			got, err := FindTree(o)
			if err != nil {
				t.Fatal(err)
			}
			want := Tree{Root: filepath.Join(home, tc.want), Why: tc.why, Said: tc.why == "current directory"}
			if got != want {
				t.Errorf("got %+v, want %+v", got, want)
			}
		})
	}
}

func TestFindTreeRelative(t *testing.T) {
	home := realTemp(t)
	makeFiles(t, home, "a/", "b/c/")
	got, err := FindTree(TreeOptions{Dir: home + "/a", Source: "../b/c", Home: home})
	if err != nil || got.Root != home+"/b/c" {
		t.Errorf("got %+v, %v", got, err)
	}
}

func TestFindTreeRefuses(t *testing.T) {
	base := realTemp(t)
	makeFiles(t, base, "up/home/a/.git/", "up/home/file=", "homelink->up/home", "loop->loop", "up/.git/")
	home := base + "/up/home"
	for _, tc := range []struct{ dir, home, want string }{
		{home, home, "it is your home directory"},
		{home, base + "/homelink", "it is your home directory"},
		{base + "/homelink", home, "it is your home directory"},
		{home + "/a/..", home + "/", "it is your home directory"},
		{base + "/up", home, "it holds your home directory"},
		{base + "/up", base + "/homelink", "it holds your home directory"},
		{"/", home, "it is the root directory"},
		{"/usr", home, "it is a directory of the system"},
		{"/etc", home, "it is a directory of the system"},
		{"/proc/self", home, "it is a directory of the system"},
		{"/sys/kernel", home, "it is a directory of the system"},
		{"/tmp", "/nowhere", "it is a directory of the system"},
		{"/var/../var", "/nowhere", "it is a directory of the system"},
		{"/bin", "", "it is a directory of the system"},
		{home + "/none", home, "no such file or directory"},
		{home + "/file", home, "it is not a directory"},
		{home + "/file/x", home, "not a directory"},
		{base + "/loop", home, "too many"},
	} {
		for _, o := range []TreeOptions{{Source: tc.dir, Dir: home + "/a"}, {Env: tc.dir, Dir: home + "/a"}, {Dir: tc.dir}} {
			o.Home = tc.home
			got, err := FindTree(o)
			te, ok := errors.AsType[*TreeError](err)
			if !ok || !strings.Contains(err.Error(), tc.want) {
				t.Errorf("%+v: got %+v, %v, want %q", o, got, err, tc.want)
				continue
			}
			if !strings.HasPrefix(err.Error(), `cannot use "/`) || te.Hint() != "sbx --source DIR -- COMMAND" {
				t.Errorf("%+v: error %q, hint %q", o, err, te.Hint())
			}
		}
	}
	_, err := FindTree(TreeOptions{Source: home + "/none"})
	if !errors.Is(err, fs.ErrNotExist) || strings.Count(err.Error(), "none") != 1 {
		t.Errorf("a missing tree: %v", err)
	}
	_, err = FindTree(TreeOptions{Source: home, Home: home})
	if want := `cannot use "` + home + `" as the source tree: it is your home directory`; err == nil || err.Error() != want {
		t.Errorf("got %v, want %s", err, want)
	}
}

func TestSystemPlaces(t *testing.T) {
	for dir, want := range map[string]bool{
		"/usr": true, "/usr/src/linux": false, "/usr/local/src": false, "/etc/nixos": true, "/dev": true, "/dev/shm": true,
		"/dev/shm/x": false, "/dev/shmx": true, "/run": true, "/run/user/1000": true, "/run/user/1000/x": false,
		"/run/media/me/disk": false, "/tmp": true, "/tmp/x": false, "/var/tmp/x": false, "/mnt": false, "/srv": false,
		"/home": true, "/home/me": false, "/etcetera": false, "/bin": true, "/lib64/x": true,
	} {
		if got := isSystemPlace(dir); got != want {
			t.Errorf("%s: got %v", dir, got)
		}
	}
}

func TestTrusts(t *testing.T) {
	const self, other, third = 1000, 1001, 1002
	for _, tc := range []struct {
		name           string
		mark, dir, cwd uint32
		want           bool
	}{
		{"our own", self, self, self, true},
		{"ours in a shared directory", self, 0, self, true},
		{"the administrator's", 0, 0, self, true},
		{"planted above our directory", other, 0, self, false},
		{"planted in a shared directory, above their own", other, 0, other, false},
		{"planted in our directory", other, self, self, false},
		{"all theirs", other, other, other, true},
		{"theirs, another's below", other, other, third, false},
	} {
		if got := trusts(self, tc.mark, tc.dir, tc.cwd); got != tc.want {
			t.Errorf("%s: got %v", tc.name, got)
		}
	}
}

// TestPlantedMark makes files of other users, which only root can; TestTrusts
// has the same cases without.
func TestPlantedMark(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Log("only root can make files of another user")
		return
	}
	home := realTemp(t)
	makeFiles(t, home, "shared/.git/", "shared/mine/")
	if err := os.Chown(home+"/shared/.git", 12345, 12345); err != nil {
		t.Fatal(err)
	}
	got, err := FindTree(TreeOptions{Dir: home + "/shared/mine", Home: home})
	want := Tree{Root: home + "/shared/mine", Why: "current directory", Said: true, Passed: home + "/shared/.git"}
	if err != nil || got != want {
		t.Errorf("got %+v %v, want %+v", got, err, want)
	}
	got, err = FindTree(TreeOptions{Dir: home + "/shared", Home: home})
	if err != nil || got.Root != home+"/shared" || got.Why != "git" {
		t.Errorf("in the directory itself: %+v %v", got, err)
	}
	makeFiles(t, home, ".hg/")
	got, err = FindTree(TreeOptions{Dir: home + "/shared/mine", HasState: func(dir string) bool { return dir == home+"/shared" }, Home: home})
	if err != nil || got.Why != "state" || got.Passed == "" {
		t.Errorf("with state: %+v %v", got, err)
	}
}

// Like git, the search ends with the file system of the current directory.
func TestCheckoutFileSystem(t *testing.T) {
	home := realTemp(t)
	makeFiles(t, home, "a/.git/", "a/b/c/")
	h := findHome(home)
	up := h.ancestors(home + "/a/b/c")
	if got, found := checkout(up); !found || got.Root != home+"/a" {
		t.Errorf("on one file system: got %+v %v", got, found)
	}
	up[2].st.Dev++
	if got, found := checkout(up); found {
		t.Errorf("on another file system: got %+v", got)
	}
}

// A bind mount shows the home directory under a path that is not known.
func TestHomeByInode(t *testing.T) {
	home := realTemp(t)
	h := findHome(home)
	h.paths[0], h.paths[1] = "/elsewhere", "/elsewhere"
	if _, err := h.realTree(home); err == nil || !strings.Contains(err.Error(), "it is your home directory") {
		t.Errorf("got %v", err)
	}
}

func BenchmarkFindTree(b *testing.B) {
	home, err := filepath.EvalSymlinks(b.TempDir())
	if err != nil {
		b.Fatal(err)
	}
	dir := filepath.Join(home, "src/a/b/c/d/e")
	if err := errors.Join(os.MkdirAll(dir, 0o755), os.Mkdir(home+"/src/.git", 0o755)); err != nil {
		b.Fatal(err)
	}
	for b.Loop() {
		if t, err := FindTree(TreeOptions{Dir: dir, Home: home}); err != nil || t.Why != "git" {
			b.Fatal(t, err)
		}
	}
}
