package tests

import (
	"bufio"
	"fmt"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"testing"
	"time"
)

// watchedRun is an sbx that lives while the test looks at it.
type watchedRun struct {
	cmd            *exec.Cmd
	stdout, stderr lockedBuffer
	ended          chan struct{}
}

// start starts sbx on the host.
func (w *world) start(t *testing.T, args ...string) *watchedRun {
	t.Helper()
	return w.startEnv(t, nil, args...)
}

func (w *world) startEnv(t *testing.T, env []string, args ...string) *watchedRun {
	t.Helper()
	run := &watchedRun{cmd: w.command(env, append([]string{sbxPath}, args...)...), ended: make(chan struct{})}
	run.cmd.Stdout, run.cmd.Stderr = &run.stdout, &run.stderr
	run.cmd.WaitDelay = 5 * time.Second
	if err := run.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	go func() {
		run.cmd.Wait()
		close(run.ended)
	}()
	t.Cleanup(func() {
		run.cmd.Process.Kill()
		<-run.ended
	})
	return run
}

// until waits for something on stdout.
func (run *watchedRun) until(t *testing.T, text string) {
	t.Helper()
	run.wait(t, fmt.Sprintf("%q on stdout", text), func() bool { return strings.Contains(run.stdout.String(), text) })
}

// wait waits until something is so.
func (run *watchedRun) wait(t *testing.T, what string, so func() bool) {
	t.Helper()
	for end := time.Now().Add(30 * time.Second); !so(); time.Sleep(10 * time.Millisecond) {
		over := false
		select {
		case <-run.ended:
			over = !so()
		default:
		}
		if over || time.Now().After(end) {
			t.Fatalf("no %s (ended: %v):\n%s%s", what, over, run.stdout.String(), run.stderr.String())
		}
	}
}

// end waits for the end.
func (run *watchedRun) end(t *testing.T) result {
	t.Helper()
	select {
	case <-run.ended:
	case <-time.After(limit):
		t.Errorf("%q did not end", run.cmd.Args)
		run.cmd.Process.Kill()
		<-run.ended
	}
	return result{run.stdout.String(), run.stderr.String(), run.cmd.ProcessState.ExitCode()}
}

// usage is what sbx takes.
type usage struct {
	files, pipes, rss, pss int // KiB
	cpu                    time.Duration
}

func (run *watchedRun) usage(t *testing.T) (u usage) {
	t.Helper()
	proc := "/proc/" + strconv.Itoa(run.cmd.Process.Pid)
	list, err := os.ReadDir(proc + "/fd")
	if err != nil {
		t.Fatal(err)
	}
	u.files = len(list)
	for _, e := range list {
		if to, _ := os.Readlink(proc + "/fd/" + e.Name()); strings.HasPrefix(to, "pipe:") {
			u.pipes++
		}
	}
	f, err := os.Open(proc + "/smaps_rollup")
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	for lines := bufio.NewScanner(f); lines.Scan(); {
		fmt.Sscanf(lines.Text(), "Rss: %d", &u.rss)
		fmt.Sscanf(lines.Text(), "Pss: %d", &u.pss)
	}
	if stat, err := os.ReadFile(proc + "/stat"); err == nil {
		fields := strings.Fields(string(stat[strings.LastIndexByte(string(stat), ')'):]))
		user, _ := strconv.Atoi(fields[12])
		system, _ := strconv.Atoi(fields[13])
		u.cpu = time.Duration(user+system) * 10 * time.Millisecond
	}
	return u
}
