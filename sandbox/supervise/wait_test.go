package supervise

import (
	"bufio"
	"fmt"
	"io"
	"os"
	"os/exec"
	"os/signal"
	"runtime"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/sbx-build/sbx/idmap"
	"github.com/sbx-build/sbx/sandbox/internal/child"
	"github.com/sbx-build/sbx/sandbox/plan"
)

// scriptEnv makes the test binary a small sbx: it runs the script in a sandbox,
// and ends with its status. Signals go to a process of its own, not to go test.
const scriptEnv = "SUPERVISE_TEST_SCRIPT"

func TestMain(m *testing.M) {
	if script := os.Getenv(scriptEnv); script != "" {
		os.Exit(supervised(script))
	}
	os.Exit(m.Run())
}

func supervised(script string) int {
	runtime.LockOSThread()
	p := plan.Plan{
		Steps: []plan.Step{plan.MapIDs{UIDs: idmap.Identity(uint32(os.Geteuid())), GIDs: idmap.Identity(uint32(os.Getegid()))}, plan.TieToParent{}},
		Exec:  plan.Exec{Args: []string{"/bin/sh", "-c", script}, Env: []string{"PATH=/usr/bin:/bin"}},
	}
	process, err := child.Launch(p.Namespaces, nil)
	if err == nil {
		err = process.Start(p)
	}
	var end child.Ending
	if err == nil {
		end, err = Wait(process, Take(), nil)
	}
	if err != nil {
		fmt.Println("error:", err)
		return 125
	}
	if end.Status.Signaled() {
		return 128 + int(end.Status.Signal())
	}
	return end.Status.ExitStatus()
}

// helper is a running small sbx, and the lines that its command prints.
type helper struct {
	cmd   *exec.Cmd
	lines chan string
}

// start runs a script that prints "ready" when its traps are set.
func start(t *testing.T, script string, shell ...string) *helper {
	t.Helper()
	args := append(shell, "/proc/self/exe")
	if len(shell) > 0 {
		self, err := os.Executable()
		if err != nil {
			t.Fatal(err)
		}
		args[len(args)-1] = self
	}
	h := &helper{cmd: exec.Command(args[0], args[1:]...), lines: make(chan string, 10000)}
	h.cmd.Env = append(os.Environ(), scriptEnv+"="+script)
	h.cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	out, err := h.cmd.StdoutPipe()
	if err == nil {
		err = h.cmd.Start()
	}
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		h.cmd.Process.Kill()
		h.cmd.Wait()
	})
	go func() {
		r := bufio.NewReader(out)
		for {
			line, err := r.ReadString('\n')
			if err != nil {
				io.Copy(io.Discard, r)
				close(h.lines)
				return
			}
			h.lines <- strings.TrimSuffix(line, "\n")
		}
	}()
	first := h.next(t)
	if strings.HasPrefix(first, "error: ") {
		missing(t, "there are no user namespaces here: %s", first)
	}
	if first != "ready" {
		t.Fatalf("the script begins with %q", first)
	}
	// Until Wait listens to signals, one ends sbx, as any program.
	time.Sleep(200 * time.Millisecond)
	return h
}

// missing skips a test for want of something on this machine; with
// SBX_MUST_WORK=1 that is a failure.
func missing(t *testing.T, format string, args ...any) {
	t.Helper()
	if os.Getenv("SBX_MUST_WORK") == "1" {
		t.Fatalf("SBX_MUST_WORK=1, and "+format, args...)
	}
	t.Skipf(format, args...)
}

// next is the next line, "" at the end of the output.
func (h *helper) next(t *testing.T) string {
	t.Helper()
	select {
	case line := <-h.lines:
		return line
	case <-time.After(20 * time.Second):
		t.Fatal("nothing is printed")
		return ""
	}
}

// quiet holds that nothing is printed for a while, after what is under way.
func (h *helper) quiet(t *testing.T, what string) {
	t.Helper()
	select {
	case line, open := <-h.lines:
		if open {
			t.Errorf("%s: %q is printed", what, line)
		}
	case <-time.After(300 * time.Millisecond):
	}
}

func (h *helper) send(t *testing.T, s unix.Signal) {
	t.Helper()
	if err := unix.Kill(h.cmd.Process.Pid, s); err != nil {
		t.Fatal(err)
	}
}

// status waits for the end.
func (h *helper) status(t *testing.T) int {
	t.Helper()
	for range h.lines {
	}
	h.cmd.Wait()
	return h.cmd.ProcessState.ExitCode()
}

