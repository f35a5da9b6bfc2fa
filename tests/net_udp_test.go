package tests

import (
	"fmt"
	"net"
	"net/netip"
	"os"
	"slices"
	"strings"
	"testing"
)

// TestNetUDP: datagrams of all sizes come back whole, and errors are told.
func TestNetUDP(t *testing.T) {
	t.Parallel()
	w := anyWorld(t)
	w.devices(t, func(t *testing.T) {
		for _, a := range w.addrs() {
			echo := w.packets(w.wan, netip.AddrPortFrom(a, 0).String(), echoPacket)
			var calls []string
			for _, size := range []int{0, 1, 500, 1472, 8000, 60000, 65000} {
				calls = append(calls, fmt.Sprintf("datagram %s %d", echo, size))
			}
			w.inside(t, w.allow, calls...).all(t)
			refused := "datagram " + netip.AddrPortFrom(a, 9).String() + " 10"
			w.inside(t, w.allow, refused).is(t, refused, "ECONNREFUSED")
		}
	})
}

// TestNetUDPRemotes: one socket has many remotes, and answers come from who was asked.
func TestNetUDPRemotes(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	for _, a := range w.addrs() {
		for i := range uint16(100) {
			w.packets(w.wan, netip.AddrPortFrom(a, 5000+i).String(), echoPacket)
		}
	}
	w.devices(t, func(t *testing.T) {
		for _, a := range w.addrs() {
			w.inside(t, nil, "remotes "+netip.AddrPortFrom(a, 5000).String()+" 100").all(t)
		}
	})
	// More than there can be at a time.
	w.packets(w.wan, "93.184.216.2:7", func(c net.PacketConn, b []byte, from net.Addr) { c.WriteTo(b, from) })
	w.inside(t, nil, "flood 2000", "datagram 93.184.216.2:7 100").is(t, "datagram 93.184.216.2:7 100", "done")
}

// TestNetUDPDenied: what is not allowed is an error and not silence.
func TestNetUDPDenied(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	came := make(chan string, 10)
	for _, addr := range []string{"10.1.2.3:7", "169.254.169.254:7", "10.77.0.1:7", "[fd00:88::1]:7"} {
		w.packets(w.wan, addr, func(c net.PacketConn, b []byte, from net.Addr) {
			came <- addr
			c.WriteTo(b, from)
		})
	}
	w.packets(w.host, "10.77.0.2:7", echoPacket)
	w.devices(t, func(t *testing.T) {
		for _, addr := range []string{"10.1.2.3:7", "169.254.169.254:7", "10.77.0.1:7", "[fd00:88::1]:7", "10.77.0.2:7", "10.77.0.255:7", "255.255.255.255:7", "224.0.0.251:5353"} {
			call := "datagram " + addr + " 10"
			if !strings.Contains(addr, "25") {
				w.control(t, "caller", call).did(t, call)
				for len(came) > 0 {
					<-came
				}
			}
			if got := w.inside(t, nil, call)[call]; !strings.HasPrefix(got, "E") {
				t.Errorf("%q ends with %q", call, got)
			}
		}
		if len(came) > 0 {
			t.Errorf("something has arrived at %s", <-came)
		}
	})
}

// TestNetUDPHidden: by QUIC nobody gets past the look at the name in the handshake, at
// whatever port; other datagrams get through.
func TestNetUDPHidden(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.nameserver(zone())
	w.packets(w.wan, "93.184.216.1:8443", echoPacket)
	const to = "datagram www.example.com:8443 "
	begins := []string{to + "1200 c000000001", to + "1350 cf6b3343cf", to + "1200 c3ff00001d", to + "1400 8000000001"}
	others := []string{to + "1200", to + "1199 c000000001", to + "1200 4000000001", to + "1200 c016030100", to + "10"}
	w.devices(t, func(t *testing.T) {
		flags := []string{"--net=none", "--net-allow", "www.example.com"}
		o := w.inside(t, flags, append(others, begins...)...)
		o.did(t, others...)
		for _, call := range begins {
			if !strings.HasPrefix(o[call], "E") {
				t.Errorf("%q ends with %q", call, o[call])
			}
		}
		if c := w.contacts(t); !slices.ContainsFunc(c, func(c contact) bool { return c.Port == 8443 && strings.Contains(c.Denied, "QUIC") }) {
			t.Errorf("the record does not have it: %v", c)
		}
		w.inside(t, nil, append(others, begins...)...).all(t)
	})
}

// TestNetPing: where the host lets its users ping, the sandbox can.
func TestNetPing(t *testing.T) {
	t.Parallel()
	needTool(t, "ping")
	w := newWorld(t)
	w.in(w.host, func() { os.WriteFile("/proc/sys/net/ipv4/ping_group_range", []byte("0 2147483647"), 0) })
	w.devices(t, func(t *testing.T) {
		w.control(t, "caller", "ping 93.184.216.1").all(t)
		w.inside(t, nil, "ping 93.184.216.1", "ping 2600:1::1").all(t)
		for _, flags := range [][]string{nil, {"--root"}} {
			r := w.sbx(append(flags, "--", "ping", "-n", "-c", "1", "-W", "5", "93.184.216.1")...)
			if r.Status != 0 || !strings.Contains(r.Stdout, "1 received") {
				t.Errorf("ping with %q: %v", flags, r)
			}
		}
		for _, call := range []string{"ping 10.77.0.1", "ping 10.77.0.2", "ping 127.0.0.2"} {
			got := w.inside(t, nil, call)[call]
			if call == "ping 127.0.0.2" {
				continue // its own
			}
			if !strings.HasPrefix(got, "E") || got == "EAGAIN" {
				t.Errorf("%q ends with %q", call, got)
			}
		}
	})
	w.in(w.host, func() { os.WriteFile("/proc/sys/net/ipv4/ping_group_range", []byte("1 0"), 0) })
	w.control(t, "caller", "ping 93.184.216.1").is(t, "ping 93.184.216.1", "EACCES")
	if got := w.inside(t, nil, "ping 93.184.216.1")["ping 93.184.216.1"]; strings.HasPrefix(got, "done") {
		t.Errorf("it pings: %s", got)
	}
}
