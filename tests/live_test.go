package tests

import (
	"bufio"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// guest is a shell inside a run that does what it is told.
type guest struct {
	t   testing.TB
	cmd *exec.Cmd
	in  io.WriteCloser
	out *bufio.Reader
	err lockedBuffer
}

const answered = "-- answered --"

// guest starts a run with a shell, with flags of sbx before the command. What it
// prints on stderr belongs to its answers, apart from what sbx says.
func (a account) guest(t testing.TB, tree string, flags ...string) *guest {
	t.Helper()
	script := `exec 2>&1; while read -r c; do eval "$c"; echo "` + answered + `"; done`
	g := &guest{t: t, cmd: a.command(tree, nil, sbxPath, append(flags, "--", "sh", "-c", script)...)}
	var err error
	if g.in, err = g.cmd.StdinPipe(); err != nil {
		t.Fatal(err)
	}
	out, err := g.cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	g.out, g.cmd.Stderr = bufio.NewReader(out), &g.err
	if err := g.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { g.cmd.Process.Kill(); g.cmd.Wait() })
	return g
}

// do runs a command line inside and returns what it prints.
func (g *guest) do(line string) string {
	g.t.Helper()
	if _, err := fmt.Fprintln(g.in, line); err != nil {
		g.t.Fatalf("%q: %v, %s", line, err, g.err.String())
	}
	var b strings.Builder
	for {
		text, err := g.out.ReadString('\n')
		if err != nil {
			g.t.Fatalf("%q: the run has ended: %s%s", line, b.String(), g.err.String())
		}
		if text == answered+"\n" {
			return b.String()
		}
		b.WriteString(text)
	}
}

// until asks until the answer is right, and says how long that took.
func (g *guest) until(what, line, want string) time.Duration {
	g.t.Helper()
	began := time.Now()
	for {
		got := g.do(line)
		if got == want {
			return time.Since(began)
		}
		if time.Since(began) > 10*time.Second {
			g.t.Fatalf("%s: after 10 s %q is\n%swant\n%s", what, line, got, want)
		}
	}
}

// ends closes the shell's input and waits.
func (g *guest) ends() {
	g.t.Helper()
	g.in.Close()
	if err := g.cmd.Wait(); err != nil {
		g.t.Errorf("the run: %v, %s", err, g.err.String())
	}
}

// edit does something on the host, as the account.
func (a account) edit(t testing.TB, dir, script string) {
	t.Helper()
	if r := finish(t, a.command(dir, nil, "sh", "-e", "-c", script)); r.Status != 0 {
		t.Fatalf("%q: %v", script, r)
	}
}

// living is a run in `sbx ps --json`, as far as live is concerned.
type living struct {
	Run     string
	PID     int
	Command []string
	Live    []struct {
		Directory string
		Watching  bool
		Watches   int
		Slow      bool
		Refreshes int
		Held      []string
	}
}

func (a account) ps(t testing.TB, tree string) []living {
	t.Helper()
	var list []living
	if r := a.sbx(t, tree, "ps", "--json"); json.Unmarshal([]byte(r.Stdout), &list) != nil {
		t.Fatal(r)
	}
	return list
}

// watched waits until a run watches the tree, and has nothing to do.
func (a account) watched(t testing.TB, tree string) (run living) {
	t.Helper()
	soon(t, "a run watches", func() bool {
		for _, run = range a.ps(t, tree) {
			for _, l := range run.Live {
				if l.Watching && l.Watches > 0 && l.Directory == tree {
					return true
				}
			}
		}
		return false
	})
	return run
}

