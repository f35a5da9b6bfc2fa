package tests

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// woken is how soon a watcher inside must have learned of an edit on the host.
const woken = time.Second

// events waits for an event of inotifywait's, and says how long that took.
func (r *running) event(t testing.TB, what, want string, from int) time.Duration {
	t.Helper()
	began := time.Now()
	for !strings.Contains(r.out.String()[from:], want) {
		if time.Since(began) > 10*time.Second {
			t.Errorf("%s: there is no %q in\n%s", what, want, r.out.String()[from:])
			return 0
		}
		time.Sleep(2 * time.Millisecond)
	}
	took := time.Since(began)
	if took > woken {
		t.Errorf("%s: %v after %v", what, want, took)
	}
	return took
}

// unchanged fails if the layer shows a change, or would bring one to the host.
func (a account) unchanged(t testing.TB, what, tree string) {
	t.Helper()
	if r := a.sbx(t, tree, "status", "--json", "--all"); r.Status != 0 || strings.Contains(r.Stdout, `"path"`) {
		t.Errorf("%s: status %v", what, r)
	}
	if r := a.sbx(t, tree, "diff"); r.Status != 0 || r.Stdout != "" {
		t.Errorf("%s: diff %v", what, r)
	}
}

// nothingLeft fails if the upper has anything.
func (a account) nothingLeft(t *testing.T, tree string) {
	t.Helper()
	upper := a.upperFile(t, tree, "")
	filepath.Walk(upper, func(path string, info os.FileInfo, err error) error {
		if path != filepath.Clean(upper) {
			t.Errorf("left in the layer: %s, %v", path, err)
		}
		return nil
	})
}

// TestMirror: who watches a directory or a file inside sees each way to save on the
// host, with what the native file system would tell, while the layer has no change.
func TestMirror(t *testing.T) {
	needUserNS(t)
	needTool(t, "inotifywait", "vim", "git")
	a := newAccount(t)
	files := map[string]string{".git/HEAD": "ref: refs/heads/main\n"}
	for _, name := range []string{"place", "over", "sed", "vim", "del", "touch", "mode", "link", "unseen"} {
		files["src/"+name] = "one\n"
	}
	tree := a.tree(t, files)
	for _, watch := range []string{"src", "src/place src/over src/sed src/vim src/del src/touch src/mode src/link"} {
		r := a.background(t, tree, "--", "sh", "-c", `exec inotifywait -q -m --format "<%w|%f|%e>" `+watch)
		a.watched(t, tree)
		soon(t, "inotifywait watches", func() bool {
			var fds, _ = filepath.Glob("/proc/[0-9]*/fdinfo/*")
			for _, f := range fds {
				if data, err := os.ReadFile(f); err == nil && strings.Contains(string(data), "inotify wd:") && inside(f, a) {
					return true
				}
			}
			return false
		})
		var total time.Duration
		for i, test := range []struct{ name, script, dir, file string }{
			{"place", `echo two >src/place`, "<src/|place|CLOSE_WRITE,CLOSE>", "<src/place||CLOSE_WRITE,CLOSE>"},
			{"place again", `echo three >>src/place`, "<src/|place|CLOSE_WRITE,CLOSE>", "<src/place||DELETE_SELF>"},
			{"over", `echo two >src/tmp; mv src/tmp src/over`, "<src/|over|MOVED_TO>", "<src/over||DELETE_SELF>"},
			{"sed", `sed -i s/one/two/ src/sed`, "<src/|sed|MOVED_TO>", "<src/sed||DELETE_SELF>"},
			{"vim", `vim -es -u NONE -c 's/one/two/' -c wq src/vim`, "<src/|vim|", "<src/vim||"},
			{"touch", `touch src/touch`, "<src/|touch|CLOSE_WRITE,CLOSE>", "<src/touch||CLOSE_WRITE,CLOSE>"},
			{"chmod", `chmod 755 src/mode; chmod 644 src/mode`, "<src/|mode|ATTRIB>", "<src/mode||ATTRIB>"},
			{"symlink", `ln -s over src/tmp; mv -T src/tmp src/link`, "<src/|link|MOVED_TO>", "<src/link||DELETE_SELF>"},
			{"delete", `rm src/del`, "<src/|del|DELETE,ISDIR>", "<src/del||DELETE_SELF>"},
			{"create", `echo new >src/new`, "<src/|new|CREATE>\n<src/|new|OPEN>\n<src/|new|MODIFY>\n<src/|new|CLOSE_WRITE,CLOSE>", ""},
			{"delete a new one", `rm src/new`, "<src/|new|DELETE,ISDIR>", ""},
			{"create where it was looked for", `echo new >src/looked`, "<src/|looked|CREATE>\n<src/|looked|OPEN>\n<src/|looked|MODIFY>\n<src/|looked|CLOSE_WRITE,CLOSE>", ""},
			{"rename", `mv src/looked src/renamed`, "<src/|renamed|MOVED_TO>", ""},
			{"delete what was not looked up", `rm src/unseen`, "<src/|unseen|DELETE,ISDIR>", ""},
			{"mkdir", `mkdir src/d`, "<src/|d|ATTRIB,ISDIR>", ""},
			{"rename of a directory", `mv src/d src/e`, "<src/|d|DELETE,ISDIR>", ""},
			{"rmdir", `rmdir src/e`, "<src/|e|DELETE,ISDIR>", ""},
		} {
			want := test.dir
			if watch != "src" {
				want = test.file
			}
			from := len(r.out.String())
			a.edit(t, tree, test.script)
			if want != "" {
				total += r.event(t, test.name, want, from)
			}
			if i%4 == 3 {
				a.unchanged(t, test.name, tree)
			}
		}
		t.Logf("%s: %v in all", watch, total)
		a.unchanged(t, "all", tree)
		if r := a.sbx(t, tree, "pull", "--all"); strings.Contains(r.Stdout, "src") {
			t.Errorf("pull: %v", r)
		}
		r.Process.Signal(os.Interrupt)
		r.ends(t)
		a.unchanged(t, "at the end", tree)
		a.nothingLeft(t, tree)
		a.edit(t, tree, `rm -r src; mkdir src; for f in place over sed vim del touch mode link unseen; do echo one >src/$f; done`)
	}
}

