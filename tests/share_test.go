package tests

import (
	"encoding/json"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

// running is a run in the background.
type running struct {
	*exec.Cmd
	out  lockedBuffer
	done chan error
}

// background starts a run, and waits until the file "up" is there: its command
// makes it.
func (a account) background(t testing.TB, tree string, args ...string) *running {
	t.Helper()
	return a.backgroundWith(t, tree, nil, args...)
}

// backgroundWith gives the run a standard input.
func (a account) backgroundWith(t testing.TB, tree string, in io.Reader, args ...string) *running {
	t.Helper()
	r := &running{Cmd: a.command(tree, nil, sbxPath, args...), done: make(chan error, 1)}
	r.Stdin, r.Stdout, r.Stderr = in, &r.out, &r.out
	r.WaitDelay = 5 * time.Second
	if err := r.Start(); err != nil {
		t.Fatal(err)
	}
	go func() { r.done <- r.Wait() }()
	t.Cleanup(func() { r.Process.Kill() })
	return r
}

// ends waits for the end of a run.
func (r *running) ends(t testing.TB) error {
	t.Helper()
	select {
	case err := <-r.done:
		r.done <- err
		return err
	case <-time.After(limit):
		t.Fatalf("%q does not end: %s", r.Args, r.out.String())
		return nil
	}
}

// soon waits for a condition.
func soon(t testing.TB, what string, ok func() bool) {
	t.Helper()
	for deadline := time.Now().Add(limit); !ok(); time.Sleep(10 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("not within %v: %s", limit, what)
		}
	}
}

// upperFile is the layer's version of a file.
func (a account) upperFile(t testing.TB, tree, name string) string {
	t.Helper()
	list, err := filepath.Glob(filepath.Join(a.Home, ".local/state/sbx/trees/*/layers/default/upper"))
	if err != nil || len(list) != 1 {
		t.Fatalf("uppers: %q, %v", list, err)
	}
	return filepath.Join(list[0], name)
}

func there(path string) bool {
	_, err := os.Lstat(path)
	return err == nil
}

// lives waits until so many runs answer.
func (a account) lives(t testing.TB, tree string, count int) []map[string]any {
	t.Helper()
	var list []map[string]any
	soon(t, fmt.Sprintf("%d runs", count), func() bool {
		list = nil
		r := a.sbx(t, tree, "ps", "--json")
		return json.Unmarshal([]byte(r.Stdout), &list) == nil && len(list) == count
	})
	return list
}

const waitForEnd = `while [ ! -e end ]; do sleep 0.02; done; `

// TestShare: runs of one layer see each other's writes at once, whichever of them
// ends first, and how.
func TestShare(t *testing.T) {
	needUserNS(t)
	for _, kill := range []bool{false, true} {
		t.Run(fmt.Sprintf("kill=%v", kill), func(t *testing.T) {
			a := newAccount(t)
			tree := a.tree(t, map[string]string{"f": "host\n"})
			first := a.background(t, tree, "--", "sh", "-c", `echo 1 >one; while [ ! -e first ]; do sleep 0.02; done`)
			a.lives(t, tree, 1)
			second := a.background(t, tree, "--", "sh", "-c", `cat one; echo 2 >two; `+waitForEnd+`cat three`)
			a.lives(t, tree, 2)
			if r := a.sbx(t, tree, "--", "sh", "-c", "cat one two f; echo changed >f"); r.Stdout != "1\n2\nhost\n" || r.Status != 0 {
				t.Fatal(r)
			}
			if kill {
				first.Process.Kill()
			} else if r := a.sbx(t, tree, "--", "touch", "first"); r.Status != 0 {
				t.Fatal(r)
			}
			if err := first.ends(t); (err != nil) != kill {
				t.Errorf("the first: %v, %s", err, first.out.String())
			}
			// The mount lives on with the second, from which others have it now.
			third := a.background(t, tree, "--", "sh", "-c", `cat f two; echo 3 >three; `+waitForEnd)
			a.lives(t, tree, 2)
			if r := a.sbx(t, tree, "--", "sh", "-c", "cat three f; touch end"); r.Stdout != "3\nchanged\n" || r.Status != 0 {
				t.Error(r)
			}
			for _, r := range []*running{second, third} {
				if err := r.ends(t); err != nil {
					t.Errorf("%v: %s", err, r.out.String())
				}
			}
			if got := second.out.String(); got != "1\n3\n" {
				t.Errorf("the second saw %q", got)
			}
			if got := third.out.String(); got != "changed\n2\n" {
				t.Errorf("the third saw %q", got)
			}
			if data, err := os.ReadFile(filepath.Join(tree, "f")); err != nil || string(data) != "host\n" {
				t.Errorf("the host's file: %q, %v", data, err)
			}
			// Afterwards all of it is there, in a mount of its own.
			if r := a.sbx(t, tree, "--", "sh", "-c", "cat one two three f"); r.Stdout != "1\n2\n3\nchanged\n" || r.Status != 0 {
				t.Error(r)
			}
			a.lives(t, tree, 0)
		})
	}
}

