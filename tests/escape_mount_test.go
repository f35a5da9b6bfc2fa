package tests

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// No mount can be changed: a read-only one made writable, a mask taken off, a
// new one made.
func TestEscapeMountCalls(t *testing.T) {
	t.Parallel()
	needUserNS(t)
	a := newAccount(t)
	tree := a.tree(t, map[string]string{"secret": "canary-hidden\n"})
	a.arm(t, tree)
	attacks := []string{
		"sys mount_tmpfs", "sys mount_bind", "sys remount_usr", "sys remount_root", "sys mount_private", "sys mount_shared", "sys umount_sys", "sys umount_tree",
		"sys umount_proc", "sys pivot_root", "sys mount_setattr", "sys open_tree", "sys fsopen", "sys fspick", "sys move_mount",
	}
	a.inUserns(t, tree, "sys mount_tmpfs").did(t, "sys mount_tmpfs")
	a.inUserns(t, tree, "sys mount_setattr").is(t, "sys mount_setattr", "done", "EINVAL") // EINVAL: /usr is no mount point here
	after := []string{"read secret", "write secret x", "remove secret", "rename secret s2", "link secret s3", "create /usr/x x", "create /etc/x x", "create /x x", "write /proc/sys/kernel/hostname x"}
	for _, flags := range [][]string{nil, {"--root"}, {"--net=host"}} {
		flags := append(flags, "--hide", "secret", "--rm")
		o := a.inside(t, tree, flags, append(attacks, after...)...)
		for _, attack := range attacks {
			o.is(t, attack, "EPERM")
		}
		if strings.Contains(o["read secret"], "canary") {
			t.Errorf("%v: the hidden file can be read: %s", flags, o["read secret"])
		}
		o.refused(t, after[1:]...)
	}
}

// What is shown read-only stays unwritable by every way there is: the mount's
// own path, a hard link, a descriptor that is opened again, a symlink.
func TestEscapeMountReadOnly(t *testing.T) {
	t.Parallel()
	needUserNS(t)
	a := newAccount(t)
	tree := a.tree(t, nil)
	a.arm(t, tree)
	other := a.dir(t)
	a.mkTree(t, other, map[string]string{"file": "host", "sub/file": "host"})
	a.outside(t, other, "write file host", "touch file", "chmod file 0644").did(t, "write file host", "touch file", "chmod file 0644")
	same := unchanged(t, other)
	attacks := []string{
		"write " + other + "/file x", "create " + other + "/new x", "remove " + other + "/file", "rename " + other + "/file " + other + "/f2",
		"link " + other + "/file " + other + "/f3", "link " + other + "/file linked", "chmod " + other + "/file 0777", "touch " + other + "/file",
		"setxattr " + other + "/file user.x y", "mkdir " + other + "/d", "remove " + other + "/sub/file", "write /proc/self/root" + other + "/file x",
		"write /proc/self/cwd/../../.." + other + "/file x",
	}
	a.inside(t, tree, []string{"--ro", other}, attacks...).refused(t, attacks...)
	r := finish(t, a.command(tree, nil, sbxPath, "--ro", other, "--", "sh", "-c", `exec 3<"$1"/file; echo x >/proc/self/fd/3; ln -s "$1"/file l; echo x >l; echo x >>"$1"/sub/file`, "sh", other))
	if !strings.Contains(r.Stderr, "Read-only") && !strings.Contains(r.Stderr, "nonexistent") {
		t.Errorf("nothing was refused: %v", r)
	}
	same()
}