// TestMirrorDirectories: directories that are watched, and have come into the layer by
// mirrors, follow the host's when those are renamed, swapped and removed: nothing of them
// is left, and none is a stale file handle.
func TestMirrorDirectories(t *testing.T) {
	needUserNS(t)
	a := newAccount(t)
	tree := a.tree(t, map[string]string{"src/d/f": "0\n", "src/d/sub/g": "0\n", "src/e/h": "0\n", "src/last": "0\n"})
	g := a.mirrored(t, tree)
	const look = `cd src; find . -type f | LC_ALL=C sort | while read f; do echo $f $(cat $f); done 2>&1; cd ..`
	host := func() string { return finish(t, a.command(tree, nil, "sh", "-c", look)).Stdout }
	for i, script := range []string{
		`echo 1 >src/d/f; echo 1 >src/d/sub/g; echo 1 >src/e/h`,
		`mv src/d src/a`,
		`echo 2 >src/a/f; echo 2 >src/a/sub/g`,
		`mv src/e src/t; mv src/a src/e; mv src/t src/a`,
		`echo 3 >src/a/h; echo 3 >src/e/f; echo 3 >src/e/sub/g`,
		`mv src/e/sub src/up; mv src/a src/up/a`,
		`rm -r src/e; mkdir src/e; echo 4 >src/e/f`,
		`rm -r src/up`,
		`rm -r src/e; echo 5 >src/e`,
	} {
		a.edit(t, tree, script)
		g.until(script, look, host())
		if i%3 == 2 {
			a.unchanged(t, script, tree)
		}
		time.Sleep(100 * time.Millisecond)
	}
	g.ends()
	a.unchanged(t, "at the end", tree)
	a.nothingLeft(t, tree)
}

