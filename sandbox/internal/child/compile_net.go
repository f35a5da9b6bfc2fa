package child

import (
	"encoding/binary"
	"net/netip"
	"unsafe"

	"golang.org/x/sys/unix"

	"github.com/sbx-build/sbx/sandbox/plan"
)

// What golang.org/x/sys/unix does not have (linux/if_link.h, linux/veth.h).
const (
	vethInfoPeer      = 1 // VETH_INFO_PEER
	addrGenModeNone   = 1 // IN6_ADDR_GEN_MODE_NONE
	addrFlagNoDAD     = 2 // IFA_F_NODAD
	virtioHeader      = 10
	offloads          = unix.TUN_F_CSUM | unix.TUN_F_TSO4 | unix.TUN_F_TSO6
	persistent        = 1
	backlog           = 4096
	answered          = 36 // an acknowledgement (netlink(7)); an error is longer
	routeNetlinkQueue = 1000
)

// iface makes the sandbox's network interface and sends sbx the other end.
func (c *compiler) iface(s plan.Interface) {
	if s.TUN {
		c.tun()
		c.keep(slotFile, sendFD)
		c.sendPart(1)
	} else {
		c.veth()
		c.keep(slotFile, sendFD)
		c.hold()
		c.sendPart(2)
	}
	c.routes(s)
}

// hold makes a socket that has what is at sendFD and itself on their way to it, and
// puts it at sendFD+1. To close a packet socket is to wait for a grace period of the
// kernel's (packet_release in net/packet/af_packet.c), some ten milliseconds. When sbx
// has let go of both, nobody can reach this one any more, and the kernel's garbage
// collector closes them (unix_gc in net/unix/garbage.c): then one of its own threads
// waits.
func (c *compiler) hold() {
	m := c.m
	// Of an abstract name, which nobody can have in a new network namespace.
	sa := unix.RawSockaddrUnix{Family: unix.AF_UNIX}
	name := "\x00sbx"
	for i := range name {
		sa.Path[i] = int8(name[i])
	}
	to, size := put(m, sa), uintptr(2+len(name))
	c.add(unix.SYS_SOCKET, unix.AF_UNIX, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0).to(slotFile)
	c.add(unix.SYS_BIND, 0, to, size).with(0, slotFile)
	c.keep(slotFile, sendFD+1)
	rights := cmsghdr{length: 16 + 2*4, level: unix.SOL_SOCKET, typ: unix.SCM_RIGHTS, fds: [8]int32{sendFD, sendFD + 1}}
	h := msghdr{name: to, namelen: uint32(size), iov: put(m, [2]uintptr{put(m, [8]byte{}), 1}), iovlen: 1, control: put(m, rights), controllen: 24}
	c.add(unix.SYS_SENDMSG, sendFD+1, put(m, h), unix.MSG_NOSIGNAL|unix.MSG_DONTWAIT).ok(unix.ETOOMANYREFS)
	// It takes nothing more, from a build for example.
	c.add(unix.SYS_SHUTDOWN, sendFD+1, unix.SHUT_RD)
}

// tun makes a TUN device. It is persistent: to close it would otherwise wait for a
// grace period of the kernel's, and as it is, it goes with its network namespace.
func (c *compiler) tun() {
	m := c.m
	// struct ifreq { char ifr_name[16]; short ifr_flags; … }, 40 bytes.
	req := make([]byte, 40)
	copy(req, plan.InterfaceName)
	binary.NativeEndian.PutUint16(req[16:], unix.IFF_TUN|unix.IFF_NO_PI|unix.IFF_VNET_HDR)
	c.add(unix.SYS_OPENAT, at, m.str(onHost("/dev/net/tun")), unix.O_RDWR|unix.O_NONBLOCK|unix.O_CLOEXEC).to(slotFile)
	c.add(unix.SYS_IOCTL, 0, unix.TUNSETIFINDEX, put(m, [4]byte(binary.NativeEndian.AppendUint32(nil, plan.InterfaceIndex)))).with(0, slotFile)
	c.add(unix.SYS_IOCTL, 0, unix.TUNSETIFF, m.bytes(req)).with(0, slotFile)
	c.add(unix.SYS_IOCTL, 0, unix.TUNSETOFFLOAD, offloads).with(0, slotFile)
	c.add(unix.SYS_IOCTL, 0, unix.TUNSETPERSIST, persistent).with(0, slotFile)
}