// The host's own tree stays what it is, whatever a build does to it: edits,
// deletions, chmod, times, xattrs, hard links and symlinks to what is outside.
func TestEscapeMountTreeUnchanged(t *testing.T) {
	t.Parallel()
	needUserNS(t)
	a := newAccount(t)
	outside := a.dir(t)
	a.mkTree(t, outside, map[string]string{"f": "precious", "d/g": "precious"})
	tree := a.tree(t, map[string]string{
		"file": "host", "run": "#!/bin/sh\n", "sub/deep/file": "host", "gone": "host",
		"abs": "-> " + outside + "/f", "rel": "-> ../../" + filepath.Base(filepath.Dir(outside)) + "/tree/f", "dirlink": "-> " + outside + "/d",
		"etc": "-> /etc/shadow", "home": "-> " + a.Home,
	})
	if err := os.Link(filepath.Join(outside, "f"), filepath.Join(tree, "hard")); err != nil {
		t.Fatal(err)
	}
	a.mkTree(t, a.Home, map[string]string{".ssh/id": "canary-key"})
	a.arm(t, tree)
	sameTree, sameOut, sameHome := unchanged(t, tree), unchanged(t, outside), unchanged(t, filepath.Join(a.Home, ".ssh"))
	r := a.sbx(t, tree, "--", "sh", "-c", `
		cat abs rel dirlink/g etc home/.ssh/id
		for f in file hard abs rel dirlink/g etc home/.ssh/id; do echo pwned >>$f; chmod 777 $f; touch -d 2001-01-01 $f; done
		rm -rf gone; mv sub/deep/file sub/moved; ln file file2; echo pwned >file2; rm -rf sub; ln -sfn /etc sub
		setfattr -n user.x -v y run; sed -i s/sh/pwned/ run; chmod 4777 run; cp file .git/config; rm -rf .git/objects; chmod 0 .; truncate -s 0 file`)
	if strings.Contains(r.Stdout, "precious") || strings.Contains(r.Stdout, "canary") {
		t.Errorf("a symlink of the tree leads outside: %v", r)
	}
	sameTree()
	sameOut()
	sameHome()
	// The same run must have changed the layer, or it did nothing.
	r = a.sbx(t, tree, "--", "sh", "-c", "cat file2 hard; ls -d sub gone")
	if !strings.Contains(r.Stdout, "pwned") || strings.Contains(r.Stdout, "gone") {
		t.Errorf("the build's changes are not there: %v", r)
	}
}

// A mount that is made on the host while a run lives does not appear inside.
func TestEscapeMountPropagation(t *testing.T) {
	needRoot(t)
	needUserNS(t)
	a := newAccount(t)
	tree := a.tree(t, nil)
	shown := a.dir(t)
	a.mkTree(t, shown, map[string]string{"ro/point/": "", "rw/point/": ""})
	// The mounts must be shared for the test to mean anything.
	if err := unix.Mount(shown, shown, "", unix.MS_BIND, ""); err != nil {
		t.Skipf("cannot mount on this machine, even as root: %v", err)
	}
	defer unix.Unmount(shown, unix.MNT_DETACH)
	if err := unix.Mount("none", shown, "", unix.MS_SHARED, ""); err != nil {
		t.Fatal(err)
	}
	cmd := a.command(tree, nil, sbxPath, "--ro", shown+"/ro", "--rw", shown+"/rw", "--", "sh", "-c",
		`echo ready; while [ ! -e "$1"/rw/go ]; do sleep 0.02; done; ls "$1"/ro/point "$1"/rw/point >"$1"/rw/seen; echo x >"$1"/ro/point/w`, "sh", shown)
	background(t, cmd)
	for _, d := range []string{"ro", "rw"} {
		p := filepath.Join(shown, d, "point")
		if err := unix.Mount("none", p, "tmpfs", 0, "mode=0777"); err != nil {
			t.Fatal(err)
		}
		defer unix.Unmount(p, unix.MNT_DETACH)
		if err := os.WriteFile(filepath.Join(p, "canary"), nil, 0o666); err != nil {
			t.Fatal(err)
		}
	}
	a.mkTree(t, filepath.Join(shown, "rw"), map[string]string{"go": ""})
	data := waitFor(t, filepath.Join(shown, "rw", "seen"))
	if strings.Contains(data, "canary") {
		t.Errorf("a mount made later on the host is inside: %s", data)
	}
	if _, err := os.Stat(filepath.Join(shown, "ro", "point", "w")); err == nil {
		t.Error("and it is writable")
	}
}

// waitFor reads a file that is about to be written.
func waitFor(t *testing.T, path string) string {
	t.Helper()
	for range 200 {
		data, err := os.ReadFile(path)
		if err == nil && len(data) > 0 {
			return string(data)
		}
		time.Sleep(20 * time.Millisecond)
	}
	t.Fatalf("%s has not been written", path)
	return ""
}

// A hidden file stays hidden when the host replaces it while a run lives, as an
// editor does.
func TestEscapeMountMaskAfterReplace(t *testing.T) {
	t.Parallel()
	needUserNS(t)
	a := newAccount(t)
	tree := a.tree(t, map[string]string{"secret": "canary-1\n", "d/secret": "canary-1\n"})
	rw := a.dir(t)
	cmd := a.command(tree, nil, sbxPath, "--rw", rw, "--hide", "secret", "--hide", "d/secret", "--", "sh", "-c",
		`echo ready; while [ ! -e "$1"/go ]; do sleep 0.02; done; ls -R >/dev/null; cat secret d/secret ./d/../secret >"$1"/seen 2>&1; echo end >>"$1"/seen`, "sh", rw)
	background(t, cmd)
	a.mkTree(t, tree, map[string]string{"new": "canary-2\n"})
	for _, name := range []string{"secret", "d/secret"} {
		if err := os.Link(filepath.Join(tree, "new"), filepath.Join(tree, name+".tmp")); err != nil {
			t.Fatal(err)
		}
		if err := os.Rename(filepath.Join(tree, name+".tmp"), filepath.Join(tree, name)); err != nil && name == "secret" {
			t.Fatal(err)
		}
	}
	os.RemoveAll(filepath.Join(tree, "d"))
	a.mkTree(t, tree, map[string]string{"d/secret": "canary-3\n"})
	a.mkTree(t, rw, map[string]string{"go": ""})
	if data := waitFor(t, filepath.Join(rw, "seen")); strings.Contains(data, "canary") {
		t.Errorf("a hidden file shows after the host has replaced it: %s", data)
	}
}