// TestMirrorElsewhere: watchers are woken by each kind of edit with ids of their own (of
// --root, and of a caller that is root), and where the layer is on another file system.
func TestMirrorElsewhere(t *testing.T) {
	needTool(t, "inotifywait")
	edits := func(t *testing.T, a account, tree string, flags ...string) {
		g := a.guest(t, tree, flags...)
		g.do(`inotifywait -m -r src >/tmp/log 2>&1 & while ! grep -q established /tmp/log; do sleep 0.05; done`)
		a.watched(t, tree)
		for _, e := range [][2]string{
			{`echo two >src/f`, "CLOSE_WRITE,CLOSE f"},
			{`echo three >t; mv t src/f`, "MOVED_TO f"},
			{`echo one >src/n`, "CREATE n"},
			{`rm src/n`, "DELETE,ISDIR n"},
			{`mkdir src/d`, "ATTRIB,ISDIR d"},
			{`rmdir src/d`, "DELETE,ISDIR d"},
		} {
			a.edit(t, tree, e[0])
			g.until(e[0], `grep -q '`+e[1]+`$' /tmp/log && echo seen`, "seen\n")
		}
		g.ends()
		uppers, _ := filepath.Glob(filepath.Join(a.Home, ".local/state/sbx/trees/*/layers/*/upper"))
		if len(uppers) != 1 {
			t.Fatalf("uppers: %q", uppers)
		}
		filepath.Walk(uppers[0], func(path string, info os.FileInfo, err error) error {
			if path != uppers[0] {
				t.Errorf("left in the layer: %s, %v", path, err)
			}
			return nil
		})
	}
	t.Run("--root", func(t *testing.T) {
		a := newAccount(t)
		a.needSubIDs(t)
		edits(t, a, a.tree(t, map[string]string{"src/f": "one\n"}), "--root")
	})
	t.Run("root", func(t *testing.T) {
		a := rootAccount(t)
		edits(t, a, a.tree(t, map[string]string{"src/f": "one\n"}))
	})
	t.Run("file system", func(t *testing.T) {
		needUserNS(t)
		needRoot(t)
		a := newAccount(t)
		state := filepath.Join(a.Home, ".local/state")
		a.mkTree(t, state, nil)
		if err := unix.Mount("none", state, "tmpfs", 0, "mode=0777"); err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { unix.Unmount(state, unix.MNT_DETACH) })
		edits(t, a, a.tree(t, map[string]string{"src/f": "one\n"}))
	})
}

// TestMirrorFlicker: what comes and goes on the host all the time, files and directories,
// is what the host has in the end, and nothing of it stays in the layer.
func TestMirrorFlicker(t *testing.T) {
	needUserNS(t)
	a := newAccount(t)
	tree := a.tree(t, map[string]string{"src/d/f": "0\n", "src/f": "0\n", "src/last": "0\n"})
	g := a.mirrored(t, tree)
	rounds := 150
	if testing.Short() {
		rounds = 40
	}
	a.edit(t, tree, fmt.Sprintf(`i=0; while [ $i -lt %d ]; do i=$((i+1)); rm -rf src/d src/f src/n; sleep 0.0$((i %% 9)); mkdir src/d; echo $i >src/d/f; echo $i >src/f; echo $i >src/n; sleep 0.0$((i %% 7)); done`, rounds))
	want := fmt.Sprintf("%d\n%d\n%d\n", rounds, rounds, rounds)
	g.until("in the end", `cat src/d/f src/f src/n`, want)
	a.unchanged(t, "in the end", tree)
	g.ends()
	a.unchanged(t, "at rest", tree)
	a.nothingLeft(t, tree)
}

// inside says whether a file of /proc is of a process of the account's.
func inside(file string, a account) bool {
	data, err := os.ReadFile(filepath.Join(filepath.Dir(filepath.Dir(file)), "status"))
	return err == nil && strings.Contains(string(data), fmt.Sprintf("Uid:\t%d\t", a.UID))
}

