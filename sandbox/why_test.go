package sandbox

import (
	"io/fs"
	"os"
	"path/filepath"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/sbx-build/sbx/sandbox/plan"
	"github.com/sbx-build/sbx/sandbox/policy"
)

// aView is a view of a small plan on a host that has the files in modes and the
// symlinks in links, and a layer with the versions in own.
func aView() view {
	place := func(path string) plan.Place { return plan.Place{Path: path, Dir: true} }
	modes := map[string]fs.FileMode{
		"/usr/bin/cc": 0o755, "/usr/bin/gcc": 0o755, "/srv/tools/cc": 0o755, "/srv/tools/only": 0o755, "/usr/share/doc": fs.ModeDir,
		"/home/me": fs.ModeDir, "/home/me/a:b": 0o644, "/home/me/.config": fs.ModeDir, "/home/me/src/x.c": 0o644, "/home/me/src": fs.ModeDir,
		"/home/me/lib": fs.ModeDir, "/home/me/lib/f": 0o644, "/home/me/.cargo/registry/r": 0o644,
		"/home/me/.npmrc": 0o600, "/home/me/.gitconfig": 0o644, "/etc/npmrc": 0o644, "/etc/hosts": 0o644, "/etc/shadow": 0o640, "/etc/passwd": 0o644, "/dev/kvm": fs.ModeDevice | fs.ModeCharDevice, "/tmp/agent": fs.ModeSocket, "/mnt": fs.ModeDir,
	}
	links := map[string]string{"/usr/bin/gcc": "cc", "/home/me/.ssh": "/mnt", "/usr/loop": "loop"}
	own := map[string]version{"upper/own.c": file, "upper/gone.c": deleted, "upper/dir": changes, "caches/upper/.cargo/registry/r": file, "home/.profile": file}
	rule := func(a policy.Access, path, set string) policy.Rule {
		return policy.Rule{Access: a, Source: path, Target: path, Origin: policy.Origin{Builtin: set}}
	}
	hide, err := policy.ParseRule(policy.Hidden, false, "/usr/share/doc", "/", "/home/me")
	if err != nil {
		panic(err)
	}
	lib, err := policy.ParseRule(policy.ReadWrite, false, "~/lib:/srv/lib", "/", "/home/me")
	if err != nil {
		panic(err)
	}
	// Two rules for one path: the last counts.
	before := lib
	before.Access, before.Origin.Flag = policy.ReadOnly, "--ro ~/lib:/srv/lib"
	return view{
		layer: "default", dir: "/home/me/src", home: "/home/me", sockets: []string{"/tmp/agent"},
		policy: policy.Policy{Tree: "/home/me/src", Home: "/home/me", Rules: []policy.Rule{
			rule(policy.ReadOnly, "/usr", "system"), rule(policy.CopyOnWrite, "/home/me/.cargo/registry", "cache"), hide, before, lib,
		}},
		stands: stands(plan.Plan{Steps: []plan.Step{
			plan.MkDir{Path: "/tmp"}, plan.Writable{Path: "/tmp"}, plan.MkDir{Path: "/var/lib"}, plan.Writable{Path: "/var"},
			plan.MkDir{Path: "/home"}, plan.MkDir{Path: "/home/me"},
			plan.Device{Source: "/dev/null", Place: place("/dev/null")},
			plan.WriteFile{Path: plan.Scratch + "/etc/hosts"}, plan.WriteFile{Path: plan.Scratch + "/etc/npmrc"}, plan.Whiteout{Path: plan.Scratch + "/etc/shadow"}, plan.MkDir{Path: plan.Scratch + "/etc/ssl"},
			plan.Overlay{Lower: []string{"/home/me"}, Upper: "u", Work: "w", Place: place(plan.Host + "/dev")},
			plan.Symlink{Place: place("/bin"), Target: "usr/bin"},
			plan.Overlay{Lower: []string{plan.Scratch + "/etc", "/etc"}, Place: place("/etc")},
			plan.Bind{Source: "/state/home", Staged: plan.LayerName + "/home", Place: place("/home/me")},
			plan.Seed{Place: plan.Place{Path: "/home/me/.npmrc"}, Dropped: []string{"_auth", "_auth", "line 3"}},
			plan.Seed{Place: plan.Place{Path: "/home/me/.gitconfig"}, Have: plan.HasOther},
			plan.Bind{Source: "/home/me/.cargo/registry", Staged: "caches/.cargo/registry", Place: place("/home/me/.cargo/registry")},
			plan.Overlay{Lower: []string{"/home/me/src"}, Upper: plan.Scratch + "/" + plan.LayerName + "/upper", Work: "w", Place: place("/home/me/src")},
			plan.Bind{Source: "/home/me/lib", Staged: "rw1", Place: place("/srv/lib")},
			plan.Bind{Source: "/usr", Place: place("/usr")},
			plan.Mask{Place: place("/usr/share/doc")},
			plan.Proc{}, plan.ReadOnlyBelow{Path: "/proc/sys"}, plan.Mask{Place: place("/proc/kcore")}, plan.ReadOnly{Path: "/"},
		}}),
		disk: disk{
			stat: func(path string) (fs.FileMode, bool) { m, ok := modes[path]; return m, ok },
			readlink: func(path string) (string, error) {
				if l, ok := links[path]; ok {
					return l, nil
				}
				return "", fs.ErrNotExist
			},
			version: func(dir, rel string) version { return own[filepath.Join(dir, rel)] },
		},
	}
}

