package child

import (
	"errors"
	"fmt"
	"os"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/sbx-build/sbx/sandbox/plan"
)

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