// TestMirrorEntr: entr, which watches files, builds once for each save.
func TestMirrorEntr(t *testing.T) {
	needUserNS(t)
	needTool(t, "entr")
	a := newAccount(t)
	tree := a.tree(t, map[string]string{"a.c": "0\n", "b.c": "0\n"})
	r := a.background(t, tree, "--", "sh", "-c", `ls *.c | entr -n sh -c 'echo "built $(cat a.c b.c | tr "\n" " ")"'`)
	a.watched(t, tree)
	soon(t, "the first build", func() bool { return strings.Contains(r.out.String(), "built 0 0") })
	time.Sleep(200 * time.Millisecond)
	for i, script := range []string{`echo %d >a.c`, `echo %d >t; mv t a.c`, `sed -i s/.*/%d/ a.c`, `echo %d >a.c`} {
		from := len(r.out.String())
		a.edit(t, tree, fmt.Sprintf(script, i+1))
		r.event(t, script, fmt.Sprintf("built %d 0", i+1), from)
		time.Sleep(300 * time.Millisecond) // entr waits for the quiet of its own
	}
	a.unchanged(t, "while it runs", tree)
}

// TestMirrorRace: a build that writes the file that the host edits, in place, by
// rename and by deletion, finds what it wrote last, whenever the host saves.
func TestMirrorRace(t *testing.T) {
	needUserNS(t)
	needTool(t, "inotifywait")
	a := newAccount(t)
	tree := a.tree(t, map[string]string{"src/f": "host\n", ".git/HEAD": "ref: refs/heads/main\n"})
	// Each file is written once: it is the layer's own from then on, whatever the
	// host does to it before, meanwhile and after.
	script := `inotifywait -q -m -r src >/tmp/log & echo up
i=0; while [ $i -lt 150 ]; do i=$((i+1))
	while [ ! -e src/$i ]; do :; done
	sleep 0.0$((i % 7))
	case $((i % 3)) in
	0) echo build $i >src/$i;;
	1) echo build $i >/tmp/t; cp /tmp/t src/t; mv src/t src/$i;;
	2) echo build $i >>src/$i;;
	esac
	sleep 0.0$((i % 5))
done
sleep 0.3
i=0; while [ $i -lt 150 ]; do i=$((i+1)); tail -n1 src/$i; done`
	r := a.background(t, tree, "--", "sh", "-c", script)
	a.watched(t, tree)
	host := a.command(tree, nil, "sh", "-c", `i=0; while [ $i -lt 155 ]; do i=$((i+1))
	echo host >src/$i; sleep 0.02; echo more >>src/$i; sleep 0.01; echo over >t; mv t src/$i; sleep 0.03; done`)
	if err := host.Run(); err != nil {
		t.Fatal(err)
	}
	r.ends(t)
	var want strings.Builder
	for i := range 150 {
		fmt.Fprintf(&want, "build %d\n", i+1)
	}
	if got := strings.TrimPrefix(r.out.String(), "up\n"); got != want.String() {
		lost := 0
		for _, line := range strings.Split(want.String(), "\n") {
			if !strings.Contains("\n"+got, "\n"+line+"\n") {
				lost++
				t.Errorf("lost: %s", line)
			}
		}
		t.Errorf("%d lost of %q", lost, got)
	}
	r2 := a.sbx(t, tree, "status")
	if n := strings.Count(r2.Stdout, "src/"); n < 150 {
		t.Errorf("status: %v", r2)
	}
	var records []struct{ Mirrors int }
	if r := a.sbx(t, tree, "log", "--json"); json.Unmarshal([]byte(r.Stdout), &records) != nil || len(records) == 0 || records[0].Mirrors < 50 {
		t.Errorf("log: %v", r)
	}
}

// changesOwn is a status with one change.
var changesOwn = regexp.MustCompile(`^M  own\n\n`)

