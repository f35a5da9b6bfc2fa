package tests

import (
	"fmt"
	"net/netip"
	"strings"
	"testing"
)

// addrs are the servers' addresses.
func (w *world) addrs() []netip.Addr {
	list := []netip.Addr{w.v4}
	if w.v6.IsValid() {
		list = append(list, w.v6)
	}
	return list
}

// at starts the protocol server at an address.
func (w *world) at(a netip.Addr) string {
	return w.listen(w.wan, netip.AddrPortFrom(a, 0).String(), w.serveProtocol)
}

// TestNetTCP: whatever a connection does, it does through the relay.
func TestNetTCP(t *testing.T) {
	t.Parallel()
	w := anyWorld(t)
	bulk, burst, manyConns, oneByOne := 200<<20, 2000, 1000, 1000
	if testing.Short() {
		bulk, burst, manyConns, oneByOne = 20<<20, 500, 200, 500
	}
	w.devices(t, func(t *testing.T) {
		for _, a := range w.addrs() {
			server := w.at(a)
			greeter := w.listen(w.wan, netip.AddrPortFrom(a, 0).String(), greet)
			w.inside(t, w.allow, "echo "+server+" 1", "echo "+server+" 1000", "echo "+server+" 3000000", "greeting "+greeter, "epoll "+server,
				"oob "+server, fmt.Sprintf("small %s %d", server, burst), "count "+server+" 1000000", "local",
				fmt.Sprintf("many %s %d", server, manyConns)).all(t)
			w.inside(t, w.allow, "stream "+server+" "+fmt.Sprint(bulk)).all(t)
			w.forgetVerdicts()
			w.inside(t, w.allow, "closed "+server+" 500000").all(t)
			w.told(t, "the server closed first")
			w.inside(t, w.allow, "reset "+server).is(t, "reset "+server, "ECONNRESET")
			w.inside(t, w.allow, "abort "+server).all(t)
			w.told(t, "reset")
		}
		server := w.at(w.v4)
		w.inside(t, w.allow, fmt.Sprintf("sequence %s %d", server, oneByOne)).all(t)
	})
}

// TestNetTCPErrors: what comes of a connection is told as it happened.
func TestNetTCPErrors(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.devices(t, func(t *testing.T) {
		for call, want := range map[string]string{
			"dial tcp 93.184.216.1:9":           "ECONNREFUSED",
			"epoll 93.184.216.1:9":              "ECONNREFUSED",
			"dial tcp [2600:1::1]:9":            "ECONNREFUSED",
			"dial tcp " + noHost + ":80":        "EHOSTUNREACH",
			"dial tcp " + noNet + ":80":         "ENETUNREACH",
			"dial tcp [" + noNet6 + "]:80":      "ENETUNREACH",
			"pending " + blackhole + ":80 3000": "done",
		} {
			t.Run(call, func(t *testing.T) {
				if !strings.HasPrefix(call, "pending") {
					w.control(t, "caller", call).is(t, call, want)
				}
				w.inside(t, nil, call).is(t, call, want)
			})
		}
	})
}

// TestNetTCPExit: all that a program has sent arrives, though it and the sandbox end at
// once.
func TestNetTCPExit(t *testing.T) {
	t.Parallel()
	w := anyWorld(t)
	rounds := 40
	if testing.Short() {
		rounds = 10
	}
	w.devices(t, func(t *testing.T) {
		server := w.at(w.v4)
		for i := range rounds {
			size := []int{1, 1000, 100_000, 3_000_000}[i%4]
			w.forgetVerdicts()
			w.inside(t, w.allow, fmt.Sprintf("exit %s %d", server, size)).all(t)
			w.told(t, fmt.Sprintf("%d bytes", size))
		}
	})
}

// TestNetTCPIdle: connections that wait for a while cost two descriptors each, and no
// pipes.
func TestNetTCPIdle(t *testing.T) {
	t.Parallel()
	w := anyWorld(t)
	const count = 200
	w.devices(t, func(t *testing.T) {
		server := w.at(w.v4)
		idle := fmt.Sprintf("idle %s %d 2000", server, count)
		run := w.start(t, append(append([]string{}, w.allow...), "--", "./caller", idle)...)
		run.until(t, "ready")
		u := run.usage(t)
		if u.pipes > 8 || u.files > 2*count+60 {
			t.Errorf("with %d idle connections sbx has %d descriptors, of which %d are pipes", count, u.files, u.pipes)
		}
		t.Logf("%d idle connections: %d descriptors, %d of pipes, PSS %d KiB", count, u.files, u.pipes, u.pss)
		parse(t, run.end(t), []string{idle}).all(t)
	})
}
