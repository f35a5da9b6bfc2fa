package child

import (
	"errors"
	"fmt"
	"os"
	"runtime"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/sbx-build/sbx/idmap"
	"github.com/sbx-build/sbx/sandbox/plan"
)

// missing skips a test for want of something on this machine; with
// SBX_MUST_WORK=1 that is a failure.
func missing(t testing.TB, format string, args ...any) {
	t.Helper()
	if os.Getenv("SBX_MUST_WORK") == "1" {
		t.Fatalf("SBX_MUST_WORK=1, and "+format, args...)
	}
	t.Skipf(format, args...)
}

// ids maps the caller's ids to themselves: the one map that needs no help, for
// root too.
func ids() plan.MapIDs {
	return plan.MapIDs{UIDs: idmap.Identity(uint32(os.Geteuid())), GIDs: idmap.Identity(uint32(os.Getegid()))}
}

// root are the first steps of every plan.
func root(more ...plan.Step) []plan.Step {
	return append([]plan.Step{ids(), plan.Private{}, plan.NewRoot{}}, more...)
}

// needUserNS skips where no user namespace that mounts can be had.
func needUserNS(t testing.TB) {
	t.Helper()
	if _, err := run(plan.Plan{Steps: root()}, 0); err != nil {
		missing(t, "there are no user namespaces here: %v", err)
	}
}

// run runs a plan in a sandbox that is launched with the first steps of it.
func run(p plan.Plan, first int) (Ending, error) {
	process, err := Launch(p.Namespaces, p.Steps[:first])
	if err != nil {
		return Ending{}, err
	}
	if err := process.Start(p); err != nil {
		return Ending{}, err
	}
	return process.Wait(nil)
}

// sh is a plan that runs a shell script in the host's root.
func sh(script string, args ...string) plan.Plan {
	return plan.Plan{Steps: []plan.Step{ids()}, Exec: plan.Exec{Args: append([]string{"/bin/sh", "-c", script, "sh"}, args...), Env: []string{"PATH=/usr/bin:/bin"}}}
}

func mustRun(t *testing.T, p plan.Plan) unix.WaitStatus {
	t.Helper()
	end, err := run(p, 0)
	if err != nil {
		t.Fatal(err)
	}
	if end.Killed {
		t.Fatalf("pid 1 was killed: %#x", end.Status)
	}
	return end.Status
}

// TestStatus: the command's own status comes back, whatever it is.
func TestStatus(t *testing.T) {
	needUserNS(t)
	for _, code := range []int{0, 1, 7, 125, 255} {
		if s := mustRun(t, sh("exit "+fmt.Sprint(code))); !s.Exited() || s.ExitStatus() != code {
			t.Errorf("exit %d comes back as %#x", code, s)
		}
	}
	for _, sig := range []unix.Signal{unix.SIGTERM, unix.SIGKILL, unix.SIGSEGV, unix.SIGUSR1} {
		if s := mustRun(t, sh(fmt.Sprintf("kill -%d $$", sig))); !s.Signaled() || s.Signal() != sig {
			t.Errorf("signal %v comes back as %#x", sig, s)
		}
	}
	// What the command leaves behind is neither waited for nor left running.
	if s := mustRun(t, sh("sleep 1000 & exit 3")); s.ExitStatus() != 3 {
		t.Errorf("with a background job the status is %#x", s)
	}
}

// TestFits: a launched child goes on only with a plan that begins as it did.
func TestFits(t *testing.T) {
	needUserNS(t)
	process, err := Launch(plan.Namespaces{Net: true}, root())
	if err != nil {
		t.Fatal(err)
	}
	defer process.Abandon()
	for name, test := range map[string]struct {
		p    plan.Plan
		want bool
	}{
		"the same":          {plan.Plan{Namespaces: plan.Namespaces{Net: true}, Steps: root()}, true},
		"longer":            {plan.Plan{Namespaces: plan.Namespaces{Net: true}, Steps: root(plan.Seal{})}, true},
		"other namespaces":  {plan.Plan{Steps: root(plan.Seal{})}, false},
		"shorter":           {plan.Plan{Namespaces: plan.Namespaces{Net: true}, Steps: root()[:2]}, false},
		"another step":      {plan.Plan{Namespaces: plan.Namespaces{Net: true}, Steps: []plan.Step{ids(), plan.Private{}, plan.NewRoot{Size: 4096}}}, false},
		"another id":        {plan.Plan{Namespaces: plan.Namespaces{Net: true}, Steps: append([]plan.Step{plan.MapIDs{UIDs: idmap.Identity(1), GIDs: idmap.Identity(1)}}, root()[1:]...)}, false},
		"nothing":           {plan.Plan{Namespaces: plan.Namespaces{Net: true}}, false},
		"the steps swapped": {plan.Plan{Namespaces: plan.Namespaces{Net: true}, Steps: []plan.Step{plan.Private{}, ids(), plan.NewRoot{}}}, false},
	} {
		if got := process.Fits(test.p); got != test.want {
			t.Errorf("%s: %v", name, got)
		}
	}
}