// TestMirrorKilled: whenever sbx is killed, nothing of a mirror is left after the next
// run, and what the build wrote is.
func TestMirrorKilled(t *testing.T) {
	needUserNS(t)
	needTool(t, "inotifywait")
	a := newAccount(t)
	files := map[string]string{"own": "host\n", ".git/HEAD": "ref: refs/heads/main\n"}
	for i := range 30 {
		files["src/"+strconv.Itoa(i)] = strings.Repeat("host\n", 5000)
	}
	tree := a.tree(t, files)
	for i := range 8 {
		r := a.background(t, tree, "--", "sh", "-c", `inotifywait -q -m -r src >/dev/null & echo build >own; exec sleep 100`)
		a.watched(t, tree)
		time.Sleep(100 * time.Millisecond)
		a.edit(t, tree, `for f in src/*; do echo edit >>$f; done; sleep 0.1; for f in src/*; do cp $f t; echo over >>t; mv t $f; done; rm src/1*; echo new >src/1; echo new >src/new; rm -f src/new2`)
		time.Sleep(time.Duration(i*7) * time.Millisecond)
		r.Process.Kill()
		r.ends(t)
		if i%2 == 0 {
			a.edit(t, tree, `rm -rf src; mkdir src; for i in 0 1 2 3 4 5 6 7 8 10 11 12 13 14 15; do yes host | head -n5000 >src/$i; done`)
		}
		if r := a.sbx(t, tree, "status"); !changesOwn.MatchString(r.Stdout) {
			t.Errorf("after kill %d: %v", i, r)
		}
		if r := a.sbx(t, tree, "--", "true"); r.Status != 0 {
			t.Fatal(r)
		}
		upper := a.upperFile(t, tree, "")
		filepath.Walk(upper, func(path string, info os.FileInfo, err error) error {
			if path != filepath.Clean(upper) && path != filepath.Join(upper, "own") {
				t.Errorf("kill %d: left in the layer: %s, %v", i, path, err)
			}
			return nil
		})
		if r := a.sbx(t, tree, "status"); !changesOwn.MatchString(r.Stdout) {
			t.Errorf("after kill %d and a run: %v", i, r)
		}
	}
}

// TestMirrorKilledOne: of runs that share a layer any may be killed, and the last one that
// ends leaves nothing all the same.
func TestMirrorKilledOne(t *testing.T) {
	needUserNS(t)
	needTool(t, "inotifywait")
	for _, first := range []bool{true, false} {
		a := newAccount(t)
		tree := a.tree(t, map[string]string{"d/f": "one\n"})
		one := a.background(t, tree, "--", "inotifywait", "-q", "-m", "d")
		a.watched(t, tree)
		two := a.background(t, tree, "--", "inotifywait", "-q", "-m", "d")
		a.lives(t, tree, 2)
		time.Sleep(200 * time.Millisecond)
		a.edit(t, tree, `echo two >t; mv t d/f`)
		soon(t, "a mirror", func() bool { _, err := os.Lstat(a.upperFile(t, tree, "d/f")); return err == nil })
		if !first {
			one, two = two, one
		}
		one.Process.Kill()
		one.ends(t)
		a.edit(t, tree, `echo three >t; mv t d/f; sleep 0.3`)
		two.Process.Signal(os.Interrupt)
		two.ends(t)
		a.nothingLeft(t, tree)
	}
}

// TestMirrorLate: what the host edits after the last mirror, and after the run, shows
// in the next.
func TestMirrorLate(t *testing.T) {
	needUserNS(t)
	needTool(t, "inotifywait")
	a := newAccount(t)
	tree := a.tree(t, map[string]string{"d/f": "one\n", "d/g": "one\n"})
	r := a.background(t, tree, "--", "inotifywait", "-q", "-m", "d", "d/f")
	a.watched(t, tree)
	time.Sleep(200 * time.Millisecond)
	a.edit(t, tree, `echo two >d/f; echo two >d/g; sleep 0.3; echo three >t; mv t d/f; rm d/g; sleep 0.3`)
	r.Process.Signal(os.Interrupt)
	r.ends(t)
	a.edit(t, tree, `echo four >d/f; echo four >d/g`)
	if r := a.sbx(t, tree, "--", "cat", "d/f", "d/g"); r.Stdout != "four\nfour\n" {
		t.Error(r)
	}
	a.nothingLeft(t, tree)
}