// A rule names a file: it is hidden by whatever name it can be reached.
func TestEscapeMountHideThroughSymlink(t *testing.T) {
	t.Parallel()
	needUserNS(t)
	a := newAccount(t)
	tree := a.tree(t, map[string]string{"secrets/key": "canary\n", "link": "-> secrets", "linkkey": "-> secrets/key"})
	for _, hide := range []string{"secrets/key", "link/key", "linkkey"} {
		r := a.sbx(t, tree, "--rm", "--hide", hide, "--", "sh", "-c", "cat secrets/key link*/key linkkey* 2>/dev/null")
		if r.Status == 125 || r.Status == 2 {
			continue // refused in words
		}
		if strings.Contains(r.Stdout, "canary") {
			t.Errorf("--hide %s does not hide the file: %v", hide, r)
		}
	}
}

// A rule below a --rw directory does not write to the host by itself, and moves
// nothing aside there.
func TestEscapeMountRuleOnWritableGround(t *testing.T) {
	t.Parallel()
	needUserNS(t)
	a := newAccount(t)
	tree := a.tree(t, nil)
	rw := a.dir(t)
	a.mkTree(t, rw, map[string]string{"real": "1", "link": "-> real", "dir/f": "1"})
	same := unchanged(t, rw)
	for _, hide := range []string{"absent", "link", "real/", "dir", "real/below"} {
		a.sbx(t, tree, "--rm", "--rw", rw, "--hide", rw+"/"+hide, "--", "true")
	}
	same()
}

// A set-user-id program gives nothing: here by a real one, which is root's.
func TestEscapeMountSetuid(t *testing.T) {
	needRoot(t)
	needUserNS(t)
	a := newAccount(t)
	tree := a.tree(t, nil)
	a.arm(t, tree)
	shown := a.dir(t)
	id, err := exec.LookPath("id")
	if err != nil {
		missing(t, "id is not installed")
	}
	data, err := os.ReadFile(id)
	if err != nil {
		t.Fatal(err)
	}
	for _, dir := range []string{shown, tree} {
		suid := filepath.Join(dir, "suid")
		if err := os.WriteFile(suid, data, 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.Chmod(suid, 0o755|os.ModeSetuid); err != nil {
			t.Fatal(err)
		}
		control := finish(t, a.command(tree, nil, suid, "-u"))
		if strings.TrimSpace(control.Stdout) != "0" {
			t.Skipf("set-user-id programs do not work in %s: %v", dir, control)
		}
		r := a.sbx(t, tree, "--ro", shown, "--", suid, "-u")
		if strings.TrimSpace(r.Stdout) != fmt.Sprint(a.UID) {
			t.Errorf("a set-user-id program of root's works inside: %v", r)
		}
	}
	// no_new_privs would do that alone; the mounts say it too.
	r := a.sbx(t, tree, "--ro", shown, "--", "cat", "/proc/self/mountinfo")
	for line := range strings.Lines(r.Stdout) {
		if f := strings.Fields(line); len(f) > 5 && !strings.HasPrefix(f[4], "/dev/") && !strings.HasPrefix(f[3], "/null") && !strings.Contains(f[5], "nosuid") {
			t.Errorf("a mount is not nosuid: %s", line)
		}
	}
	// What a build makes set-user-id in its layer is out of others' reach.
	a.sbx(t, tree, "--", "sh", "-c", "cp $(command -v id) mine && chmod 4755 mine")
	stranger := newAccount(t)
	path := strings.TrimSpace(a.sbx(t, tree, "path", "mine").Stdout)
	if _, err := os.Lstat(path); err != nil {
		t.Fatal(err)
	}
	if r := finish(t, stranger.command("/", nil, "sh", "-c", `"$1" -u`, "sh", path)); r.Status == 0 {
		t.Errorf("another user can start the build's set-user-id program: %v", r)
	}
}