func TestViewLook(t *testing.T) {
	for _, tt := range []struct {
		path, subject, text, flag string // subject "": as path
		shown                     bool
	}{
		{path: "/usr/bin/gcc", subject: "/usr/bin/gcc -> /usr/bin/cc", text: "read-only (built in: system)", shown: true},
		{path: "/bin/gcc", subject: "/bin/gcc -> /usr/bin/cc", text: "read-only (built in: system)", shown: true},
		{path: "/usr/loop", text: "read-only (built in: system); the host has nothing there"},
		{path: "/usr/share/doc/x", text: "hidden (--hide /usr/share/doc)"},
		{path: "/home/me/src/x.c", text: `the source tree, copy-on-write, layer "default"`, shown: true},
		{path: "/home/me/src/own.c", text: `the source tree, copy-on-write, layer "default", which alone has it (sbx path)`, shown: true},
		{path: "/home/me/src/gone.c", text: `the source tree, copy-on-write, layer "default", where a build has deleted or replaced it`},
		{path: "/home/me/src/none.c", text: `the source tree, copy-on-write, layer "default"; neither the host nor the layer has anything there`},
		{path: "/home/me/.cargo/registry/r", text: `copy-on-write (built in: cache), layer "default", which has its own version of it`, shown: true},
		{path: "/home/me/.cargo", text: "not in the sandbox: nothing of $HOME is shown; below it are shown: ~/.cargo/registry; the host has nothing there, or nothing that you may see"},
		{path: "/home/me/.profile", text: `the file of the private home of the layer "default"; the host's is not shown`, shown: true},
		{path: "/home/me/.npmrc", text: `a copy of the host's with credentials removed, in the private home of the layer "default"; left out: _auth, line 3; it holds credentials or private data`, flag: "--ro ~/.npmrc", shown: true},
		{path: "/home/me/.gitconfig", text: `the file of the private home of the layer "default", where a build has made or changed it; if it were removed there, the host's would appear with credentials removed`, flag: "--ro ~/.gitconfig", shown: true},
		{path: "/etc/npmrc", text: "read-only, the host's with credentials removed", flag: "--ro /etc/npmrc", shown: true},
		{path: "/home/me/a:b", text: "not in the sandbox: nothing of $HOME is shown", flag: `--ro ~/a\:b`},
		{path: "/home/me/.config", text: "not in the sandbox: nothing of $HOME is shown; ~/.config/op would be in it, a place of credentials or private data", flag: "--ro ~/.config"},
		// The private home is not the host's: a link there is not followed.
		{path: "/home/me/.ssh", text: "not in the sandbox: nothing of $HOME is shown; the host has nothing there, or nothing that you may see"},
		{path: "/srv/lib/f", text: `writable, writes go to the host (--rw ~/lib:/srv/lib), from "/home/me/lib/f"`, shown: true},
		{path: "/home/me/lib/f", text: `not in the sandbox by this path, but as "/srv/lib/f" (--rw ~/lib:/srv/lib)`},
		{path: "/etc/hosts", text: "written by sbx for the sandbox: the host's is not shown", flag: "--ro /etc/hosts"},
		{path: "/etc/passwd", text: "read-only (built in: system)", shown: true},
		{path: "/etc/ssl", text: "read-only (built in: system); the host has nothing there"},
		{path: "/etc/shadow", text: "hidden (built in: secrets of /etc); it holds credentials or private data", flag: "--ro /etc/shadow"},
		{path: "/tmp", text: "the sandbox's own, empty at the start of each run", shown: true},
		{path: "/tmp/agent", text: "not in the sandbox: /tmp is its own, empty at the start of each run; it is a socket: a build that sees it can use what listens there", flag: "--ro /tmp/agent"},
		{path: "/mnt", text: "not in the sandbox: no rule shows it", flag: "--ro /mnt"},
		{path: "/dev/null", text: "the host's device", shown: true},
		{path: "/dev/kvm", text: "not in the sandbox: no rule shows it", flag: "--dev /dev/kvm"},
		{path: "/proc/1", text: "the sandbox's own /proc, with its processes alone", shown: true},
		{path: "/proc/sys/x", text: "of the sandbox's own /proc, read-only", shown: true},
		{path: "/proc/kcore", text: "hidden (built in: system)"},
		{path: plan.Host + "/dev/x", text: "not in the sandbox: no rule shows it; the host has nothing there, or nothing that you may see"},
	} {
		a, shown := aView().look(tt.path)
		flag := ""
		if a.Flags != nil {
			flag = a.Flags[0] + " " + a.Flags[1]
		}
		if tt.subject == "" {
			tt.subject = tt.path
		}
		if a.Subject != tt.subject || a.Text != tt.text || flag != tt.flag || shown != tt.shown {
			t.Errorf("%s: shown %v, flag %q\n got %s: %s\nwant %s: %s (shown %v, flag %q)", tt.path, shown, flag, a.Subject, a.Text, tt.subject, tt.text, tt.shown, tt.flag)
		}
	}
}

