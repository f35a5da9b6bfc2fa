package tests

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
)

// TestShareOwn: a run that shares some of its mounts and brings one of its own lends
// that too before anybody else can make another of the same upper directory.
func TestShareOwn(t *testing.T) {
	needUserNS(t)
	a := newAccount(t)
	tree, more := a.tree(t, nil), a.tree(t, nil)
	a.background(t, tree, "--", "sleep", "1000")
	a.lives(t, tree, 1)
	for i := range 5 {
		// That a name is absent stays in the cache of a mount, whoever makes it in
		// another: "second" is seen only where the mount is the same.
		first := a.background(t, tree, "--with", more, "--", "sh", "-c",
			fmt.Sprintf("cd %s; rm -f second; touch first%d; n=0; while [ ! -e second ]; do sleep 0.02; n=$((n+1)); [ $n -lt 500 ] || exit 9; done", more, i))
		// It has the layer's lock while it starts, until others may come.
		a.lockTaken(t, true)
		a.lockTaken(t, false)
		// As if it took long to make itself known.
		first.Process.Signal(syscall.SIGSTOP)
		second := a.background(t, tree, "--with", more, "--", "touch", more+"/second")
		time.Sleep(500 * time.Millisecond)
		first.Process.Signal(syscall.SIGCONT)
		for _, r := range []*running{second, first} {
			if err := r.ends(t); err != nil {
				t.Fatalf("%v: %s", err, r.out.String())
			}
		}
	}
}

// layerGlob matches names in the default layers.
func (a account) layerGlob(pattern string) []string {
	list, _ := filepath.Glob(filepath.Join(a.Home, ".local/state/sbx/trees/*/layers/default", pattern))
	return list
}

// lockTaken waits until the lock of the one layer is taken, or free.
func (a account) lockTaken(t *testing.T, want bool) {
	t.Helper()
	f, err := os.Open(a.layerGlob("lock")[0])
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	for deadline := time.Now().Add(limit); ; {
		taken := syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB) != nil
		if !taken {
			syscall.Flock(int(f.Fd()), syscall.LOCK_UN)
		}
		if taken == want {
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("the lock does not become taken=%v", want)
		}
		time.Sleep(50 * time.Microsecond)
	}
}

// TestJoinKilled: kill -9 of an sbx that has joined a command to a run ends that
// command, and not the run.
func TestJoinKilled(t *testing.T) {
	needUserNS(t)
	a := newAccount(t)
	tree := a.tree(t, nil)
	a.background(t, tree, "--", "sleep", "1000")
	a.lives(t, tree, 1)
	joined := a.background(t, tree, "run", "--join", "last", "--", "sh", "-c", "echo $$; exec tail -f /dev/null")
	soon(t, "the joined command", func() bool { return joined.out.String() != "" })
	joined.Process.Kill()
	soon(t, "the end of the joined command", func() bool {
		return a.sbx(t, tree, "run", "--join", "last", "--", "pgrep", "-x", "tail").Status == 1
	})
	a.lives(t, tree, 1)
}

// TestStopped: a run whose sbx is stopped (Ctrl-Z) is listed, its layer is not at
// rest, and it can be ended.
func TestStopped(t *testing.T) {
	needUserNS(t)
	a := newAccount(t)
	tree := a.tree(t, nil)
	run := a.background(t, tree, "--", "sh", "-c", "trap 'exit 7' TERM; echo x >f; while :; do sleep 0.02; done")
	a.lives(t, tree, 1)
	run.Process.Signal(syscall.SIGSTOP)
	if r := a.sbx(t, tree, "ps"); !strings.Contains(r.Stdout, tree) || !strings.Contains(r.Stdout, "does not answer: it is stopped (kill -CONT ") {
		t.Error(r)
	}
	if r := a.sbx(t, tree, "path", "f"); r.Status != 125 {
		t.Error(r)
	}
	// The next run says what it waits for, and goes on with it.
	next := a.background(t, tree, "--", "cat", "f")
	soon(t, "what is waited for", func() bool { return strings.Contains(next.out.String(), "sbx: waiting for a run that has the layer") })
	if s := next.out.String(); !strings.Contains(s, "(sh -c trap") || !strings.Contains(s, "is stopped; fg in its shell, or kill -CONT") {
		t.Error(s)
	}
	run.Process.Signal(syscall.SIGCONT)
	if err := next.ends(t); err != nil || !strings.HasSuffix(next.out.String(), "\nx\n") {
		t.Errorf("%v: %s", err, next.out.String())
	}
	// Also with as many questions unanswered as it takes at once.
	run.Process.Signal(syscall.SIGSTOP)
	for range 70 {
		if r := a.sbx(t, tree, "ps"); !strings.Contains(r.Stdout, "stopped") {
			t.Fatal(r)
		}
	}
	if r := a.sbx(t, tree, "stop", "last"); r.Status != 0 {
		t.Error(r)
	}
	run.ends(t)
	if code := run.ProcessState.ExitCode(); code != 7 {
		t.Errorf("the run has ended with %v: %s", run.ProcessState, run.out.String())
	}
}

// TestInFlight: a build that has used up the user's descriptors in flight does not
// keep other runs from starting.
func TestInFlight(t *testing.T) {
	needUserNS(t)
	needTool(t, "python3")
	a := newAccount(t)
	tree := a.tree(t, nil)
	hostile := a.background(t, tree, "--layer", "hostile", "--", "python3", "-c", `
import os, resource, socket, time
hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
fd = os.open("/dev/null", 0)
pairs = [socket.socketpair() for _ in range(20)]
for one, other in pairs:
    socket.send_fds(one, [b"x"], [fd] * 250)
print("up", flush=True)
time.sleep(1000)`)
	soon(t, "the descriptors in flight", func() bool { return hostile.out.String() == "up\n" })
	few := a.command(tree, nil, "sh", "-c", `ulimit -Sn 256; exec "$0" "$@"`, sbxPath, "--", "sh", "-c", "sleep 0.1; exit 5")
	if r := finish(t, few); r.Status != 5 {
		t.Error(r)
	}
}

// TestShareSilent: where a run that brought a mount of its own does not answer, no
// other makes a second mount of the same upper directory.
func TestShareSilent(t *testing.T) {
	needUserNS(t)
	a := newAccount(t)
	tree, more := a.tree(t, nil), a.tree(t, nil)
	a.background(t, tree, "--", "sleep", "1000")
	a.lives(t, tree, 1)
	silent := a.background(t, tree, "--with", more, "--", "sleep", "1000")
	a.lives(t, tree, 2)
	silent.Process.Signal(syscall.SIGSTOP)
	if r := a.sbx(t, tree, "--with", more, "--", "touch", more+"/f"); r.Status != 125 {
		t.Errorf("there are two mounts: %v", r)
	}
	silent.Process.Kill()
	if r := a.sbx(t, tree, "--with", more, "--", "touch", more+"/f"); r.Status != 0 {
		t.Error(r)
	}
}
