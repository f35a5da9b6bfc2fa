package tests

import (
	"fmt"
	"io"
	"net"
	"strings"
	"testing"
	"time"
)

// visit is what a server on the host's localhost says, "" if there is none.
func (w *world) visit(addr string) string {
	var text []byte
	w.in(w.host, func() {
		c, err := net.DialTimeout("tcp", addr, time.Second)
		if err != nil {
			return
		}
		defer c.Close()
		c.SetDeadline(time.Now().Add(3 * time.Second))
		io.WriteString(c, "x\n")
		text, _ = io.ReadAll(c)
	})
	return string(text)
}

// crowd is how many of some visitors that speak at the same moment get the answer.
func (w *world) crowd(addr string, visitors int) (answered int) {
	w.in(w.host, func() {
		var list []net.Conn
		for range visitors {
			c, err := net.DialTimeout("tcp", addr, 5*time.Second)
			if err != nil {
				break
			}
			defer c.Close()
			c.SetDeadline(time.Now().Add(20 * time.Second))
			list = append(list, c)
		}
		for _, c := range list {
			io.WriteString(c, "x\n")
		}
		for _, c := range list {
			if text, _ := io.ReadAll(c); string(text) == visited {
				answered++
			}
		}
	})
	return answered
}

// eventually demands that a server answers within a while.
func (w *world) eventually(t *testing.T, addr, want string, within time.Duration) {
	t.Helper()
	got := ""
	for end := time.Now().Add(within); time.Now().Before(end); time.Sleep(20 * time.Millisecond) {
		if got = w.visit(addr); got == want {
			return
		}
	}
	t.Errorf("%s answers %q after %v, expected %q", addr, got, within, want)
}

const visited = "inside got x\n"

// TestNetPublish: a server inside is reached from the host, wherever it listens there.
func TestNetPublish(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.devices(t, func(t *testing.T) {
		for _, base := range []string{"internet", "none"} {
			for i, at := range []string{"127.0.0.1:3000", "[::1]:3000", "0.0.0.0:3000", "[::]:3000", "198.18.0.2:3000"} {
				if base == "none" && i == 4 {
					continue
				}
				t.Run(base+" "+at, func(t *testing.T) {
					run := w.start(t, "--net="+base, "-p", "3000", "--", "./caller", "serve tcp "+at)
					run.until(t, "ready")
					w.eventually(t, "127.0.0.1:3000", visited, 2*time.Second)
					for range 100 {
						if got := w.visit("127.0.0.1:3000"); got != visited {
							t.Fatalf("it answers %q", got)
						}
					}
					if i == 0 {
						if got := w.crowd("127.0.0.1:3000", 400); got != 400 {
							t.Errorf("%d of 400 are answered", got)
						}
					}
					// Localhost of the host alone.
					for _, other := range []string{"10.77.0.2:3000", "[::1]:3000", "[fd00:77::2]:3000"} {
						if got := w.visit(other); got != "" {
							t.Errorf("%s answers %q", other, got)
						}
					}
					run.cmd.Process.Kill()
					run.end(t)
					if got := w.visit("127.0.0.1:3000"); got != "" {
						t.Errorf("after the end it answers %q", got)
					}
				})
			}
		}
	})
}

// TestNetPublishAny: a port of the kernel's choice, which sbx ps tells.
func TestNetPublishAny(t *testing.T) {
	t.Parallel()
	w := anyWorld(t)
	w.devices(t, func(t *testing.T) {
		for _, at := range []string{"127.0.0.1:3000", "[::1]:3000", "0.0.0.0:3000"} {
			run := w.start(t, "--net=none", "-p", "0:3000", "--", "./caller", "serve tcp "+at)
			run.until(t, "ready")
			var port int
			run.wait(t, "line of sbx ps", func() bool {
				_, rest, _ := strings.Cut(w.sbx("ps").Stdout, "published 127.0.0.1:")
				_, err := fmt.Sscanf(rest, "%d -> 3000", &port)
				return err == nil
			})
			w.eventually(t, fmt.Sprintf("127.0.0.1:%d", port), visited, 2*time.Second)
			run.cmd.Process.Kill()
			run.end(t)
		}
	})
}

