package relay

import (
	"bufio"
	"bytes"
	"fmt"
	"net/netip"
	"os"
	"strconv"
	"strings"
	"time"

	"github.com/sbx-build/sbx/sandbox/plan"
)

// autoEvery is how often it is looked which ports servers inside listen at.
const autoEvery = 300 * time.Millisecond

// auto publishes the ports at which servers inside listen, under the same numbers where
// those are free, and takes back what is no more.
func (r *Relay) auto(pid int, told func(*Published)) {
	found := map[uint16]*Published{}
	var look func()
	look = func() {
		if r.closed {
			return
		}
		now := listening(pid)
		for port, p := range found {
			if !now[port] {
				r.drop(p.fd)
				delete(found, port)
				r.published.remove(p)
			}
		}
		for port := range now {
			if found[port] != nil || r.published.has(port) || len(found) >= maxAuto {
				continue
			}
			p, errno := publish(netip.AddrPortFrom(within[0], port), port)
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
		r.after(autoEvery, look)
	}
	look()
}

// maxAuto bounds what a build can have published.
const maxAuto = 64

// listening are the ports at which something inside listens (proc_pid_net(5)).
func listening(pid int) map[uint16]bool {
	ports := map[uint16]bool{}
	for _, name := range []string{"tcp", "tcp6"} {
		data, err := os.ReadFile(fmt.Sprintf("/proc/%d/net/%s", pid, name))
		if err != nil {
			continue
		}
		lines := bufio.NewScanner(bytes.NewReader(data))
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
	}
	return ports
}
