package relay

import (
	"bufio"
	"fmt"
	"io"
	"maps"
	"net/netip"
	"os"
	"slices"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/sbx-build/sbx/sandbox/plan"
)

// autoEvery is how often it is looked which ports servers inside listen at.
const autoEvery = 300 * time.Millisecond

// auto publishes the ports at which servers inside listen, under the same numbers where
// those are free, and takes back what is no more.
func (r *Relay) auto(pid int, told func(*Published)) {
	found := map[uint16]*Published{}
	go func() {
		for {
			now := listening(fmt.Sprintf("/proc/%d/net", pid)) // not in the loop: a build can make it long
			if !r.post(func() { r.publishFound(now, found, told) }) {
				return
			}
			time.Sleep(autoEvery)
		}
	}()
}

func (r *Relay) publishFound(now map[uint16]bool, found map[uint16]*Published, told func(*Published)) {
	if r.closed {
		return
	}
	for port, p := range found {
		if !now[port] {
			r.drop(p.fd)
			delete(found, port)
			r.published.remove(p)
		}
	}
	var taken map[uint16]bool
	for _, port := range slices.Sorted(maps.Keys(now)) {
		// At a port of the host's localhost that is allowed it is sbx that listens: what
		// is published would lead back to the host, and to itself.
		if found[port] != nil || r.locals[port] || r.published.has(port) || len(found) >= maxAuto {
			continue
		}
		if taken == nil {
			taken = listening("/proc/self/net")
		}
		// The number is not free either where something listens at another address: who
		// means that must not come to the build.
		p, errno := (*Published)(nil), unix.EADDRINUSE
		if !taken[port] {
			p, errno = publish(netip.AddrPortFrom(within[0], port), port)
		}
		if errno != 0 {
			p, errno = publish(netip.AddrPortFrom(within[0], 0), port)
		}
		if errno != 0 || r.serve(p) != nil {
			continue
		}
		p.auto = true
		found[port] = p
		r.published.add(p)
		if told != nil {
			told(p)
		}
	}
}

const (
	// maxAuto bounds what a build can have published.
	maxAuto = 64
	// maxTable bounds what is read of the table of sockets, of some 150 bytes each. Those
	// that listen come first.
	maxTable = 1 << 20
)

// listening are the ports at which something listens, by the files of a network namespace
// (proc_pid_net(5)).
func listening(dir string) map[uint16]bool {
	ports := map[uint16]bool{}
	for _, name := range []string{"tcp", "tcp6"} {
		f, err := os.Open(dir + "/" + name)
		if err != nil {
			continue
		}
		lines := bufio.NewScanner(io.LimitReader(f, maxTable))
		for lines.Scan() {
			//  sl  local_address rem_address st …
			f := strings.Fields(lines.Text())
			if len(f) < 4 || f[3] != "0A" { // TCP_LISTEN
				continue
			}
			_, hex, ok := strings.Cut(f[1], ":")
			port, err := strconv.ParseUint(hex, 16, 16)
			if ok && err == nil && port != plan.RelayPort && port != 0 {
				ports[uint16(port)] = true
			}
		}
		f.Close()
	}
	return ports
}