// TestNetPublishPorts: several, elsewhere, any, and one that is taken.
func TestNetPublishPorts(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	run := w.start(t, "-p", "8001:3000", "-p", "10.77.0.2:8002:3000", "-p", "[::1]:8003:3000", "-p", "0:3000", "-p", "127.0.0.1:8005:3001", "--",
		"sh", "-c", "./caller 'serve tcp 127.0.0.1:3001' & ./caller 'serve tcp 127.0.0.1:3000'")
	run.wait(t, "two servers", func() bool { return strings.Count(run.stdout.String(), "ready") == 2 })
	for _, at := range []string{"127.0.0.1:8001", "10.77.0.2:8002", "[::1]:8003", "127.0.0.1:8005"} {
		w.eventually(t, at, visited, 2*time.Second)
	}
	r := w.sbx("ps")
	for _, part := range []string{"127.0.0.1:8001 -> 3000", "10.77.0.2:8002 -> 3000", "[::1]:8003 -> 3000", "127.0.0.1:8005 -> 3001"} {
		if !strings.Contains(r.Stdout, part) {
			t.Errorf("sbx ps does not show %q: %v", part, r)
		}
	}
	var port int
	for _, word := range strings.FieldsFunc(r.Stdout, func(r rune) bool { return r == ' ' || r == ',' || r == '\n' }) {
		var n int
		if k, _ := fmt.Sscanf(word, "127.0.0.1:%d", &n); k == 1 && n != 8001 && n != 8005 {
			port = n
		}
	}
	w.eventually(t, fmt.Sprintf("127.0.0.1:%d", port), visited, 2*time.Second)
	if r := w.sbx("-p", "8001:3000", "--", "touch", "ran"); r.Status == 0 || !strings.Contains(r.Stderr, "127.0.0.1:8001") || !strings.Contains(r.Stderr, "hint") {
		t.Errorf("a port that is taken: %v", r)
	}
	if r := w.sbx("--", "test", "-e", "ran"); r.Status == 0 {
		t.Error("the command has run although its port is taken")
	}
	for _, bad := range []struct{ flags, cause, hint string }{
		{"10.77.0.99:8000:80", "cannot publish port 80 at 10.77.0.99:8000: this machine does not have", "--publish 8000:80"},
		{"80:80", "cannot publish port 80 at 127.0.0.1:80: ports below", "--publish 0:80"},
		{"8600 8600:90", "cannot publish port 90 at 127.0.0.1:8600: another --publish has it", "--publish 0:90"},
	} {
		var flags []string
		for f := range strings.FieldsSeq(bad.flags) {
			flags = append(flags, "-p", f)
		}
		if r := w.sbx(append(flags, "--", "true")...); r.Status == 0 || !strings.Contains(r.Stderr, bad.cause) || !strings.Contains(r.Stderr, bad.hint) {
			t.Errorf("-p %s: %v", bad.flags, r)
		}
	}
}

// TestNetPublishAuto: whatever listens inside is published, for as long as it does.
func TestNetPublishAuto(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.listen(w.host, "127.0.0.1:3002", named("the host's"))
	w.devices(t, func(t *testing.T) {
		run := w.start(t, "-p", "auto", "--", "sh", "-c", "./caller 'serve tcp 127.0.0.1:3001' & p=$!; ./caller 'serve tcp [::]:3002' & sleep 3; kill $p; sleep 60")
		w.eventually(t, "127.0.0.1:3001", visited, 4*time.Second)
		run.wait(t, "line of the port that was taken", func() bool { return strings.Count(run.stderr.String(), "published") == 2 })
		if got := w.visit("127.0.0.1:3002"); got != "the host's\n" {
			t.Errorf("the host's own server answers %q", got)
		}
		if r := w.sbx("ps"); !strings.Contains(r.Stdout, "127.0.0.1:3001 -> 3001") || !strings.Contains(r.Stdout, "-> 3002") {
			t.Error(r)
		}
		run.wait(t, "end of the port", func() bool { return w.visit("127.0.0.1:3001") == "" })
	})
}

// TestNetPublishTools: servers as people start them.
func TestNetPublishTools(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	for tool, args := range map[string][]string{
		"python3": {"python3", "-m", "http.server", "3000"},
		"node":    {"node", "-e", `require("http").createServer((q,s)=>s.end("hello from node")).listen(3000,"localhost")`},
		"php":     {"php", "-S", "localhost:3000"},
	} {
		t.Run(tool, func(t *testing.T) {
			needTool(t, tool)
			run := w.start(t, append([]string{"-p", "3000", "--"}, args...)...)
			ok := func() bool {
				r := finish(t, w.command(nil, "curl", "-s", "-m", "3", "-o", "/dev/null", "-w", "%{http_code}", "http://127.0.0.1:3000/"))
				return r.Stdout == "200" || r.Stdout == "404"
			}
			run.wait(t, "answer", ok)
		})
	}
}

// TestNetPublishLoad: many visitors at once, and many bytes.
func TestNetPublishLoad(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	run := w.start(t, "-p", "3000", "--", "python3", "-c", `
import socket, threading
s = socket.create_server(("127.0.0.1", 3000), backlog=1000)
print("ready", flush=True)
def serve(c):
    while True:
        b = c.recv(65536)
        if not b: break
        c.sendall(b)
    c.close()
while True:
    threading.Thread(target=serve, args=(s.accept()[0],)).start()
`)
	run.until(t, "ready")
	conns := make([]net.Conn, 200)
	w.in(w.host, func() {
		for i := range conns {
			c, err := net.DialTimeout("tcp", "127.0.0.1:3000", 5*time.Second)
			if err != nil {
				t.Fatal(err)
			}
			conns[i] = c
		}
	})
	for round := range 3 {
		for i, c := range conns {
			fmt.Fprintf(c, "%d %d\n", round, i)
		}
		for i, c := range conns {
			c.SetDeadline(time.Now().Add(10 * time.Second))
			want := fmt.Sprintf("%d %d\n", round, i)
			b := make([]byte, len(want))
			if _, err := io.ReadFull(c, b); err != nil || string(b) != want {
				t.Fatalf("connection %d: %q, %v", i, b, err)
			}
		}
	}
	go sendPattern(conns[0], 50<<20)
	if err := receivePattern(conns[0], 50<<20, false); err != nil {
		t.Error(err)
	}
	for _, c := range conns {
		c.Close()
	}
}