// TestLaunchedFirst: it makes no difference how much was begun before the plan
// was known.
func TestLaunchedFirst(t *testing.T) {
	needUserNS(t)
	p := plan.Plan{Steps: root(plan.MkDir{Path: "/here", Mode: 0o755}, plan.ChangeDir{Path: "/here"})}
	p.Exec.Args = []string{plan.Host + "/bin/sh", "-c", "exit 0"}
	for first := range len(p.Steps) + 1 {
		_, err := run(p, first)
		// The host's root is not where its programs expect it: execve(2) of
		// /.host/bin/sh lacks its interpreter. That is far enough.
		var ee *ExecError
		if err != nil && !errors.As(err, &ee) {
			t.Errorf("with %d steps launched: %v", first, err)
		}
	}
}

// descriptors counts what is open, and mappings what newMemory has mapped.
func descriptors(t *testing.T) int {
	t.Helper()
	entries, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		t.Fatal(err)
	}
	return len(entries)
}

func mappings(t *testing.T) int {
	t.Helper()
	data, err := os.ReadFile("/proc/self/maps")
	if err != nil {
		t.Fatal(err)
	}
	return strings.Count(string(data), "/dev/zero (deleted)")
}

// TestNothingStays: neither a sandbox that was abandoned, nor one that failed,
// nor one that ended leaves a process, a descriptor or its memory.
func TestNothingStays(t *testing.T) {
	needUserNS(t)
	rounds := 200
	if testing.Short() {
		rounds = 30
	}
	defer runtime.UnlockOSThread()
	runtime.LockOSThread() // one thread for all of it, or each is a new one
	fds, maps := descriptors(t), mappings(t)
	for i := range rounds {
		process, err := Launch(plan.Namespaces{}, root())
		if err != nil {
			t.Fatal(err)
		}
		switch i % 4 {
		case 0:
			process.Abandon()
		case 1:
			if err := process.Start(plan.Plan{Steps: root()}); err != nil {
				t.Fatal(err)
			}
			if _, err := process.Wait(nil); err != nil {
				t.Fatal(err)
			}
		case 2:
			err := process.Start(plan.Plan{Steps: root(plan.ChangeDir{Path: "/nowhere"})})
			if err == nil {
				_, err = process.Wait(nil)
			}
			if !errors.Is(err, unix.ENOENT) {
				t.Fatal(err)
			}
		case 3:
			if err := process.Start(plan.Plan{Steps: root(plan.Filter{Name: "empty"})}); !errors.Is(err, errNoFilter) {
				t.Fatal(err)
			}
		}
		if _, err := Launch(plan.Namespaces{}, root(plan.Filter{Name: "empty"})); !errors.Is(err, errNoFilter) {
			t.Fatal(err)
		}
	}
	if now := descriptors(t); now != fds {
		t.Errorf("%d descriptors are open after %d sandboxes, before %d", now, rounds, fds)
	}
	if pid, err := unix.Wait4(-1, nil, unix.WNOHANG|unix.WALL, nil); err != unix.ECHILD {
		t.Errorf("there are children left: %d, %v", pid, err)
	}
	runtime.GC() // which unmaps the tables, in a goroutine
	for range 50 {
		if mappings(t) <= maps+1 {
			break
		}
		time.Sleep(20 * time.Millisecond)
	}
	if now := mappings(t); now > maps+1 {
		t.Errorf("%d tables are mapped after %d sandboxes, before %d", now, rounds, maps)
	}
}

// TestKilled: a sandbox whose pid 1 is killed is told from one whose command is.
func TestKilled(t *testing.T) {
	needUserNS(t)
	process, err := Launch(plan.Namespaces{}, nil)
	if err != nil {
		t.Fatal(err)
	}
	if err := process.Start(sh("sleep 1000")); err != nil {
		t.Fatal(err)
	}
	process.Kill()
	end, err := process.Wait(nil)
	if err != nil || !end.Killed || end.Status.Signal() != unix.SIGKILL {
		t.Errorf("%+v, %v", end, err)
	}
}

// TestAlone: a child that has missed the death signal of sbx does not wait for
// ever to be let go.
func TestAlone(t *testing.T) {
	needUserNS(t)
	process, err := Launch(plan.Namespaces{Net: true}, nil)
	if err != nil {
		t.Fatal(err)
	}
	time.Sleep(200 * time.Millisecond)            // it waits by now
	unix.Shutdown(process.status, unix.SHUT_RDWR) // as if it were closed; Wait closes it
	guard := time.AfterFunc(10*time.Second, func() { t.Error("it still waits"); process.Kill() })
	process.Wait(nil)
	guard.Stop()
}