// TestShareInstant: runs that start in the same instant on a fresh layer all work,
// and share one mount.
func TestShareInstant(t *testing.T) {
	needUserNS(t)
	a := newAccount(t)
	tree := a.tree(t, nil)
	const count = 20
	var wg sync.WaitGroup
	results := make([]result, count)
	for i := range count {
		wg.Go(func() {
			// Each waits for the next one's file, which it sees only where it shares.
			results[i] = a.sbx(t, tree, "--", "sh", "-c", fmt.Sprintf(`echo x >from%d; n=0; while [ ! -e from%d ]; do sleep 0.05; n=$((n+1)); [ $n -lt 600 ] || exit 9; done`, i, (i+1)%count))
		})
	}
	wg.Wait()
	for i, r := range results {
		if r.Status != 0 {
			t.Errorf("run %d: %v", i, r)
		}
	}
	for i := range count {
		if !there(a.upperFile(t, tree, fmt.Sprintf("from%d", i))) {
			t.Errorf("what run %d wrote is not in the layer", i)
		}
	}
}

// TestShareKilledAll: after kill -9 of everything, with a process that takes long
// to die, the next run waits for the mount to be gone, and works.
func TestShareKilledAll(t *testing.T) {
	needUserNS(t)
	a := newAccount(t)
	tree := a.tree(t, nil)
	for range 5 {
		// A large process: its memory is given back only after it is dead.
		script := `dd if=/dev/zero of=/tmp/big bs=1M count=64 2>/dev/null; echo x >>log; touch up; sleep 1000`
		first := a.background(t, tree, "--", "sh", "-c", script)
		soon(t, "the first", func() bool { return len(a.livesNow(t, tree)) == 1 })
		second := a.background(t, tree, "--", "sh", "-c", script)
		soon(t, "the second", func() bool { return len(a.livesNow(t, tree)) == 2 })
		first.Process.Kill()
		second.Process.Kill()
		if r := a.sbx(t, tree, "--", "sh", "-c", "wc -l <log; echo y >>log"); r.Status != 0 {
			t.Fatal(r)
		}
		first.ends(t)
		second.ends(t)
	}
	if r := a.sbx(t, tree, "--", "grep", "-c", "y", "log"); r.Stdout != "5\n" {
		t.Error(r)
	}
}

func (a account) livesNow(t *testing.T, tree string) []map[string]any {
	var list []map[string]any
	r := a.sbx(t, tree, "ps", "--json")
	if err := json.Unmarshal([]byte(r.Stdout), &list); err != nil {
		t.Fatal(err, r)
	}
	return list
}

