package relay

import (
	"bufio"
	"fmt"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/sbx-build/sbx/sandbox/plan"
	"github.com/sbx-build/sbx/sandbox/policy"
)

// A proxy on this machine is told the address that was decided about: it might find
// localhost behind the name.
func TestProxyHere(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	hosts := filepath.Join(t.TempDir(), "hosts")
	if err := os.WriteFile(hosts, []byte("93.184.216.1 www.example.net\n127.0.0.1 evil.example.net\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	fds, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_SEQPACKET|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, 0)
	if err != nil {
		t.Fatal(err)
	}
	r, err := Start(Config{
		Base: policy.Internet, Parts: map[int]plan.Part{fds[0]: {Wire: true}}, ResolvConf: "/dev/null", Hosts: hosts,
		Getenv: func(name string) string {
			if name == "ALL_PROXY" {
				return "http://" + l.Addr().String()
			}
			return ""
		},
	})
	if err != nil {
		t.Fatal(err)
	}
	c := &cable{t: t, r: r, fd: fds[1]}
	defer func() {
		unix.Close(c.fd)
		r.Close()
	}()
	for i, port := range []uint16{80, 443} {
		for _, name := range []string{"evil.example.net", "www.example.net"} {
			fake, _ := r.names.Fake(name)
			c.send(segment(from(uint16(1000+i)), netip.AddrPortFrom(fake, port), tcpSYN, ""))
		}
		l.(*net.TCPListener).SetDeadline(time.Now().Add(10 * time.Second))
		conn, err := l.Accept()
		if err != nil {
			t.Fatal(err)
		}
		line, err := bufio.NewReader(conn).ReadString('\n')
		conn.Close()
		if want := fmt.Sprintf("CONNECT 93.184.216.1:%d ", port); err != nil || !strings.HasPrefix(line, want) {
			t.Errorf("the proxy is asked for %q, %v; want %q", line, err, want)
		}
	}
	l.(*net.TCPListener).SetDeadline(time.Now().Add(300 * time.Millisecond))
	if conn, err := l.Accept(); err == nil {
		conn.Close()
		t.Error("the proxy is asked for localhost")
	}
}