func TestViewCommand(t *testing.T) {
	search := []string{"/srv/tools", "/usr/bin"}
	for _, tt := range []struct{ name, subject, text, flag string }{
		{"cc", "cc -> /usr/bin/cc", "read-only (built in: system); /srv/tools/cc comes first on $PATH but is not in the sandbox", "/srv/tools"},
		{"gcc", "gcc -> /usr/bin/gcc -> /usr/bin/cc", "read-only (built in: system)", ""},
		{"only", "only -> /srv/tools/only", "not in the sandbox: no rule shows it", "/srv/tools"},
	} {
		a, ok := aView().command(tt.name, search)
		flag := ""
		if a.Flags != nil {
			flag = a.Flags[1]
		}
		if !ok || a.Subject != tt.subject || a.Text != tt.text || flag != tt.flag {
			t.Errorf("%s: %v, %+v; want %+v", tt.name, ok, a, tt)
		}
	}
	if a, ok := aView().command("nothing", search); ok {
		t.Errorf("a command that there is not: %+v", a)
	}
}

// What a build left in the layer is told apart, and none of its links is
// followed.
func TestVersionIn(t *testing.T) {
	upper := t.TempDir()
	for _, dir := range []string{"d/e", "plain", "opaque"} {
		if err := os.MkdirAll(filepath.Join(upper, dir), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	for _, name := range []string{"f", "d/e/f", "opaque/new"} {
		if err := os.WriteFile(filepath.Join(upper, name), nil, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Symlink("/etc", upper+"/etc"); err != nil {
		t.Fatal(err)
	}
	if err := unix.Mknod(upper+"/gone", unix.S_IFCHR, 0); err != nil {
		t.Fatal(err)
	}
	want := map[string]version{
		"": changes, "/f": file, "/d": changes, "/d/e/f": file, "/d/none": none, "/none/none": none,
		"/gone": deleted, "/gone/below": deleted, "/f/below": deleted, "/etc": file, "/etc/passwd": deleted, "/plain/x": none,
		"/opaque/new": file, "/opaque/old": deleted, "/opaque/old/er": deleted,
	}
	if err := unix.Setxattr(upper+"/opaque", "user.overlay.opaque", []byte("y"), 0); err != nil {
		if err != unix.EOPNOTSUPP || os.Getenv("SBX_MUST_WORK") == "1" {
			t.Fatalf("cannot make an opaque directory in %s: %v", upper, err)
		}
		t.Logf("no opaque directory is tried: the file system of %s has no user attributes", upper)
		delete(want, "/opaque/old")
		delete(want, "/opaque/old/er")
	}
	for rel, v := range want {
		if got := versionIn(upper, rel); got != v {
			t.Errorf("%q: %d, want %d", rel, got, v)
		}
	}
	if got := versionIn(upper+"/etc", "/passwd"); got != none {
		t.Errorf("an upper directory that is a symlink: %d, want %d", got, none)
	}
}