// TestLive: whatever the host does to the tree is seen inside, after everything was
// looked at before.
func TestLive(t *testing.T) {
	needUserNS(t)
	needTool(t, "vim", "sed", "git")
	a := newAccount(t)
	tree := a.tree(t, map[string]string{"f": "old\n", "d/g": "old\n", "d/e/h": "old\n", "x/y/z": "old\n"})
	g := a.guest(t, tree)
	a.watched(t, tree)
	const look = `ls -lR . >/dev/null; cat f d/g d/e/h new d/new newdir/f >/dev/null 2>&1; ls -la newdir d/new >/dev/null 2>&1`
	for _, step := range []struct{ what, edit, ask, want string }{
		{"in place", `echo in place >f`, `cat f`, "in place\n"},
		{"append", `echo more >>f`, `cat f`, "in place\nmore\n"},
		{"rename over", `echo renamed >tmp; mv tmp f`, `cat f`, "renamed\n"},
		{"sed -i", `sed -i s/renamed/sed/ f`, `cat f`, "sed\n"},
		{"vim", `vim -Nu NONE -i NONE -n -es -c '%s/sed/vim/' -c wq f`, `cat f`, "vim\n"},
		{"vim with a backup by rename", `vim -Nu NONE -i NONE -n -es -c 'set backupcopy=no' -c '%s/vim/vim2/' -c wq f`, `cat f`, "vim2\n"},
		{"create", `echo new >new`, `cat new`, "new\n"},
		{"delete", `rm new`, `cat new; ls`, "cat: new: No such file or directory\nd\nf\nx\n"},
		{"create again", `echo again >new`, `cat new`, "again\n"},
		{"chmod", `chmod 600 f`, `stat -c %a f`, "600\n"},
		{"a file that may not be read", `chmod 0 f`, `cat f`, "cat: f: Permission denied\n"},
		{"and may again", `chmod 644 f`, `cat f`, "vim2\n"},
		{"a new directory", `mkdir -p newdir/a/b; echo deep >newdir/a/b/f`, `cat newdir/a/b/f`, "deep\n"},
		{"in a new directory", `echo replaced >newdir/t; mv newdir/t newdir/a/b/f`, `cat newdir/a/b/f`, "replaced\n"},
		{"a directory renamed", `mv newdir renamed`, `cat renamed/a/b/f; ls newdir`, "replaced\nls: cannot access 'newdir': No such file or directory\n"},
		{"in the renamed directory", `echo third >renamed/t; mv renamed/t renamed/a/b/f`, `cat renamed/a/b/f`, "third\n"},
		{"deleted and made anew", `rm -rf d; mkdir -p d/e; echo clone >d/g; echo clone >d/e/i`, `cat d/g d/e/i; ls d/e`, "clone\nclone\ni\n"},
		{"a file becomes a directory", `rm f; mkdir f; echo below >f/below`, `cat f/below`, "below\n"},
		{"a directory becomes a symlink", `rm -r f; ln -s d/g f`, `cat f; readlink f`, "clone\nd/g\n"},
		{"another target", `ln -sfn d/e/i f`, `readlink f`, "d/e/i\n"},
		{"a symlink becomes a file", `rm f; echo file >f`, `cat f; readlink f`, "file\n"},
		{"a directory replaced by another", `mkdir o; echo other >o/z; mv x p; mv o x`, `cat x/z; ls x`, "other\nz\n"},
	} {
		g.do(look)
		a.edit(t, tree, step.edit)
		g.until(step.what, step.ask, step.want)
	}
	if r := a.sbx(t, tree, "status", "--porcelain"); r.Stdout != "" || r.Status != 0 {
		t.Errorf("the layer has changes: %v", r)
	}
	g.ends()
	if r := a.sbx(t, tree, "log", "--json", "last"); !strings.Contains(r.Stdout, `"refreshes": `) {
		t.Errorf("the record says nothing of it: %v", r)
	}
	if r := a.sbx(t, tree, "log", "last"); !strings.Contains(r.Stdout, " refreshes\n") {
		t.Errorf("the log says nothing of it: %v", r)
	}
}

// TestLiveGit: git on the host, with many files at once, is a handful of refreshes.
func TestLiveGit(t *testing.T) {
	needUserNS(t)
	needTool(t, "git")
	files := 10000
	if testing.Short() {
		files = 2000
	}
	a := newAccount(t)
	tree := a.dir(t)
	a.edit(t, tree, fmt.Sprintf(`git init -q -b main .; git config user.name t; git config user.email t@localhost
		for d in 0 1 2 3 4 5 6 7 8 9; do mkdir $d; done
		seq %d | while read n; do echo main $n >${n#${n%%?}}/$n; done
		git add -A; git commit -qm main; git checkout -qb other
		seq %d | while read n; do echo other $n >${n#${n%%?}}/$n; done
		rm -r 9; mkdir new; echo new >new/f
		git add -A; git commit -qm other; git checkout -q main`, files, files))
	g := a.guest(t, tree)
	a.watched(t, tree)
	const all = `find . -path ./.git -prune -o -type f -print | LC_ALL=C sort | xargs cat | cksum; git rev-parse HEAD; git status --short`
	host := func() string { return finish(t, a.command(tree, nil, "sh", "-c", all)).Stdout }
	before := host()
	g.until("main", all, before)
	for _, step := range []string{`git checkout -q other`, `git checkout -q main`, `echo edited >0/10; git stash -q`, `git stash pop -q`, `git checkout -q .; git merge -q other`, `rm -rf 3; git checkout -q -- 3`} {
		a.edit(t, tree, step)
		g.until(step, all, host())
	}
	if got := host(); got == before {
		t.Error("nothing has changed")
	}
	run := a.watched(t, tree)
	if n := run.Live[0].Refreshes; n < 6 || n > 120 {
		t.Errorf("%d refreshes", n)
	}
	g.ends()
	if r := a.sbx(t, tree, "status", "--porcelain"); r.Stdout != "" {
		t.Errorf("the layer has changes: %v", r)
	}
}