// TestShareProtection: what one run hides or protects in the tree, all others must.
// Without that they could unlink what the mask stands on.
func TestShareProtection(t *testing.T) {
	needUserNS(t)
	a := newAccount(t)
	tree := a.tree(t, map[string]string{".env": "secret\n", "src/f": "f\n"})
	first := a.background(t, tree, "--hide", ".env", "--ro", "src", "--", "sh", "-c", waitForEnd+"cat .env; rm -f .env; echo x >src/f")
	a.lives(t, tree, 1)
	r := a.sbx(t, tree, "--", "sh", "-c", "cat .env; rm -f .env; mv .env x; echo x >src/f; rm src/f; mv src y")
	if strings.Contains(r.Stdout, "secret") || !strings.Contains(r.Stderr, "Read-only") {
		t.Error(r)
	}
	if r := a.sbx(t, tree, "--hide", "src/f", "--", "true"); r.Status != 125 || !strings.Contains(r.Stderr, "without it, and could undo it") || !strings.Contains(r.Stderr, "hint: sbx --layer") {
		t.Error(r)
	}
	if r := a.sbx(t, tree, "--hide", ".env", "--ro", "src", "--", "touch", "end"); r.Status != 0 {
		t.Error(r)
	}
	first.ends(t)
	if out := first.out.String(); strings.Contains(out, "secret") || !strings.Contains(out, "Read-only") {
		t.Errorf("the first: %s", out)
	}
	for name, want := range map[string]string{".env": "secret\n", "src/f": "f\n"} {
		if data, err := os.ReadFile(filepath.Join(tree, name)); err != nil || string(data) != want {
			t.Errorf("%s: %q, %v", name, data, err)
		}
	}
}

// TestSharePinned: a file that is held open inside while it is pulled or dropped,
// and is then written again: nothing is lost.
func TestSharePinned(t *testing.T) {
	needUserNS(t)
	a := newAccount(t)
	tree := a.tree(t, map[string]string{"p": "host\n", "d": "host\n"})
	run := a.background(t, tree, "--", "sh", "-c", `echo layer >p; echo layer >d; exec 3>>p 4>>d; touch up
		while [ ! -e go ]; do sleep 0.02; done; echo more >&3; echo more >&4; echo end >p2; `+waitForEnd)
	soon(t, "the run", func() bool { return there(a.upperGlob("up")) })
	if r := a.sbx(t, tree, "pull", "p"); r.Status != 0 {
		t.Fatal(r)
	}
	if r := a.sbx(t, tree, "drop", "d"); r.Status != 0 {
		t.Fatal(r)
	}
	if data, _ := os.ReadFile(filepath.Join(tree, "p")); string(data) != "layer\n" {
		t.Errorf("pulled: %q", data)
	}
	if r := a.sbx(t, tree, "--", "cat", "d"); r.Stdout != "host\n" {
		t.Errorf("dropped: %v", r)
	}
	if r := a.sbx(t, tree, "--", "sh", "-c", "touch go; while [ ! -e p2 ]; do sleep 0.02; done; cat p; touch end"); r.Stdout != "layer\nmore\n" {
		t.Error(r)
	}
	if err := run.ends(t); err != nil {
		t.Errorf("%v: %s", err, run.out.String())
	}
	// The layer's p goes on from what was pulled, and d from what the host has: nothing
	// that was written is lost.
	if r := a.sbx(t, tree, "--", "sh", "-c", "cat p d"); r.Stdout != "layer\nmore\nhost\nmore\n" {
		t.Error(r)
	}
}

func (a account) upperGlob(name string) string {
	list, _ := filepath.Glob(filepath.Join(a.Home, ".local/state/sbx/trees/*/layers/*/upper", name))
	if len(list) == 0 {
		return "/nowhere"
	}
	return list[0]
}

