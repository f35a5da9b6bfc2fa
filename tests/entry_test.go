package tests

import (
	"debug/elf"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"syscall"
	"testing"
	"time"
)

// TestEntry: the sbx that is tested begins the sandbox before the Go runtime.
func TestEntry(t *testing.T) {
	f, err := elf.Open(sbxPath)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	symbols, err := f.Symbols()
	if err != nil {
		t.Skipf("the sbx that was given has no symbols: %v", err)
	}
	for _, s := range symbols {
		if s.Name == "sbx_start" && s.Value == f.Entry {
			return
		}
	}
	t.Errorf("the entry point %#x is not sbx_start", f.Entry)
}

// TestPlainBuild: one that was linked without the flag works as well.
func TestPlainBuild(t *testing.T) {
	needUserNS(t)
	a := newAccount(t)
	plain := filepath.Join(tempDir(t), "sbx")
	cmd := exec.Command("go", "build", "-o", plain, "../cmd/sbx")
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	if r := finish(t, a.command(a.tree(t, nil), nil, plain, "--", "sh", "-c", "echo $SBX; exit 3")); r.Status != 3 || r.Stdout != "1\n" {
		t.Error(r)
	}
}

// TestGuess: where the guess that is made before the Go runtime is wrong, the run
// is as it would have been, and nothing of the first sandbox stays.
func TestGuess(t *testing.T) {
	needUserNS(t)
	a := newAccount(t)
	tree := a.tree(t, nil)
	for _, c := range []struct {
		args   []string
		status int
	}{
		{[]string{"--layer", "--", "true"}, 0},
		{[]string{"--env", "--", "--net=host", "--", "true"}, 0},
		{[]string{"--layer", "x", "--", "sh", "-c", "exit 4"}, 4},
		{[]string{"run", "--", "sh", "-c", "exit 5"}, 5},
		{[]string{"--nonsense", "--", "true"}, 2},
		{[]string{"--source", "/nowhere", "--", "true"}, 125},
		{[]string{"--", "--net=host"}, 127},
		{[]string{"--"}, 2},
		{[]string{"-", "--", "true"}, 127},
	} {
		if r := a.sbx(t, tree, c.args...); r.Status != c.status {
			t.Errorf("sbx %q: want status %d: %v", c.args, c.status, r)
		}
	}
	if os.Getuid() == 0 {
		noProcesses(t, a)
	}
}

// TestKilledEarly: sbx that is killed at any moment of its start leaves nothing.
func TestKilledEarly(t *testing.T) {
	needUserNS(t)
	needRoot(t) // the account's processes are this test's alone
	a := newAccount(t)
	tree := a.tree(t, nil)
	for i := range 150 {
		cmd := a.command(tree, nil, sbxPath, "--", "sleep", "1000")
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Duration(i) * 200 * time.Microsecond)
		cmd.Process.Kill()
		cmd.Wait()
	}
	noProcesses(t, a)
}

// noProcesses fails if the account has processes that do not end by themselves.
func noProcesses(t *testing.T, a account) {
	t.Helper()
	for range 100 {
		if exec.Command("pgrep", "-U", strconv.Itoa(a.UID)).Run() != nil {
			return
		}
		time.Sleep(20 * time.Millisecond)
	}
	out, _ := exec.Command("ps", "-o", "pid,ppid,stat,wchan:20,args", "-U", strconv.Itoa(a.UID)).Output()
	t.Errorf("left behind:\n%s", out)
}

// TestSignalledEarly: a signal that comes as soon as the command can take one
// reaches it, and is not the end of sbx.
func TestSignalledEarly(t *testing.T) {
	needUserNS(t)
	a := newAccount(t)
	tree := a.tree(t, nil)
	for i := range 40 {
		for _, sig := range []syscall.Signal{syscall.SIGTERM, syscall.SIGINT, syscall.SIGHUP, syscall.SIGQUIT, syscall.SIGUSR1} {
			cmd := a.command(tree, nil, sbxPath, "--", "sh", "-c", `trap "exit 9" TERM INT HUP QUIT USR1; echo up; while :; do sleep 0.01; done`)
			out, err := cmd.StdoutPipe()
			if err == nil {
				err = cmd.Start()
			}
			if err != nil {
				t.Fatal(err)
			}
			out.Read(make([]byte, 3))
			cmd.Process.Signal(sig)
			cmd.Wait()
			if code := cmd.ProcessState.ExitCode(); code != 9 {
				t.Fatalf("round %d: %v ends sbx with %v", i, sig, cmd.ProcessState)
			}
		}
	}
}