// TestLiveShared: one run does it for all of the layer, and another one when it ends
// or is killed.
func TestLiveShared(t *testing.T) {
	needUserNS(t)
	a := newAccount(t)
	tree := a.tree(t, map[string]string{"f": "0\n"})
	first := a.guest(t, tree)
	a.watched(t, tree)
	guests := map[int]*guest{first.cmd.Process.Pid: first}
	for range 2 {
		g := a.guest(t, tree)
		g.do("cat f")
		guests[g.cmd.Process.Pid] = g
	}
	a.lives(t, tree, 3)
	time.Sleep(300 * time.Millisecond)
	for n := 1; len(guests) > 0; n++ {
		run := a.watched(t, tree)
		watching := 0
		for _, r := range a.ps(t, tree) {
			for _, l := range r.Live {
				if l.Watching {
					watching++
				}
			}
		}
		if watching != 1 {
			t.Errorf("%d runs watch", watching)
		}
		a.edit(t, tree, fmt.Sprintf(`echo %d >t; mv t f`, n))
		for _, g := range guests {
			g.until("rename over", "cat f", fmt.Sprintf("%d\n", n))
		}
		g := guests[run.PID]
		delete(guests, run.PID)
		if n == 1 {
			g.cmd.Process.Kill()
			g.cmd.Wait()
		} else {
			g.ends()
		}
		// What happens before another one has taken over is not lost.
		a.edit(t, tree, fmt.Sprintf(`echo after %d >t; mv t f`, n))
		for _, g := range guests {
			g.until("after the end of another", "cat f", fmt.Sprintf("after %d\n", n))
		}
	}
}

// TestLiveStopped: where the run that does it is stopped and keeps the lock, another one
// does it, for watchers too, and again when that is stopped; the first is no trouble when
// it goes on.
func TestLiveStopped(t *testing.T) {
	needUserNS(t)
	needTool(t, "inotifywait")
	a := newAccount(t)
	tree := a.tree(t, map[string]string{"src/f": "0\n"})
	var guests []*guest
	for range 3 {
		g := a.guest(t, tree)
		g.do(`inotifywait -m -e moved_to src >/tmp/log 2>&1 & while ! grep -q established /tmp/log; do sleep 0.05; done`)
		guests = append(guests, g)
		a.watched(t, tree)
	}
	a.lives(t, tree, 3)
	stop := map[int]bool{}
	save := func(n int) {
		t.Helper()
		a.edit(t, tree, fmt.Sprintf(`echo %d >t; mv t src/f`, n))
		for i, g := range guests {
			took := g.until("saved", "cat src/f; grep -c MOVED_TO.f /tmp/log", fmt.Sprintf("%d\n%d\n", n, n))
			t.Logf("save %d, run %d: after %v, with %d stopped", n, i, took, len(stop))
		}
	}
	save(1)
	for n := range 2 {
		pid := 0
		soon(t, "one that is not stopped watches", func() bool {
			for _, run := range a.ps(t, tree) {
				for _, l := range run.Live {
					if l.Watching && !stop[run.PID] {
						pid = run.PID
					}
				}
			}
			return pid != 0
		})
		stop[pid] = true
		unix.Kill(pid, unix.SIGSTOP)
		save(2 + n)
	}
	for pid := range stop {
		unix.Kill(pid, unix.SIGCONT)
	}
	save(4)
	for _, g := range guests {
		g.ends()
	}
	a.unchanged(t, "at the end", tree)
	a.nothingLeft(t, tree)
}