// counting is a script that prints the number of each signal that it gets, and
// ends on SIGUSR2.
const counting = `for s in 1 2 3 10 14 15 18 26 28 29 30; do trap "echo $s" $s; done; trap 'exit 9' 12; echo ready; while :; do sleep 0.02; done`

// TestForwarded: each signal reaches the command, exactly once, whether it is
// meant for one process or for the group at the terminal.
func TestForwarded(t *testing.T) {
	for _, s := range child.Forwarded {
		if signal.Ignored(s) {
			missing(t, "the tests were started with %v ignored, which a command then ignores too", s)
		}
	}
	h := start(t, counting)
	for round := range 2 {
		for _, s := range child.Forwarded {
			sig := s
			if sig == unix.SIGTSTP || sig == unix.SIGUSR2 {
				continue
			}
			h.send(t, sig)
			if got := h.next(t); got != fmt.Sprint(int(sig)) {
				t.Errorf("round %d: %v prints %q", round, sig, got)
			}
		}
	}
	h.quiet(t, "all signals have come once")
	h.send(t, unix.SIGUSR2)
	if s := h.status(t); s != 9 {
		t.Errorf("the status is %d", s)
	}
}

// TestDefaultAction: without traps a signal does what it does without sbx.
func TestDefaultAction(t *testing.T) {
	for _, sig := range []unix.Signal{unix.SIGTERM, unix.SIGINT, unix.SIGHUP, unix.SIGQUIT, unix.SIGUSR1} {
		if signal.Ignored(sig) {
			missing(t, "the tests were started with %v ignored", sig)
		}
		h := start(t, "echo ready; exec sleep 1000")
		h.send(t, sig)
		if s := h.status(t); s != 128+int(sig) {
			t.Errorf("%v ends the command with %d", sig, s)
		}
	}
}

// TestStop: Ctrl-Z stops the command and then sbx, fg resumes both; as often as
// one likes.
func TestStop(t *testing.T) {
	h := start(t, `trap "echo cont" 18; trap 'exit 9' 12; echo ready; while :; do echo tick; sleep 0.05; done`)
	for range 2 {
		h.send(t, unix.SIGTSTP)
		var status unix.WaitStatus
		if _, err := unix.Wait4(h.cmd.Process.Pid, &status, unix.WUNTRACED, nil); err != nil || !status.Stopped() {
			t.Fatalf("sbx does not stop: %#x, %v", status, err)
		}
		time.Sleep(100 * time.Millisecond)
		for len(h.lines) > 0 {
			<-h.lines
		}
		h.quiet(t, "stopped")
		h.send(t, unix.SIGCONT)
		conts := 0
		for ticks := 0; ticks < 5; {
			switch h.next(t) {
			case "tick":
				ticks++
			case "cont":
				conts++
			default:
				t.Fatal("the command has ended")
			}
		}
		if conts != 1 {
			t.Errorf("the command got SIGCONT %d times", conts)
		}
	}
	h.send(t, unix.SIGUSR2)
	if s := h.status(t); s != 9 {
		t.Errorf("the status is %d", s)
	}
}

// TestIgnored: what the caller ignores is not forwarded either (nohup).
func TestIgnored(t *testing.T) {
	h := start(t, counting, "/bin/sh", "-c", `trap "" HUP; exec "$0"`)
	h.send(t, unix.SIGHUP)
	h.quiet(t, "SIGHUP is ignored")
	h.send(t, unix.SIGUSR2)
	if s := h.status(t); s != 9 {
		t.Errorf("the status is %d", s)
	}
}

// TestKilled: SIGKILL of sbx ends everything in the sandbox.
func TestKilled(t *testing.T) {
	h := start(t, "echo ready; sleep 1000 & setsid sleep 1000 & sleep 1000")
	h.send(t, unix.SIGKILL)
	// All of them hold the pipe.
	if line := h.next(t); line != "" {
		t.Errorf("%q is printed", line)
	}
}

// TestManySignals: a storm of signals at the end of the command hits nothing
// else: the pid is not used once it may be another's.
func TestManySignals(t *testing.T) {
	for range 3 {
		h := start(t, `trap : 1 2 10; echo ready; sleep 0.4; exit 4`)
		stop := time.Now().Add(600 * time.Millisecond)
		for time.Now().Before(stop) {
			if unix.Kill(h.cmd.Process.Pid, unix.SIGUSR1) != nil {
				break
			}
			time.Sleep(time.Millisecond)
		}
		if s := h.status(t); s != 4 && s != -1 { // -1: sbx itself, after the end
			t.Errorf("the status is %d", s)
		}
		if testing.Short() {
			break
		}
	}
}
