package network

import (
	"encoding/binary"
	"errors"

	"golang.org/x/sys/unix"
)

var errRouteReply = errors.New("the kernel's answer has another form than is known")

// parseRoute looks in what the kernel has sent for the answer to the request seq.
func parseRoute(b []byte, seq uint32) (route Route, found bool, err error) {
	e := binary.NativeEndian
	for len(b) >= unix.SizeofNlMsghdr {
		size := int(e.Uint32(b))
		if size < unix.SizeofNlMsghdr || size > len(b) {
			return Route{}, false, errRouteReply
		}
		body := b[unix.SizeofNlMsghdr:size]
		if e.Uint32(b[8:]) == seq {
			switch e.Uint16(b[4:]) {
			case unix.RTM_NEWROUTE:
				route, err = parseEntry(body)
				return route, err == nil, err
			case unix.NLMSG_ERROR:
				return parseRouteError(body)
			default:
				return Route{}, false, errRouteReply
			}
		}
		b = b[min(len(b), (size+3)&^3):]
	}
	return Route{}, false, nil
}

// parseRouteError tells "there is no route", which is an answer, from errors. The
// errno is that of the kind of the entry (net/ipv4/fib_semantics.c:fib_props):
// unreachable, prohibit and blackhole routes, or none at all.
func parseRouteError(body []byte) (Route, bool, error) {
	if len(body) < 4 {
		return Route{}, false, errRouteReply
	}
	errno := unix.Errno(-int32(binary.NativeEndian.Uint32(body)))
	switch errno {
	case unix.ENETUNREACH, unix.EHOSTUNREACH, unix.EACCES, unix.ENETDOWN, unix.EINVAL:
		return Route{Unreachable: errno}, true, nil
	case 0:
		return Route{}, false, errRouteReply
	}
	return Route{}, false, errno
}

// parseEntry reads struct rtmsg and the attributes after it.
func parseEntry(b []byte) (Route, error) {
	if len(b) < unix.SizeofRtMsg {
		return Route{}, errRouteReply
	}
	e := binary.NativeEndian
	family, length, protocol, scope, kind, flags := b[0], b[1], b[5], b[6], b[7], e.Uint32(b[8:])
	gateway, several := false, false
	for b = b[unix.SizeofRtMsg:]; len(b) >= unix.SizeofRtAttr; {
		size := int(e.Uint16(b))
		if size < unix.SizeofRtAttr || size > len(b) {
			return Route{}, errRouteReply
		}
		switch e.Uint16(b[2:]) &^ (unix.NLA_F_NESTED | unix.NLA_F_NET_BYTEORDER) {
		case unix.RTA_GATEWAY, unix.RTA_VIA:
			gateway = true
		case unix.RTA_MULTIPATH:
			several = true
		}
		b = b[min(len(b), (size+3)&^3):]
	}
	switch kind {
	case unix.RTN_LOCAL, unix.RTN_ANYCAST, unix.RTN_NAT:
		return Route{Own: true}, nil
	case unix.RTN_BROADCAST, unix.RTN_MULTICAST:
		return Route{Broadcast: true}, nil
	case unix.RTN_UNREACHABLE, unix.RTN_THROW:
		return Route{Unreachable: unix.EHOSTUNREACH}, nil
	case unix.RTN_PROHIBIT:
		return Route{Unreachable: unix.EACCES}, nil
	case unix.RTN_BLACKHOLE:
		return Route{Unreachable: unix.EINVAL}, nil
	case unix.RTN_UNICAST:
	default:
		return Route{}, errRouteReply
	}
	if gateway || several {
		return Route{}, nil
	}
	// A resolved route, from a kernel that does not tell the entry: without a gateway
	// it may be on the link.
	if flags&unix.RTM_F_CLONED != 0 {
		return Route{OnLink: true}, nil
	}
	return Route{OnLink: onLink(family, length, protocol, scope)}, nil
}

// onLink says whether an entry without a gateway is a network that the host is on:
// the kernel, or who sets up addresses, made it for an address of the host. What an
// administrator or a VPN adds, such as 0.0.0.0/1 by a tunnel, is not. IPv6 has no
// scopes.
func onLink(family, length, protocol, scope byte) bool {
	if length == 0 || family == unix.AF_INET && scope != unix.RT_SCOPE_LINK {
		return false
	}
	switch protocol {
	case unix.RTPROT_KERNEL, unix.RTPROT_RA, unix.RTPROT_DHCP, unix.RTPROT_REDIRECT, unix.RTPROT_UNSPEC:
		return true
	}
	return false
}
