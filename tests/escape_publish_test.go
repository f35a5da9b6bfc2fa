package tests

import (
	"bufio"
	"fmt"
	"net"
	"os"
	"strconv"
	"strings"
	"testing"
	"time"
)

// greedy is a build that listens wherever it can, and says so to whoever comes.
const greedy = `
import selectors, socket, time
s = selectors.DefaultSelector()
for port in [1, 22, 80, 443, 1023, 7001, 7002, 7003, 7654] + list(range(20000, 20300)):
    if port == 20000:
        time.sleep(1)  # those before are seen: the kernel's table is not read at one moment
    for family, address in (socket.AF_INET, "127.0.0.1"), (socket.AF_INET6, "::1"):
        try:
            l = socket.socket(family)
            l.bind((address, port)); l.listen()
            s.register(l, 1)
        except OSError as e:
            if port > 1023: print("cannot", port, e)
print("ready", flush=True)
while True:
    for key, _ in s.select():
        c = key.fileobj.accept()[0]
        c.sendall(b"BUILD\n"); c.close()
`

// listeners are the addresses at which something of an account's listens on the host.
func (w *world) listeners(uid int) (list []string) {
	w.in(w.host, func() {
		for _, name := range []string{"tcp", "tcp6"} {
			f, err := os.Open("/proc/thread-self/net/" + name)
			if err != nil {
				w.t.Error(err)
				return
			}
			for lines := bufio.NewScanner(f); lines.Scan(); {
				if f := strings.Fields(lines.Text()); len(f) > 7 && f[3] == "0A" && f[7] == strconv.Itoa(uid) {
					list = append(list, f[1])
				}
			}
			f.Close()
		}
	})
	return list
}

// TestEscapePublishAuto: a build that has ports published of its own choice takes none that
// anybody has, no privileged one and not all of them, and reaches nothing by it.
func TestEscapePublishAuto(t *testing.T) {
	t.Parallel()
	needTool(t, "python3")
	for _, who := range []string{"user", "root"} {
		t.Run(who, func(t *testing.T) {
			g := newGuarded(t)
			if who == "root" {
				g.a = rootAccount(t)
				g.newTree()
			}
			// Of another user, at one address each, while the others are free.
			others := []string{"[::1]:7001", "10.77.0.2:7002", "127.0.0.1:7003"}
			for _, at := range others {
				g.listen(g.host, at, named("the host's"))
			}
			before := len(g.listeners(g.a.UID))
			run := g.start(t, "-p", "auto", "--", "python3", "-c", greedy)
			run.until(t, "ready")
			run.wait(t, "first ports", func() bool { return strings.Contains(run.stderr.String(), "published") })
			time.Sleep(time.Second) // more than one look
			if n := strings.Count(run.stderr.String(), "published"); n > 64 || n < 10 {
				t.Errorf("%d ports are published", n)
			}
			ours := g.listeners(g.a.UID)
			if n := len(ours) - before; n > 64 || n < 10 {
				t.Errorf("sbx listens at %d ports", n)
			}
			for _, at := range ours {
				host, hex, _ := strings.Cut(at, ":")
				port, _ := strconv.ParseUint(hex, 16, 16)
				if who == "user" && (host != "0100007F" || port < 1024) { // 127.0.0.1
					t.Errorf("sbx listens at %s", at)
				}
			}
			for _, at := range others {
				if got := g.visit(at); got != "the host's\n" {
					t.Errorf("%s answers %q", at, got)
				}
			}
			for _, port := range []string{"7001", "7002"} {
				if got := g.visit("127.0.0.1:" + port); got != "" {
					t.Errorf("127.0.0.1:%s answers %q: who looks for the service there comes to the build", port, got)
				}
			}
			for _, at := range []string{"127.0.0.1:" + guardedPort, "[::1]:" + guardedPort, "127.0.0.1:1", "10.77.0.2:" + guardedPort} {
				if got := g.visit(at); got != "SECRET\n" {
					t.Errorf("%s answers %q", at, got)
				}
			}
			for _, port := range []int{22, 80, 443, 1023} {
				g.in(g.host, func() {
					if l, err := net.Listen("tcp4", fmt.Sprintf("127.0.0.1:%d", port)); err != nil {
						t.Errorf("port %d is taken: %v", port, err)
					} else {
						l.Close()
					}
				})
			}
			if !strings.Contains(run.stderr.String(), "-> "+guardedPort) {
				t.Error("the build's server at a port that the host has is not published elsewhere")
			}
			run.cmd.Process.Kill()
			run.end(t)
			if n := len(g.listeners(g.a.UID)); n != before {
				t.Errorf("after the end there are %d listeners, before the run %d", n, before)
			}
		})
	}
}

// TestEscapePublishReach: what is published leads into the sandbox alone: neither by it nor
// by the host's ports that are allowed does a build come to others.
func TestEscapePublishReach(t *testing.T) {
	t.Parallel()
	g := newGuarded(t)
	g.listen(g.host, "127.0.0.1:7003", named("allowed"))
	var attacks []string
	for _, a := range g.own {
		attacks = append(attacks, "talk tcp - "+a+":"+guardedPort)
	}
	g.devices(t, func(t *testing.T) {
		for _, flags := range [][]string{{"-p", "auto"}, {"--net=none", "-p", "auto"}, {"-p", "auto", "--net-allow", "localhost:7003"}} {
			g.closed(t, flags, attacks...)
		}
		// The host's own port, and one at which nothing listens: published they would lead
		// back to the host, the latter for ever to itself.
		run := g.start(t, "--net=none", "-p", "auto", "--net-allow", "localhost:7003", "--net-allow", "localhost:7004", "--",
			"sh", "-c", `./caller "said 127.0.0.1:7003 x" "serve tcp 127.0.0.1:7005"`)
		run.until(t, "ready")
		g.eventually(t, "127.0.0.1:7005", visited, 3*time.Second)
		time.Sleep(time.Second)
		if text := run.stderr.String(); strings.Contains(text, "-> 7003") || strings.Contains(text, "-> 7004") {
			t.Errorf("the host's own ports are published: %s", text)
		}
		if got := g.visit("127.0.0.1:7003"); got != "allowed\n" {
			t.Errorf("the host's port answers %q", got)
		}
		if got := g.visit("127.0.0.1:7004"); got != "" {
			t.Errorf("where nothing listens there is the answer %q", got)
		}
		run.cmd.Process.Kill()
		run.end(t)
	})
}

// TestEscapePublishSilent: a build whose server accepts nothing does not have sbx hold
// whatever comes from the host.
func TestEscapePublishSilent(t *testing.T) {
	t.Parallel()
	needTool(t, "python3")
	w := anyWorld(t)
	run := w.start(t, "--net=none", "-p", "8083", "--", "python3", "-c", `
import socket, time
s = socket.socket()
s.bind(("127.0.0.1", 8083)); s.listen(1)
print("ready", flush=True)
time.sleep(1000)
`)
	run.until(t, "ready")
	w.in(w.host, func() {
		for range 1700 {
			if c, err := net.DialTimeout("tcp", "127.0.0.1:8083", 5*time.Second); err == nil {
				defer c.Close()
			}
		}
		time.Sleep(500 * time.Millisecond)
		if n := run.usage(t).files; n < 1000 || n > 2300 {
			t.Errorf("sbx has %d descriptors", n)
		}
	})
	run.cmd.Process.Kill()
	run.end(t)
}
