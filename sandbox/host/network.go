package host

import (
	"sync"

	"golang.org/x/sys/unix"

	"github.com/sbx-build/sbx/sandbox/policy"
)

// network looks at what the sandbox's network can be made of.
func (f *Facts) network(p policy.Policy) {
	f.TUN, f.IPv6 = Wire()
	if f.Idmapped || p.Root && !f.UIDs.Single() {
		// The sandbox opens it with ids that are not the caller's.
		f.TUN = f.TUN && openToAll(tunDevice)
	}
	f.Ping = canPing()
}

// Wire says whether the caller can open /dev/net/tun, and whether the host has IPv6. It
// is asked before the policy is known, and then again.
var Wire = sync.OnceValues(func() (tun, ipv6 bool) { return canOpen(tunDevice), hasIPv6() })

const tunDevice = "/dev/net/tun"

// openToAll says whether anybody may open a file for reading and writing.
func openToAll(path string) bool {
	var st unix.Stat_t
	return unix.Stat(path, &st) == nil && st.Mode&0o006 == 0o006
}

// canOpen says whether the device can be opened. A node's mode does not tell: it may
// be on a file system without devices, or refused by a cgroup.
func canOpen(path string) bool {
	fd, err := unix.Open(path, unix.O_RDWR|unix.O_CLOEXEC|unix.O_NONBLOCK, 0)
	if err != nil {
		return false
	}
	unix.Close(fd)
	return true
}

// hasIPv6 says whether there is a route to the internet of IPv6. To connect a
// datagram socket looks the route up, and sends nothing.
func hasIPv6() bool {
	fd, err := unix.Socket(unix.AF_INET6, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return false
	}
	defer unix.Close(fd)
	// Of the range that is given out to networks (RFC 4291, 2.4).
	return unix.Connect(fd, &unix.SockaddrInet6{Port: 53, Addr: [16]byte{0x20, 0x01, 0x05, 0x00}}) == nil
}

// canPing says whether the caller is in net.ipv4.ping_group_range (icmp(7)).
func canPing() bool {
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, unix.IPPROTO_ICMP)
	if err != nil {
		return false
	}
	unix.Close(fd)
	return true
}