// TestMirrorHidden: what a mask stands on is left alone: the kernel would detach the
// mask with it, and show what it hides.
func TestMirrorHidden(t *testing.T) {
	needUserNS(t)
	needTool(t, "inotifywait")
	a := newAccount(t)
	tree := a.tree(t, map[string]string{"src/secret": "secret\n", "src/f": "one\n", "src/ro": "one\n"})
	g := a.guest(t, tree, "--hide", "src/secret", "--ro", "src/ro")
	a.watched(t, tree)
	g.do(`inotifywait -q -m --format "%f" -e moved_to -e close_write -e attrib -o /tmp/log src src/secret src/ro & sleep 0.2`)
	for _, script := range []string{`echo secret >t; mv t src/secret`, `echo secret >>src/secret`, `rm src/secret`, `echo secret >src/secret`, `echo two >t; mv t src/ro`} {
		a.edit(t, tree, script+`; echo two >t; mv t src/f`)
		g.until(script, `grep -c ^f /tmp/log >/tmp/n; [ $(cat /tmp/n) -gt 0 ] && echo seen`, "seen\n")
		if got := g.do(`: >/tmp/log; cat src/secret; echo x >src/ro; grep -v ^f /tmp/log`); strings.Contains(got, "secret\n") || !strings.Contains(got, "annot create") {
			t.Errorf("%s: inside: %q", script, got)
		}
	}
	g.ends()
	a.nothingLeft(t, tree)
}

// TestMirrorLetsGo: what sbx holds of watched files is no longer held than there is a name.
// Who watches one that a build deletes learns of it, and a directory that the host takes
// away is not seen inside any more.
func TestMirrorLetsGo(t *testing.T) {
	needUserNS(t)
	needTool(t, "inotifywait")
	a := newAccount(t)
	tree := a.tree(t, map[string]string{"removed": "one\n", "replaced": "one\n", "host": "one\n", "host2": "one\n", "d/f": "one\n", "d/e/g": "one\n", "other": "one\n", "assets/a": "one\n"})
	if err := os.Link(filepath.Join(tree, "host"), filepath.Join(tree, "linked")); err != nil {
		t.Fatal(err)
	}
	g := a.guest(t, tree)
	g.do(`inotifywait -q -m --format "%w %e" -o /tmp/log .git removed replaced host host2 linked d/f d/e/g & sleep 0.2`)
	a.watched(t, tree)
	a.edit(t, tree, `echo two >removed; echo two >replaced; echo two >d/f; sleep 0.3; echo two >t; mv t other`)
	g.until("the edits", `cat removed replaced d/f other`, "two\ntwo\ntwo\ntwo\n")
	for _, test := range []struct{ name, script string }{
		{"removed", `rm removed`},
		{"replaced", `echo three >new; mv new replaced`},
		{"linked", `rm linked`},
		{"host", `rm host`},
		{"host2", `echo three >new; mv new host2`},
	} {
		g.do(test.script)
		g.until(test.script, `grep -h "DELETE_SELF" /tmp/log | grep "^`+test.name+` "`, test.name+" DELETE_SELF\n")
	}
	away := a.dir(t)
	a.edit(t, tree, `mv d/e `+away+`; echo three >t; mv t other`)
	g.until("a directory that was taken away", `cat other d/e/g 2>/dev/null; ls d`, "three\nf\n")
	// That of the temporaries, as .git is watched.
	a.edit(t, tree, `echo four >t; mv t d/f`)
	g.until("an edit", `cat d/f`, "four\n")
	a.edit(t, tree, `mv assets `+away+`; echo four >t; mv t other`)
	g.until("the temporaries' directory, when it was taken away", `cat other; ls -d assets 2>/dev/null`, "four\n")
	g.ends()
}

// TestMirrorAttributes: a build that changes the mode or the times of what the host has just
// replaced, by a descriptor, does not bring it back. Not in the same moment: while the mirror
// has not looked at what it took away, a new time may be that of a write.
func TestMirrorAttributes(t *testing.T) {
	needUserNS(t)
	needTool(t, "inotifywait", "python3")
	a := newAccount(t)
	tree := a.tree(t, map[string]string{"src/f": "one\n", "src/g": "one\n", "change.py": `import os, time
f, g = os.open("src/f", os.O_RDONLY), os.open("src/g", os.O_RDONLY)
while os.stat("src/g").st_ino == os.fstat(g).st_ino: pass
time.sleep(0.05)
os.fchmod(f, 0o600)
os.utime(g)
`})
	g := a.guest(t, tree)
	a.watched(t, tree)
	g.do(`inotifywait -q -m -o /tmp/log src & sleep 0.2; python3 change.py & sleep 0.3`)
	a.edit(t, tree, `echo two >t; mv t src/f; echo two >t; mv t src/g`)
	g.until("the edits", `cat src/f src/g`, "two\ntwo\n")
	time.Sleep(500 * time.Millisecond)
	if got := g.do(`wait %2; cat src/f src/g`); got != "two\ntwo\n" {
		t.Errorf("in the end: %q", got)
	}
	g.ends()
	a.nothingLeft(t, tree)
}