// TestJoin: a command in the namespaces of another run sees its processes, can
// signal them, has no more rights, and ends with it.
func TestJoin(t *testing.T) {
	needUserNS(t)
	a := newAccount(t)
	tree := a.tree(t, nil)
	run := a.background(t, tree, "--", "sh", "-c", "echo $$ >/tmp/pid; trap 'exit 7' TERM; while :; do sleep 0.02; done")
	a.lives(t, tree, 1)
	r := a.sbx(t, tree, "run", "--join", "last", "--", "sh", "-c", `
		while [ ! -s /tmp/pid ]; do sleep 0.02; done
		echo "$SBX_RUN $(cat /proc/$(cat /tmp/pid)/comm)"
		grep -h -E "^(CapEff|CapBnd|NoNewPrivs|Seccomp):" /proc/self/status
		ls -l /proc/1/root /proc/1/exe /proc/1/environ 2>&1 | grep -c denied
		tr '\0' x </proc/1/cmdline | wc -c
		unshare -U true 2>/dev/null && echo escaped
		exit 5`)
	lines := strings.Split(r.Stdout, "\n")
	if r.Status != 5 || !strings.HasSuffix(lines[0], " sh") || !strings.Contains(r.Stdout, "CapEff:\t0000000000000000\nCapBnd:\t0000000000000000\nNoNewPrivs:\t1\nSeccomp:\t2\n") ||
		strings.Contains(r.Stdout, "escaped") {
		t.Error(r)
	}
	// It has a record of its own.
	log := a.sbx(t, tree, "log", "--json")
	if want := `"joined":"` + strings.Fields(lines[0])[0] + `"`; !strings.Contains(strings.ReplaceAll(log.Stdout, `": "`, `":"`), want) {
		t.Errorf("%s: %v", want, log)
	}
	// It ends with the run.
	long := a.background(t, tree, "run", "--join", "last", "--", "sleep", "1000")
	if r := a.sbx(t, tree, "run", "--join", "last", "--", "sh", "-c", "while ! pgrep -x sleep >/dev/null; do sleep 0.02; done; kill -TERM $(cat /tmp/pid)"); r.Status != 0 && r.Status != 128+9 {
		t.Error(r)
	}
	run.ends(t)
	if run.ProcessState.ExitCode() != 7 {
		t.Errorf("the run: %v, %s", run.ProcessState, run.out.String())
	}
	long.ends(t)
	if ws := long.ProcessState.Sys().(syscall.WaitStatus); !ws.Signaled() || ws.Signal() != syscall.SIGKILL {
		t.Errorf("the joined command: %v, %s", long.ProcessState, long.out.String())
	}
	if r := a.sbx(t, tree, "run", "--join", "last", "--", "true"); r.Status != 125 || !strings.Contains(r.Stderr, "none lives") || !strings.Contains(r.Stderr, "hint: sbx ps") {
		t.Error(r)
	}
	if r := a.sbx(t, tree, "run", "--join", "last", "--rw", "/tmp", "--", "true"); r.Status != 2 {
		t.Error(r)
	}
}