// TestLiveReplaced: when the tree itself is moved away, and another put in its place, that
// is said, and a run sees it when the others have ended.
func TestLiveReplaced(t *testing.T) {
	needUserNS(t)
	a := newAccount(t)
	dir := a.dir(t)
	tree := filepath.Join(dir, "tree")
	a.edit(t, dir, `mkdir -p tree/.git; echo old >tree/f`)
	g := a.guest(t, tree)
	a.watched(t, tree)
	g.do(`cat f`)
	a.edit(t, dir, `mv tree before; mkdir -p tree/.git; echo new >tree/f`)
	soon(t, "it is said", func() bool { return strings.Contains(g.err.String(), "was moved or replaced") })
	if r := a.sbx(t, tree, "ps", "-v"); !strings.Contains(r.Stdout, "moved or replaced since: "+tree) {
		t.Errorf("ps: %v", r)
	}
	if got := g.do(`cat f`); got != "old\n" {
		t.Errorf("the run sees %q", got)
	}
	if r := a.sbx(t, tree, "--", "cat", "f"); r.Stdout != "old\n" || !strings.Contains(r.Stderr, "this run sees the directory that was there, too; sbx stop ") {
		t.Errorf("a run that joins: %v", r)
	}
	g.ends()
	if r := a.sbx(t, tree, "--", "cat", "f"); r.Stdout != "new\n" {
		t.Errorf("the next run: %v", r)
	}
}

// TestLiveHeld: what a process holds is as it was until it lets go, is shown, and
// fresh then.
func TestLiveHeld(t *testing.T) {
	needUserNS(t)
	a := newAccount(t)
	tree := a.tree(t, map[string]string{"f": "old\n", "d/g": "old\n", "d/e/h": "old\n"})
	g := a.guest(t, tree)
	a.watched(t, tree)
	g.do(`exec 9<f; cd d; cat g e/h`)
	a.edit(t, tree, `echo new >t; mv t f; rm -rf d; mkdir -p d/e; echo new >d/g; echo new >d/e/h`)
	soon(t, "ps -v shows what is held", func() bool {
		r := a.sbx(t, tree, "ps", "-v")
		return strings.Contains(r.Stdout, "\n    held as it was: f\n") && strings.Contains(r.Stdout, "\n    held as it was: d/g\n") && strings.Contains(r.Stdout, "\n    watches ")
	})
	if got := g.do(`cat <&9`); got != "old\n" {
		t.Errorf("what is held open reads %q", got)
	}
	g.do(`exec 9<&-`)
	g.until("let go of the file", `cat ../f`, "new\n")
	g.do(`cd ..`)
	g.until("let go of the directory", `cat d/g d/e/h`, "new\nnew\n")
	soon(t, "nothing is held", func() bool { return !strings.Contains(a.sbx(t, tree, "ps", "-v").Stdout, "held") })
	g.ends()
}

// TestLiveOwn: what the layer has a version of its own of stays the layer's, and is
// not taken for something that is held.
func TestLiveOwn(t *testing.T) {
	needUserNS(t)
	a := newAccount(t)
	tree := a.tree(t, map[string]string{"own": "host\n", "gone": "host\n", "d/f": "host\n", "f": "host\n"})
	g := a.guest(t, tree)
	a.watched(t, tree)
	g.do(`echo layer >own; rm gone; rm -r d; mkdir d; echo layer >d/f; cat f`)
	a.edit(t, tree, `for f in own gone d/f f; do echo edited >t; mv t $f; done; echo new >d/new`)
	g.until("the host's", "cat f", "edited\n")
	if got := g.do(`cat own d/f; ls gone d`); got != "layer\nlayer\nls: cannot access 'gone': No such file or directory\nd:\nf\n" {
		t.Errorf("inside: %q", got)
	}
	if r := a.sbx(t, tree, "ps", "-v"); strings.Contains(r.Stdout, "held") {
		t.Errorf("held: %v", r)
	}
	g.ends()
}

// TestLiveOff: --no-live leaves the sandbox with what it has seen.
func TestLiveOff(t *testing.T) {
	needUserNS(t)
	a := newAccount(t)
	tree := a.tree(t, map[string]string{"f": "old\n", "still": "there\n"})
	g := a.guest(t, tree, "--no-live")
	a.lives(t, tree, 1)
	time.Sleep(300 * time.Millisecond)
	g.do(`cat f missing`)
	a.edit(t, tree, `echo new >t; mv t f; echo new >missing`)
	time.Sleep(500 * time.Millisecond)
	if got := g.do(`cat missing`); got != "cat: missing: No such file or directory\n" {
		t.Skipf("this kernel shows it without a refresh: %q", got)
	}
	if run := a.ps(t, tree)[0]; len(run.Live) != 0 {
		t.Errorf("%+v", run)
	}
	// Another run of the layer that wants it does it for both.
	other := a.guest(t, tree)
	g.until("with another run", `cat f`, "new\n")
	other.ends()
	g.ends()
	if r := a.sbx(t, tree, "plan", "--no-live", "--", "true"); r.Status != 2 {
		t.Errorf("plan takes a flag that changes nothing of it: %v", r)
	}
}

