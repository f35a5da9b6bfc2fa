package host

import (
	"golang.org/x/sys/unix"
)

// network looks at what the sandbox's network can be made of.
func (f *Facts) network() {
	f.TUN = canOpen("/dev/net/tun")
	f.IPv6 = hasIPv6()
	f.Ping = canPing()
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