// TestStop: a run is stopped by its name, gently first.
func TestStop(t *testing.T) {
	needUserNS(t)
	a := newAccount(t)
	tree := a.tree(t, nil)
	run := a.background(t, tree, "--", "sh", "-c", "trap 'echo stopped; exit 3' TERM; while :; do sleep 0.02; done")
	list := a.lives(t, tree, 1)
	if r := a.sbx(t, tree, "stop", list[0]["run"].(string)); r.Status != 0 {
		t.Error(r)
	}
	run.ends(t)
	if run.ProcessState.ExitCode() != 3 || run.out.String() != "stopped\n" {
		t.Errorf("%v, %s", run.ProcessState, run.out.String())
	}
	run = a.background(t, tree, "--", "sh", "-c", "trap '' TERM; while :; do sleep 0.02; done")
	a.lives(t, tree, 1)
	if r := a.sbx(t, tree, "stop", "--kill", "last"); r.Status != 0 {
		t.Error(r)
	}
	run.ends(t)
	// And with all runs of a layer: reset refuses, names them, and ends them.
	run = a.background(t, tree, "--", "sh", "-c", "echo x >file; sleep 1000")
	list = a.lives(t, tree, 1)
	if r := a.sbx(t, tree, "reset"); r.Status != 125 || !strings.Contains(r.Stderr, list[0]["run"].(string)) || !strings.Contains(r.Stderr, "hint: sbx reset --force") {
		t.Error(r)
	}
	if r := a.sbx(t, tree, "path", "file"); r.Status != 125 || r.Stdout != "" || !strings.Contains(r.Stderr, "hint: sbx pull file") {
		t.Error(r)
	}
	if r := a.sbx(t, tree, "reset", "--force"); r.Status != 0 {
		t.Error(r)
	}
	run.ends(t)
	if r := a.sbx(t, tree, "--", "ls"); r.Stdout != "" {
		t.Error(r)
	}
	for _, args := range [][]string{{"stop"}, {"stop", "nope"}, {"ps", "x"}, {"log", "nope"}, {"log", "a", "b"}} {
		if r := a.sbx(t, tree, args...); r.Status == 0 || !strings.Contains(r.Stderr, "hint: ") {
			t.Errorf("%q: %v", args, r)
		}
	}
}

// TestRecords: each run leaves a record.
func TestRecords(t *testing.T) {
	needUserNS(t)
	a := newAccount(t)
	tree := a.tree(t, nil)
	a.sbx(t, tree, "--", "sh", "-c", "mkdir d; echo x >d/f; echo x >g; exit 3")
	a.sbx(t, tree, "--layer", "other", "--", "sh", "-c", "kill -9 $$")
	var list []struct {
		Run, Tree, Layer string
		Command          []string
		Start, End       time.Time
		Exit, Signal     int
		CPU              float64
		MaxRSS           int64 `json:"max_rss"`
		Changes          *int
	}
	r := a.sbx(t, tree, "log", "--json")
	if err := json.Unmarshal([]byte(r.Stdout), &list); err != nil || len(list) != 2 {
		t.Fatal(err, r)
	}
	if l := list[0]; l.Exit != 3 || l.Tree != tree || l.Layer != "default" || strings.Join(l.Command, " ") != "sh -c mkdir d; echo x >d/f; echo x >g; exit 3" || !l.End.After(l.Start) || l.MaxRSS < 1<<19 || l.Changes == nil || *l.Changes != 2 {
		t.Errorf("%+v", l)
	}
	if l := list[1]; l.Exit != 128+9 || l.Signal != 9 || l.Layer != "other" || l.Changes == nil || *l.Changes != 0 {
		t.Errorf("%+v", l)
	}
	if r := a.sbx(t, tree, "log", "last"); r.Status != 0 || !strings.Contains(r.Stdout, "exit         137 (signal 9)") {
		t.Error(r)
	}
	if r := a.sbx(t, tree, "log"); strings.Count(r.Stdout, "\n") != 3 {
		t.Error(r)
	}
}

// TestEscapeShare: nothing inside reaches the sockets of the runs, nor their
// records, by any path.
func TestEscapeShare(t *testing.T) {
	needUserNS(t)
	a := newAccount(t)
	tree := a.tree(t, nil)
	run := a.background(t, tree, "--", "sleep", "1000")
	a.lives(t, tree, 1)
	state := filepath.Join(a.Home, ".local/state/sbx")
	r := a.sbx(t, tree, "--", "sh", "-c", `ls -a "$1" "$1/runs" /proc/*/fd/ 2>/dev/null | grep -E "socket$|\.json$|runs"; find / -xdev -name socket -path '*runs*' 2>/dev/null; true`, "sh", state)
	if r.Stdout != "" {
		t.Error(r)
	}
	if st, err := os.Lstat(filepath.Join(state, "runs")); err != nil || st.Mode().Perm() != 0o700 {
		t.Errorf("the directory of the runs: %v, %v", st, err)
	}
	run.Process.Kill()
	run.ends(t)
}