// veth makes a pair of virtual Ethernet interfaces, and a packet socket on the far
// one. That needs no device node.
func (c *compiler) veth() {
	m := c.m
	peer := append(ifinfo(plan.WireIndex, 0), attr(unix.IFLA_IFNAME, []byte(plan.WireName+"\x00"))...)
	peer = append(peer, attr(unix.IFLA_ADDRESS, plan.WireMAC[:])...)
	peer = append(peer, attr(unix.IFLA_MTU, u32(plan.MTU))...)
	info := append(attr(unix.IFLA_INFO_KIND, []byte("veth")), attr(unix.IFLA_INFO_DATA, attr(vethInfoPeer, peer))...)
	c.netlink(
		message(unix.RTM_NEWLINK, unix.NLM_F_CREATE|unix.NLM_F_EXCL, ifinfo(plan.InterfaceIndex, 0),
			attr(unix.IFLA_IFNAME, []byte(plan.InterfaceName+"\x00")), attr(unix.IFLA_ADDRESS, plan.InterfaceMAC[:]),
			attr(unix.IFLA_MTU, u32(plan.MTU)), attr(unix.IFLA_LINKINFO, info)),
		noAddress(plan.WireIndex),
		message(unix.RTM_NEWLINK, 0, ifinfo(plan.WireIndex, unix.IFF_UP)),
		// No neighbour is looked for: the frames have the addresses that are there.
		message(unix.RTM_NEWLINK, 0, ifinfo(plan.InterfaceIndex, unix.IFF_NOARP)),
	)
	// Not before the interface exists; and bound at once, to no other.
	sa := unix.RawSockaddrLinklayer{Family: unix.AF_PACKET, Protocol: networkOrder(unix.ETH_P_ALL), Ifindex: plan.WireIndex}
	c.add(unix.SYS_SOCKET, unix.AF_PACKET, unix.SOCK_RAW|unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC, 0).to(slotFile)
	for _, option := range []uintptr{unix.PACKET_VNET_HDR, packetIgnoreOutgoing, unix.PACKET_QDISC_BYPASS} {
		c.add(unix.SYS_SETSOCKOPT, 0, unix.SOL_PACKET, option, put(m, [4]byte(u32(1))), 4).with(0, slotFile)
	}
	c.add(unix.SYS_SETSOCKOPT, 0, unix.SOL_SOCKET, unix.SO_RCVBUFFORCE, put(m, [4]byte(u32(wireBuffer))), 4).with(0, slotFile).ok(unix.EPERM)
	c.add(unix.SYS_SETSOCKOPT, 0, unix.SOL_SOCKET, unix.SO_RCVBUF, put(m, [4]byte(u32(wireBuffer))), 4).with(0, slotFile)
	c.add(unix.SYS_BIND, 0, put(m, sa), unsafe.Sizeof(sa)).with(0, slotFile)
}

const (
	packetIgnoreOutgoing = 23 // PACKET_IGNORE_OUTGOING, Linux 4.20
	wireBuffer           = 8 << 20
)

// routes gives the interface its addresses, and makes it the way to everywhere.
func (c *compiler) routes(s plan.Interface) {
	list := [][]byte{
		newAddr(plan.SandboxAddr), newAddr(plan.RelayAddr),
		noAddress(plan.InterfaceIndex),
	}
	if s.IPv6 {
		list = append(list, newAddr(plan.SandboxAddr6), newAddr(plan.RelayAddr6))
	}
	list = append(list,
		// Of an interface that is up the length of the queue is changed only after a grace
		// period of the kernel's, and in one message it would be up by then
		// (net/core/rtnetlink.c:do_setlink).
		message(unix.RTM_NEWLINK, 0, ifinfo(plan.InterfaceIndex, 0), attr(unix.IFLA_MTU, u32(plan.MTU)), attr(unix.IFLA_TXQLEN, u32(routeNetlinkQueue))),
		message(unix.RTM_NEWLINK, 0, ifinfo(plan.InterfaceIndex, unix.IFF_UP)),
		route(plan.SandboxAddr),
	)
	if s.IPv6 {
		list = append(list, route(plan.SandboxAddr6))
	}
	c.netlink(list...)
}