// TestLiveElsewhere: what is joined to the tree, a tree's git directory outside it,
// and a throw-away layer.
func TestLiveElsewhere(t *testing.T) {
	needUserNS(t)
	needTool(t, "git")
	a := newAccount(t)
	main, lib := a.dir(t), a.dir(t)
	tree := filepath.Join(filepath.Dir(main), "worktree")
	a.mkTree(t, lib, map[string]string{"l": "old\n"})
	a.edit(t, filepath.Dir(main), `chmod 777 . || :`)
	if os.Getuid() == 0 {
		os.Chmod(filepath.Dir(main), 0o777)
	}
	a.edit(t, main, `git init -q -b main .; git config user.name t; git config user.email t@localhost; echo 1 >f; git add f; git commit -qm one; git worktree add -q -b side `+tree)
	g := a.guest(t, tree, "--rm", "--with", lib)
	soon(t, "all are watched", func() bool {
		list := a.ps(t, tree)
		return len(list) == 1 && len(list[0].Live) == 3 && !slices.ContainsFunc(list[0].Live, func(l struct {
			Directory string
			Watching  bool
			Watches   int
			Slow      bool
			Refreshes int
			Held      []string
		}) bool {
			return l.Watches == 0
		})
	})
	g.do(`cat ` + lib + `/l f; git log --oneline; git status; git branch`)
	a.edit(t, lib, `echo new >t; mv t l`)
	g.until("in the joined directory", `cat `+lib+`/l`, "new\n")
	a.edit(t, tree, `echo 2 >t; mv t f; git commit -qam two; git branch third`)
	g.until("the commit on the host", `cat f; git log -1 --format=%s; git status --short; git branch --format='%(refname:short)'`, "2\ntwo\nmain\nside\nthird\n")
	g.ends()
}

// TestLiveQuiet: a build that writes much, also to the host where it may, makes no
// refreshes.
func TestLiveQuiet(t *testing.T) {
	needUserNS(t)
	a := newAccount(t)
	tree := a.tree(t, map[string]string{"src/f": "x\n", "out/": ""})
	g := a.guest(t, tree, "--rw", tree+"/out")
	a.watched(t, tree)
	before := a.watched(t, tree).Live[0].Refreshes
	g.do(`for i in $(seq 300); do mkdir -p src/$i/d out/$i; echo $i >src/$i/f; echo $i >out/$i/f; mv src/$i/f src/$i/g; mv out/$i/f out/$i/g; done; rm -r src out/1*`)
	time.Sleep(300 * time.Millisecond)
	if after := a.watched(t, tree).Live[0].Refreshes; after > before+1 {
		t.Errorf("%d refreshes while only the build has written", after-before)
	}
	if !there(filepath.Join(tree, "out/2/g")) {
		t.Error("nothing was written to the host")
	}
	g.ends()
}

// TestLiveBudget: where the user's watches are used up, it is said once, and what is not
// watched is seen all the same.
func TestLiveBudget(t *testing.T) {
	needUserNS(t)
	a := newAccount(t)
	files := map[string]string{}
	for i := range 120 {
		files[fmt.Sprintf("d%d/f", i)] = "old\n"
	}
	tree := a.tree(t, files)
	// A user namespace has a limit of its own (inotify(7)).
	r := a.doctorInside(t, tree, nil, `echo 60 >/proc/sys/user/max_inotify_watches`, `"$SBX_BIN" --source "$PWD" -- sh -c 'cat d*/f >/dev/null; touch ready; n=0; while [ "$(cat d*/f | grep -c new)" != 120 ]; do sleep 0.1; n=$((n+1)); [ $n -lt 200 ] || exit 9; done' &
		while ! ls "$HOME"/.local/state/sbx/trees/*/layers/*/upper/ready; do sleep 0.05; done >/dev/null 2>&1
		sleep 0.5; for d in d*; do echo new >$d/n; mv $d/n $d/f; done
		wait $!`)
	if r.Status != 0 || strings.Count(r.Stderr, "max_user_watches") != 1 {
		t.Errorf("%v", r)
	}
}

// TestLiveRoot: it works for a caller that is root, too.
func TestLiveRoot(t *testing.T) {
	a := rootAccount(t)
	tree := a.tree(t, map[string]string{"f": "old\n"})
	g := a.guest(t, tree)
	a.watched(t, tree)
	g.do(`cat f`)
	a.edit(t, tree, `echo new >t; mv t f`)
	g.until("rename over", `cat f`, "new\n")
	g.ends()
}
