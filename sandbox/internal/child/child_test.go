package child

import (
	"errors"
	"fmt"
	"os"
	"runtime"
	"strings"
	"syscall"
	"testing"

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

// TestCommand looks from inside at what the child has made of itself.
func TestCommand(t *testing.T) {
	needUserNS(t)
	for what, script := range map[string]string{
		"is pid 2 of its namespace":       `[ $$ = 2 ]`,
		"leads a session of its own":      `set -- $(cat /proc/self/stat); [ "$6" != 0 ]`,
		"has the arguments as they are":   `[ $# = 3 ] && [ "$1" = "" ] && [ "$2" = "a b" ] && [ "$3" = "*" ]`,
		"has only descriptors 0 to 2":     `for i in 3 4 5 6 7 8 9 10 11 12 40 100 200; do [ ! -e /proc/$$/fd/$i ] || exit 1; done; [ -e /proc/$$/fd/2 ]`,
		"has its environment and no more": `[ "$(tr '\0' ' ' </proc/$$/environ)" = "PATH=/usr/bin:/bin " ]`,
	} {
		p := sh(script, "", "a b", "*")
		if strings.Contains(script, "/proc") {
			// A proc of its own, where the machine lets us; else the host's,
			// in which $$ is another process.
			p.Steps = []plan.Step{ids(), plan.Private{}, plan.Proc{}}
			if _, err := run(p, 0); errors.Is(err, unix.EPERM) {
				t.Logf("%s: not tested, /proc cannot be mounted here: %v", what, err)
				continue
			}
		}
		if s := mustRun(t, p); s.ExitStatus() != 0 {
			t.Errorf("the command %s: not so (%#x)", what, s)
		}
	}
}

// TestExecErrors: a command that cannot be executed says why, as execve(2) does.
func TestExecErrors(t *testing.T) {
	needUserNS(t)
	dir := t.TempDir()
	files := map[string]struct {
		mode os.FileMode
		text string
	}{
		"plain": {0o644, "exit 0\n"}, "script": {0o755, "[ \"$1\" = \"a b\" ] && [ $# = 2 ] && [ \"${0##*/}\" = script ] && exit 7\nexit 8\n"},
		"badinterp": {0o755, "#!/nowhere/at/all\n"}, "empty": {0o755, ""}, "other/tool": {0o755, "#!/bin/sh\nexit 9\n"}, "first/tool": {0o644, ""},
	}
	for _, d := range []string{"other", "first", "dir"} {
		if err := os.Mkdir(dir+"/"+d, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	for name, f := range files {
		if err := os.WriteFile(dir+"/"+name, []byte(f.text), f.mode); err != nil {
			t.Fatal(err)
		}
	}
	long := strings.Repeat("x", 200<<10) // MAX_ARG_STRLEN is 32 pages
	tests := []struct {
		args []string
		path []string
		want syscall.Errno
		code int
	}{
		{args: []string{dir + "/nothing"}, want: unix.ENOENT},
		{args: []string{dir + "/plain/x"}, want: unix.ENOENT},
		{args: []string{dir + "/plain"}, want: unix.EACCES},
		{args: []string{dir + "/dir"}, want: unix.EACCES},
		{args: []string{dir + "/badinterp"}, want: unix.ENOENT},
		{args: []string{dir + "/script", "a b", ""}, code: 7},
		{args: []string{dir + "/empty"}},
		{args: []string{"tool"}, path: []string{dir + "/first", dir + "/other"}, code: 9},
		{args: []string{"tool"}, path: []string{dir + "/nowhere", dir + "/plain", dir + "/other/"}, code: 9},
		{args: []string{"tool"}, path: []string{dir + "/first", dir + "/nowhere"}, want: unix.EACCES},
		{args: []string{"tool"}, path: []string{dir}, want: unix.ENOENT},
		{args: []string{"tool"}, want: unix.ENOENT},
		{args: []string{"script", "a b", ""}, path: []string{dir}, code: 7},
		{args: []string{"/bin/sh", "-c", "exit 0", long}, want: unix.E2BIG},
		{args: []string{""}, path: []string{dir}, want: unix.ENOENT},
	}
	for _, test := range tests {
		p := plan.Plan{Steps: []plan.Step{ids()}, Exec: plan.Exec{Args: test.args, Path: test.path}}
		end, err := run(p, 0)
		var ee *ExecError
		switch {
		case test.want == 0 && (err != nil || end.Status.ExitStatus() != test.code):
			t.Errorf("%.60q in %q: %v, status %#x; want %d", test.args, test.path, err, end.Status, test.code)
		case test.want != 0 && (!errors.As(err, &ee) || ee.Errno != test.want || ee.Command != test.args[0]):
			t.Errorf("%.60q in %q: %v, want %v", test.args, test.path, err, test.want)
		}
	}
}

// TestManyArguments: the table has room for all that the kernel takes, and says
// so of more instead of failing in an odd way.
func TestManyArguments(t *testing.T) {
	needUserNS(t)
	many := make([]string, 20000)
	for i := range many {
		many[i] = fmt.Sprintf("argument-%d", i)
	}
	if s := mustRun(t, sh("[ $# = 20000 ] && [ \"$1\" = argument-0 ] && exit 5", many...)); s.ExitStatus() != 5 {
		t.Errorf("20,000 arguments: %#x", s)
	}
	huge := make([]string, 1024)
	for i := range huge {
		huge[i] = strings.Repeat("x", 100<<10)
	}
	p := sh("exit 0", huge...)
	_, err := run(p, 0)
	var ee *ExecError
	if !errors.As(err, &ee) || ee.Errno != unix.E2BIG {
		t.Errorf("100 MiB of arguments: %v", err)
	}
	p.Exec.Env, p.Exec.Args = huge, p.Exec.Args[:3]
	if _, err := run(p, 0); !errors.As(err, &ee) || ee.Errno != unix.E2BIG {
		t.Errorf("100 MiB of environment: %v", err)
	}
}

// TestSignals: dispositions are those of a fresh program, but for what is to stay
// ignored; nothing is blocked. The Go runtime has a handler for nearly all.
func TestSignals(t *testing.T) {
	needUserNS(t)
	tests := []struct {
		keep []int
		want string
	}{
		{nil, "SigBlk:0000000000000000 SigIgn:0000000000000000 SigCgt:0000000000000000 "},
		{[]int{1, 2, 3}, "SigBlk:0000000000000000 SigIgn:0000000000000007 SigCgt:0000000000000000 "},
		{[]int{64}, "SigBlk:0000000000000000 SigIgn:8000000000000000 SigCgt:0000000000000000 "},
	}
	for _, test := range tests {
		// A shell has handlers of its own; cat has none.
		p := sh(`s=$(cat /proc/self/status | grep '^Sig[BIC]' | tr -d '\t' | tr '\n' ' '); [ "$s" = "$1" ] || { echo "$s" >&2; exit 1; }`, test.want)
		p.Exec.KeepIgnored = test.keep
		if s := mustRun(t, p); s.ExitStatus() != 0 {
			t.Errorf("with %v ignored it is not %q", test.keep, test.want)
		}
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