// netlink makes requests of rtnetlink(7), one after the other.
func (c *compiler) netlink(requests ...[]byte) {
	m := c.m
	c.add(unix.SYS_SOCKET, unix.AF_NETLINK, unix.SOCK_RAW|unix.SOCK_CLOEXEC, unix.NETLINK_ROUTE).to(slotNext)
	for _, r := range requests {
		c.add(unix.SYS_SENDTO, 0, m.bytes(r), uintptr(len(r)), 0, 0, 0).with(0, slotNext)
		o := c.add(unix.SYS_RECVFROM, 0, address(m.cut(1024)), 1024, 0, 0, 0).with(0, slotNext)
		if !optional(r) {
			o.demand(answered)
		}
	}
	c.add(unix.SYS_CLOSE).with(0, slotNext)
}

// refused is the errno in a netlink answer. The child does not look at it; it lies in
// the memory that sbx shares with it.
func (p *Process) refused(o op) unix.Errno {
	at := int(o.arg[1] - address(p.memory.all))
	if o.nr != unix.SYS_RECVFROM || o.want != answered || at < 0 || at+answered > len(p.memory.all) {
		return 0
	}
	return unix.Errno(-int32(binary.NativeEndian.Uint32(p.memory.all[at+16:])))
}

// listen makes a listening socket and sends it.
func (c *compiler) listen(s plan.Listen) {
	m := c.m
	var sa uintptr
	size := unsafe.Sizeof(unix.RawSockaddrInet4{})
	family := uintptr(unix.AF_INET)
	if s.Addr.Addr().Is4() {
		sa = put(m, unix.RawSockaddrInet4{Family: unix.AF_INET, Port: networkOrder(s.Addr.Port()), Addr: s.Addr.Addr().As4()})
	} else {
		family, size = unix.AF_INET6, unsafe.Sizeof(unix.RawSockaddrInet6{})
		sa = put(m, unix.RawSockaddrInet6{Family: unix.AF_INET6, Port: networkOrder(s.Addr.Port()), Addr: s.Addr.Addr().As16()})
	}
	begin := len(c.ops)
	c.add(unix.SYS_SOCKET, family, unix.SOCK_STREAM|unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC, 0).to(slotFile)
	if s.Bound {
		name := plan.InterfaceName + "\x00"
		c.add(unix.SYS_SETSOCKOPT, 0, unix.SOL_SOCKET, unix.SO_BINDTODEVICE, m.str(name), uintptr(len(name))).with(0, slotFile)
	}
	if family == unix.AF_INET6 {
		c.add(unix.SYS_SETSOCKOPT, 0, unix.SOL_IPV6, unix.IPV6_V6ONLY, put(m, [4]byte(u32(1))), 4).with(0, slotFile)
	}
	bind := len(c.ops)
	c.add(unix.SYS_BIND, 0, sa, size).with(0, slotFile)
	c.add(unix.SYS_LISTEN, 0, backlog).with(0, slotFile)
	c.keep(slotFile, sendFD)
	c.sendPart(1)
	if family == unix.AF_INET6 && !s.Bound {
		// Without IPv6 there is no ::1 either: then the socket is not made.
		c.ops[begin].ok(unix.EAFNOSUPPORT).onQuiet = uint16(len(c.ops) - begin - 1)
		c.ops[bind].ok(unix.EADDRNOTAVAIL).onQuiet = uint16(len(c.ops) - bind - 1)
	}
}

// sendPart sends what is at sendFD as the next of plan.Plan.Parts.
func (c *compiler) sendPart(count int) {
	c.sendRecord(record{kind: recordNetwork, index: uint32(c.parts)}, count)
	c.parts++
}

// sockets makes sockets and sends them. Without IPv6 they are of IPv4.
func (c *compiler) sockets(count int) {
	for count > 0 {
		n := min(count, 8)
		for i := range n {
			c.add(unix.SYS_SOCKET, unix.AF_INET6, unix.SOCK_STREAM|unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC, 0).to(slotFile).ok(unix.EAFNOSUPPORT).onSuccess = 1
			c.add(unix.SYS_SOCKET, unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC, 0).to(slotFile)
			c.keep(slotFile, sendFD+i)
		}
		c.send(recordSockets, n)
		count -= n
	}
}

// Sockets gives new TCP sockets of a network namespace, of which userns is the owner.
// That takes as long as a short-lived process.
func Sockets(userns, netns, count int) ([]int, error) {
	return fetch(plan.BuildSockets(count), count, userns, netns)
}

