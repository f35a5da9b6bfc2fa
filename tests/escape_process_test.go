package tests

import (
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// Pid 1 is a copy of sbx and has been in the host's namespaces: nothing of it
// can be read, traced, stopped or written.
func TestEscapeProcessPid1(t *testing.T) {
	t.Parallel()
	needUserNS(t)
	a := newAccount(t)
	tree := a.tree(t, nil)
	a.arm(t, tree)
	sleeper := background(t, a.command(tree, nil, victimPath, "hold"))
	var attacks, control []string
	for _, c := range []string{"read /proc/%s/environ", "read /proc/%s/maps", "read /proc/%s/auxv", "list /proc/%s/fd", "list /proc/%s/root", "list /proc/%s/cwd",
		"list /proc/%s/map_files", "read /proc/%s/exe", "ptrace %s", "vmread %s", "getfd %s 0", "write /proc/%s/oom_score_adj 1000"} {
		attacks = append(attacks, fmt.Sprintf(c, "1"))
		control = append(control, fmt.Sprintf(c, strconv.Itoa(sleeper.Pid)))
	}
	attacks = append(attacks, "read /proc/1/mem", "write /proc/1/mem x", "write /proc/1/exe x", "write /proc/1/comm x", "write /proc/1/clear_refs 1", "write /proc/1/uid_map x", "list /proc/1/task/1/fd",
		"read /proc/1/root/etc/hostname", "read /proc/1/cwd/x", "list /proc/1/fd/0/..", "write /proc/1/fd/3 x", "read /proc/1/fd/0", "read /proc/1/ns/mnt", "read /proc/1/task/1/exe")
	out := a.outside(t, tree, control...)
	if os.Getuid() != 0 {
		// Yama may forbid an ordinary user to trace what is not its child.
		for _, c := range control {
			if out[c] == "EPERM" {
				t.Logf("%q is refused on this host too", c)
				out[c] = "done"
			}
		}
	}
	out.did(t, control...)
	for _, flags := range [][]string{nil, {"--root"}} {
		a.inside(t, tree, flags, attacks...).refused(t, attacks...)
	}
	// Fatal signals to pid 1 do nothing; what is passed on ends the command
	// alone.
	r := a.sbx(t, tree, "--", "sh", "-c", "kill -9 1; kill -STOP 1; kill -SEGV 1; echo alive")
	if strings.TrimSpace(r.Stdout) != "alive" && r.Status != 128+int(unix.SIGSEGV) {
		t.Errorf("pid 1 was harmed: %v", r)
	}
}

// The launcher's own file is out of reach, also where its directory is shown.
func TestEscapeProcessLauncher(t *testing.T) {
	t.Parallel()
	needUserNS(t)
	a := newAccount(t)
	tree := a.tree(t, nil)
	bin := filepath.Join(a.Home, "bin")
	a.mkTree(t, bin, nil)
	own := filepath.Join(bin, "sbx")
	data, err := os.ReadFile(sbxPath)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(own, data, 0o755); err != nil {
		t.Fatal(err)
	}
	a.mkTree(t, bin, nil) // gives it to the account
	same := unchanged(t, bin)
	r := finish(t, a.command(tree, []string{"PATH=" + bin + ":/usr/bin:/bin"}, own, "--", "sh", "-c",
		`[ -x "$0" ] && echo shown; for f in "$0" /proc/*/exe; do echo pwned >>$f; cp /bin/true $f; chmod 777 $f; rm -f $f; mv $f /tmp; done 2>/dev/null; exit 0`, own))
	if !strings.Contains(r.Stdout, "shown") {
		t.Errorf("a directory of $PATH is not there: %v", r)
	}
	same()
}

// Signals reach nothing outside: not the caller's process group by kill(0), not
// all of the user's processes by kill(-1), not one by its pid on the host.
func TestEscapeProcessKill(t *testing.T) {
	t.Parallel()
	needUserNS(t)
	a := newAccount(t)
	tree := a.tree(t, nil)
	a.arm(t, tree)
	target := background(t, a.command(tree, nil, victimPath, "hold"))
	a.outside(t, tree, fmt.Sprintf("kill %d 0", target.Pid)).did(t, fmt.Sprintf("kill %d 0", target.Pid))
	if target.Pid > 100 { // otherwise there may be a process of that number inside
		attacks := []string{fmt.Sprintf("kill %d 9", target.Pid), fmt.Sprintf("kill -%d 9", target.Pid), fmt.Sprintf("prlimit %d", target.Pid), fmt.Sprintf("kill %d 9", os.Getpid())}
		a.inside(t, tree, nil, attacks...).refused(t, attacks...)
	}
	for _, kill := range []string{"kill -9 0", "kill -9 -1", "kill -KILL -1 0"} {
		for _, flags := range [][]string{nil, {"--root"}} {
			// The shell starts sbx in its own group and lives on.
			cmd := a.command(tree, nil, "sh", append([]string{"-c", `"$@"; echo "ended $?"`, "sh", sbxPath}, append(flags, "--", "sh", "-c", kill+"; sleep 1")...)...)
			cmd.SysProcAttr.Setpgid = true
			r := finish(t, cmd)
			if !strings.Contains(r.Stdout, "ended ") || kill == "kill -9 0" && !strings.Contains(r.Stdout, "ended 137") {
				t.Errorf("%q with %v: %v", kill, flags, r)
			}
		}
	}
	// Session and process group are the sandbox's own: one from outside is 0.
	r := a.sbx(t, tree, "--", "sh", "-c", "cat /proc/$$/stat")
	if f := strings.Fields(r.Stdout); len(f) < 7 || f[4] == "0" || f[5] == "0" {
		t.Errorf("the command is in a session or process group from outside: %v", r)
	}
	if err := target.Signal(syscall.Signal(0)); err != nil {
		t.Errorf("a process outside was killed: %v", err)
	}
}

// When the command has ended nothing of it is left: no daemon, however it was
// made. The same when sbx is killed.
func TestEscapeProcessSurvivors(t *testing.T) {
	t.Parallel()
	needUserNS(t)
	a := newAccount(t)
	tree := a.tree(t, nil)
	a.arm(t, tree)
	rw := a.dir(t)
	beat := filepath.Join(rw, "beat")
	attack := "daemon " + beat
	stopped := func(why string) {
		t.Helper()
		before, err := os.ReadFile(beat)
		if err != nil {
			t.Fatalf("the daemon did not start: %v", err)
		}
		time.Sleep(200 * time.Millisecond)
		if after, _ := os.ReadFile(beat); string(after) != string(before) {
			t.Errorf("%s: a process lives on", why)
		}
		os.Remove(beat)
	}
	a.inside(t, tree, []string{"--rw", rw}, attack).did(t, attack)
	stopped("after the command's end")

	for _, sig := range []syscall.Signal{syscall.SIGKILL, syscall.SIGTERM, syscall.SIGHUP} {
		cmd := a.command(tree, nil, sbxPath, "--rw", rw, "--", "./victim", attack, "hold")
		out, err := cmd.StdoutPipe()
		if err != nil {
			t.Fatal(err)
		}
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		buf := make([]byte, 512)
		for read := ""; !strings.Contains(read, "ready"); {
			n, err := out.Read(buf)
			if err != nil {
				t.Fatalf("the victim has not started: %v", err)
			}
			read += string(buf[:n])
		}
		cmd.Process.Signal(sig)
		io.Copy(io.Discard, out)
		cmd.Wait()
		stopped(fmt.Sprintf("after %v to sbx", sig))
		// The layer is free at once.
		if r := a.sbx(t, tree, "--", "true"); r.Status != 0 {
			t.Errorf("after %v to sbx the next run fails: %v", sig, r)
		}
	}
}

// --max-processes stops a fork bomb, and does not touch the user's other
// processes.
func TestEscapeProcessForkBomb(t *testing.T) {
	t.Parallel()
	needUserNS(t)
	a := newAccount(t)
	tree := a.tree(t, nil)
	a.arm(t, tree)
	attack := "fork 100"
	if got := a.inside(t, tree, nil, attack)[attack]; got != "done" {
		t.Fatalf("the control cannot fork: %s", got)
	}
	if got := a.inside(t, tree, []string{"--max-processes", "40"}, attack)[attack]; !strings.HasPrefix(got, "EAGAIN") {
		t.Errorf("--max-processes 40 does not stop 100 processes: %s", got)
	}
	if r := a.sbx(t, tree, "--", "true"); r.Status != 0 {
		t.Errorf("the next run fails: %v", r)
	}
}

// No core is written, which a build could shape and a helper of root's would
// read.
func TestEscapeProcessCore(t *testing.T) {
	t.Parallel()
	needUserNS(t)
	a := newAccount(t)
	tree := a.tree(t, nil)
	a.arm(t, tree)
	cores := func(dir string) (found []string) {
		filepath.Walk(dir, func(path string, info os.FileInfo, err error) error {
			if err == nil && strings.HasPrefix(info.Name(), "core") {
				found = append(found, path)
			}
			return nil
		})
		return found
	}
	pattern, _ := os.ReadFile("/proc/sys/kernel/core_pattern")
	script := "ulimit -c unlimited; kill -SEGV $$"
	if strings.TrimSpace(string(pattern)) == "core" {
		dir := a.dir(t)
		finish(t, a.command(dir, nil, "sh", "-c", script))
		if len(cores(dir)) == 0 {
			t.Log("the control writes no core file here")
		}
	} else {
		t.Logf("core_pattern is %q: no file can be expected of the control", pattern)
	}
	r := a.sbx(t, tree, "--", "sh", "-c", `sh -c '`+script+`'; echo "$?"; ulimit -Hc; ls`)
	if found := append(cores(tree), cores(a.Home)...); len(found) > 0 || strings.Contains(r.Stdout, "core") {
		t.Errorf("a core was written: %q %v", found, r)
	}
	if strings.Contains(r.Stdout, "unlimited") {
		t.Errorf("the limit of core files can be lifted: %v", r)
	}
}