// TestMirrorParked: what a build writes to a file just after the mirror has taken it out of
// its place, because it had found it before, is not lost.
func TestMirrorParked(t *testing.T) {
	needUserNS(t)
	needTool(t, "inotifywait")
	a := newAccount(t)
	tree := a.tree(t, map[string]string{"src/other": ""})
	g := a.guest(t, tree)
	a.watched(t, tree)
	// It is a race: the build is late where the machine is busy.
	for n := range 20 {
		f := fmt.Sprintf("src/f%d", n)
		a.edit(t, tree, `echo host >`+f)
		g.until("a new file", "cat "+f+" 2>/dev/null", "host\n")
		g.do(`exec 3<` + f + `; { inotifywait -q -e moved_to src >/dev/null 2>&1 3<&-; echo build >>/proc/self/fd/3; echo wrote >/tmp/` + filepath.Base(f) + `; } & sleep 0.1`)
		a.edit(t, tree, `echo later >t; mv t `+f)
		g.until("the build's write", `cat /tmp/`+filepath.Base(f)+` 2>/dev/null`, "wrote\n")
		time.Sleep(400 * time.Millisecond)
		if got := g.do("cat " + f); got != "host\nbuild\n" {
			continue
		}
		g.ends()
		if r := a.sbx(t, tree, "status"); !strings.Contains(r.Stdout, "M  "+f) {
			t.Errorf("status: %v", r)
		}
		return
	}
	t.Error("what a build has written was lost each time")
}

// TestMirrorParkedKilled: the same when sbx is killed just then: another run of the layer
// gives the file its name back, or the next one does.
func TestMirrorParkedKilled(t *testing.T) {
	needUserNS(t)
	needTool(t, "inotifywait")
	for _, others := range []bool{true, false} {
		// sbx must be stopped in time.
		for tries := 1; !parkedKilled(t, others); tries++ {
			if tries == 20 {
				t.Fatal("the machine is too slow for this")
			}
		}
	}
}

func parkedKilled(t *testing.T, others bool) (done bool) {
	a := newAccount(t)
	tree := a.tree(t, map[string]string{"src/f": "host\n"})
	charge := a.guest(t, tree) // is in charge, being the first
	a.watched(t, tree)
	g := charge
	if others {
		g = a.guest(t, tree)
		a.lives(t, tree, 2)
	}
	g.do(`exec 3<src/f; inotifywait -q -m src >/dev/null 2>&1 3<&- & sleep 0.2`)
	parked := func() bool {
		list, _ := filepath.Glob(a.upperFile(t, tree, ".git/.sbx-mirror-*.swp"))
		up, err := os.ReadFile(a.upperFile(t, tree, "src/f"))
		return len(list) > 0 && err == nil && string(up) == "later\n"
	}
	go a.command(tree, nil, "sh", "-c", `sleep 0.1; echo later >t; mv t src/f`).Run()
	for began := time.Now(); !parked(); {
		if time.Since(began) > 10*time.Second {
			t.Fatal("nothing is parked")
		}
	}
	charge.cmd.Process.Signal(unix.SIGSTOP)
	if !parked() {
		return false
	}
	if got := g.do(`echo build >>/proc/self/fd/3; cat src/f`); got != "later\n" {
		t.Fatalf("what is parked is there: %q", got)
	}
	charge.cmd.Process.Kill()
	charge.cmd.Wait()
	if others {
		g.until("what the build has written", `cat src/f`, "host\nbuild\n")
		g.ends()
	}
	if r := a.sbx(t, tree, "--", "cat", "src/f"); r.Stdout != "host\nbuild\n" {
		t.Errorf("in the next run: %v", r)
	}
	if r := a.sbx(t, tree, "status", "--porcelain", "--all"); !strings.Contains(r.Stdout, " src/f") || strings.Contains(r.Stdout, "sbx-mirror") {
		t.Errorf("status: %v", r)
	}
	return true
}