// sysctl sets a variable. ENOENT: this kernel does not have it; EINVAL: it does not
// take the value, as where an id is not mapped.
func (c *compiler) sysctl(s plan.Sysctl) {
	skip := c.add(unix.SYS_OPENAT, at, c.m.str("/proc/sys/"+s.Path()), unix.O_WRONLY|unix.O_CLOEXEC).to(slotFile).ok(unix.ENOENT, unix.EACCES)
	skip.onQuiet = 2
	c.add(unix.SYS_WRITE, 0, c.m.str(s.Value), uintptr(len(s.Value))).with(0, slotFile).ok(unix.EINVAL)
	c.add(unix.SYS_CLOSE).with(0, slotFile)
}

// message is a request that is to be acknowledged (netlink(7)).
func message(kind, flags uint16, body []byte, attrs ...[]byte) []byte {
	b := make([]byte, 16)
	b = append(b, body...)
	for _, a := range attrs {
		b = append(b, a...)
	}
	binary.NativeEndian.PutUint32(b, uint32(len(b)))
	binary.NativeEndian.PutUint16(b[4:], kind)
	binary.NativeEndian.PutUint16(b[6:], flags|unix.NLM_F_REQUEST|unix.NLM_F_ACK)
	return b
}

// attr is an attribute, padded.
func attr(kind uint16, value []byte) []byte {
	b := binary.NativeEndian.AppendUint16(nil, uint16(4+len(value)))
	b = binary.NativeEndian.AppendUint16(b, kind)
	b = append(b, value...)
	return append(b, make([]byte, (4-len(b)%4)%4)...)
}

func u32(v uint32) []byte { return binary.NativeEndian.AppendUint32(nil, v) }

// ifinfo is a struct ifinfomsg that sets flags.
func ifinfo(index int32, set uint32) []byte {
	b := make([]byte, 16)
	binary.NativeEndian.PutUint32(b[4:], uint32(index))
	binary.NativeEndian.PutUint32(b[8:], set)
	binary.NativeEndian.PutUint32(b[12:], set)
	return b
}

// noAddress keeps IPv6 from giving an interface an address of its own, which it would
// announce. Where there is no IPv6, it is refused.
func noAddress(index int32) []byte {
	return message(unix.RTM_NEWLINK, 0, ifinfo(index, 0),
		attr(unix.IFLA_AF_SPEC, attr(unix.AF_INET6, attr(unix.IFLA_INET6_ADDR_GEN_MODE, []byte{addrGenModeNone}))))
}

// optional says that a request may be refused.
func optional(r []byte) bool {
	return binary.NativeEndian.Uint16(r[4:]) == unix.RTM_NEWLINK && len(r) > 16+16+4 && binary.NativeEndian.Uint16(r[34:]) == unix.IFLA_AF_SPEC
}

// newAddr gives the interface an address (struct ifaddrmsg).
func newAddr(a netip.Addr) []byte {
	raw := a.AsSlice()
	body := []byte{family(a), byte(8 * len(raw)), 0, 0}
	if a.Is6() {
		body[2] = addrFlagNoDAD
	}
	body = append(body, u32(plan.InterfaceIndex)...)
	return message(unix.RTM_NEWADDR, unix.NLM_F_CREATE|unix.NLM_F_EXCL, body, attr(unix.IFA_LOCAL, raw), attr(unix.IFA_ADDRESS, raw))
}

// route is the default route (struct rtmsg), by which packets are the address's.
func route(source netip.Addr) []byte {
	body := []byte{family(source), 0, 0, 0, unix.RT_TABLE_MAIN, unix.RTPROT_BOOT, unix.RT_SCOPE_UNIVERSE, unix.RTN_UNICAST, 0, 0, 0, 0}
	if source.Is4() {
		body[6] = unix.RT_SCOPE_LINK
	}
	return message(unix.RTM_NEWROUTE, unix.NLM_F_CREATE|unix.NLM_F_EXCL, body,
		attr(unix.RTA_OIF, u32(plan.InterfaceIndex)), attr(unix.RTA_PREFSRC, source.AsSlice()))
}

func family(a netip.Addr) byte {
	if a.Is4() {
		return unix.AF_INET
	}
	return unix.AF_INET6
}

func networkOrder(v uint16) uint16 {
	return binary.NativeEndian.Uint16([]byte{byte(v >> 8), byte(v)})
}
