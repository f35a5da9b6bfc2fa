package tests

import (
	"bytes"
	"fmt"
	"net"
	"os"
	"os/exec"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// TestNetRobustStorm: a flood inside neither makes sbx grow nor stops what else goes on.
func TestNetRobustStorm(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	connects, datagrams, idle := 50000, 50000, 12000
	if testing.Short() {
		connects, datagrams, idle = 5000, 5000, 5000
	}
	w.devices(t, func(t *testing.T) {
		server := w.at(w.v4)
		script := fmt.Sprintf(`./caller "idle %s 20 %d" & ./caller "storm %s:80 %d" "flood %d"; echo over; ./caller "echo %s 100000"; wait`,
			server, idle, blackhole, connects, datagrams, server)
		run := w.start(t, "--", "sh", "-c", script)
		run.until(t, "ready")
		var most usage
		run.wait(t, "end of the storm", func() bool {
			u := run.usage(t)
			most.rss, most.files, most.pipes = max(most.rss, u.rss), max(most.files, u.files), max(most.pipes, u.pipes)
			return strings.Contains(run.stdout.String(), "over")
		})
		run.until(t, "echo "+server)
		cpu := run.usage(t).cpu
		t.Logf("at most %d KiB, %d descriptors, %d of pipes; %v of CPU", most.rss, most.files, most.pipes, cpu)
		if most.rss > 40<<10 {
			t.Errorf("sbx grows to %d KiB", most.rss)
		}
		if most.files > 2000 {
			t.Errorf("sbx has %d descriptors", most.files)
		}
		// What is over takes nothing.
		time.Sleep(time.Second)
		if idle := run.usage(t).cpu - cpu; idle > 300*time.Millisecond {
			t.Errorf("after the storm sbx takes %v in a second", idle)
		}
		r := run.end(t)
		for _, call := range []string{fmt.Sprintf("idle %s 20 %d: done", server, idle), fmt.Sprintf("echo %s 100000: done", server)} {
			if !strings.Contains(r.Stdout, call) {
				t.Errorf("no %q: %v", call, r)
			}
		}
	})
}

// TestNetRobustSequence: connections that are over leave nothing.
func TestNetRobustSequence(t *testing.T) {
	t.Parallel()
	w := anyWorld(t)
	count := 10000
	if testing.Short() {
		count = 1000
	}
	w.devices(t, func(t *testing.T) {
		server := w.at(w.v4)
		run := w.start(t, append(append([]string{}, w.allow...), "--", "sh", "-c", fmt.Sprintf(`./caller "sequence %s 100"; echo begin; sleep 1; ./caller "sequence %s %d"; echo over; sleep 5.5; echo last; sleep 0.5`, server, server, count))...)
		run.until(t, "begin")
		before := run.usage(t)
		run.until(t, "over")
		after := run.usage(t)
		run.until(t, "last")
		late := run.usage(t)
		t.Logf("before %+v, after %d connections %+v, later %+v", before, count, after, late)
		if after.rss > 40<<10 || after.files > before.files+200 || late.files > before.files+20 {
			t.Errorf("%d connections later: %+v, and %+v, before %+v", count, after, late, before)
		}
		if r := run.end(t); !strings.Contains(r.Stdout, fmt.Sprintf("sequence %s %d: done", server, count)) {
			t.Error(r)
		}
	})
}

// TestNetRobustMany is what a thousand connections cost.
func TestNetRobustMany(t *testing.T) {
	t.Parallel()
	w := anyWorld(t)
	w.devices(t, func(t *testing.T) {
		server := w.at(w.v4)
		call := "idle " + server + " 1000 1000"
		run := w.start(t, append(append([]string{}, w.allow...), "--", "./caller", call)...)
		run.until(t, "ready")
		u := run.usage(t)
		t.Logf("1000 connections: %+v", u)
		if u.pss > 16<<10 {
			t.Errorf("with 1000 connections sbx has %d KiB PSS", u.pss)
		}
		parse(t, run.end(t), []string{call}).all(t)
	})
}

// TestNetRobustDescriptors: with few descriptors some connections fail, and nothing else.
func TestNetRobustDescriptors(t *testing.T) {
	t.Parallel()
	w := anyWorld(t)
	w.devices(t, func(t *testing.T) {
		server := w.at(w.v4)
		for _, n := range []int{64, 256} {
			if n > 64 && testing.Short() {
				continue
			}
			hoard := fmt.Sprintf("hoard %s %d", server, n*5/8)
			script := fmt.Sprintf(`ulimit -n %d; exec "$@"`, n)
			args := append([]string{"sh", "-c", script, "sh", sbxPath}, w.allow...)
			call := fmt.Sprintf(`./caller "%s"; echo over; sleep 1; ./caller "echo %s 1000"`, hoard, server)
			cmd := w.command(nil, append(args, "--", "sh", "-c", "ulimit -n 4096 2>/dev/null; "+call)...)
			began := time.Now()
			r := finish(t, cmd)
			if !strings.Contains(r.Stdout, hoard+": done") || !strings.Contains(r.Stdout, "echo "+server+" 1000: done") {
				t.Errorf("with %d descriptors: %v", n, r)
			}
			if cpu := cmd.ProcessState.SystemTime() + cmd.ProcessState.UserTime(); cpu > 5*time.Second {
				t.Errorf("with %d descriptors it takes %v of CPU", n, cpu)
			}
			t.Logf("%d descriptors, %v: %s", n, time.Since(began), strings.TrimSpace(r.Stdout))
		}
	})
}

// TestNetRobustKill: whoever of the two is killed, nothing stays.
func TestNetRobustKill(t *testing.T) {
	t.Parallel()
	w := anyWorld(t)
	server := w.at(w.v4)
	run := w.start(t, append(append([]string{}, w.allow...), "--", "sh", "-c", `./caller "idle `+server+` 10 60000"; sleep 61234`)...)
	run.until(t, "ready")
	run.cmd.Process.Kill()
	<-run.ended
	for range 100 {
		if exec.Command("pgrep", "-f", "idle "+server).Run() != nil {
			return
		}
		time.Sleep(50 * time.Millisecond)
	}
	t.Error("the sandbox lives on")
}

// namespaces is how many network namespaces the kernel has, as far as it says.
func namespaces() int {
	data, _ := os.ReadFile("/proc/slabinfo")
	for line := range bytes.Lines(data) {
		if f := strings.Fields(string(line)); len(f) > 2 && f[0] == "net_namespace" {
			n, _ := strconv.Atoi(f[1])
			return n
		}
	}
	return -1
}

// TestNetRobustRuns: many runs leave no device, namespace or descriptor behind.
func TestNetRobustRuns(t *testing.T) {
	w := anyWorld(t)
	runs := 300
	if testing.Short() {
		runs = 25
	}
	w.devices(t, func(t *testing.T) {
		server := w.at(w.v4)
		links := func() string {
			text, _ := exec.Command("ip", "-br", "link").Output()
			return string(text)
		}
		w.inside(t, w.allow, "echo "+server+" 1000").all(t)
		before, device, files := namespaces(), links(), openFiles()
		began := time.Now()
		for range runs {
			w.inside(t, w.allow, "echo "+server+" 1000").all(t)
		}
		took := time.Since(began) / time.Duration(runs)
		runtime.GC()
		var after int
		for range 50 {
			if after = namespaces(); after <= before+10 {
				break
			}
			time.Sleep(200 * time.Millisecond)
		}
		t.Logf("%d runs, %v each; namespaces %d, then %d; descriptors %d, then %d", runs, took, before, after, files, openFiles())
		if after > before+30 { // other tests have theirs
			t.Errorf("%d network namespaces after %d runs, %d before", after, runs, before)
		}
		if links() != device {
			t.Errorf("devices were\n%snow\n%s", device, links())
		}
	})
}

func openFiles() int {
	list, _ := os.ReadDir("/proc/self/fd")
	return len(list)
}

// TestNetRobustResets: of thousands of connections that are reset at the same moment every
// program learns: the interface holds no more than a thousand packets, and a reset does not
// come again.
func TestNetRobustResets(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.devices(t, func(t *testing.T) {
		const count = 5000
		var mu sync.Mutex
		var held []*net.TCPConn
		over := make(chan bool)
		defer close(over)
		server := w.listen(w.wan, "93.184.216.1:0", func(c net.Conn) {
			mu.Lock()
			held = append(held, c.(*net.TCPConn))
			mu.Unlock()
			<-over
		})
		call := fmt.Sprintf("told %s %d 15000", server, count)
		run := w.start(t, "--", "./caller", call)
		run.until(t, "ready")
		// At the same moment for sbx, however fast it is.
		run.cmd.Process.Signal(unix.SIGSTOP)
		mu.Lock()
		for _, c := range held {
			c.SetLinger(0)
			c.Close()
		}
		mu.Unlock()
		time.Sleep(100 * time.Millisecond)
		run.cmd.Process.Signal(unix.SIGCONT)
		if r := run.end(t); !strings.Contains(r.Stdout, fmt.Sprintf("%s: done %d\n", call, count)) {
			t.Error(r)
		}
	})
}
