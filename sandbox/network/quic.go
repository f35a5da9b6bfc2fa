package network

import "encoding/binary"

// HidesName is why QUIC is not for names that are allowed one by one.
const HidesName = "QUIC would hide the name that it is for; programs fall back to TCP"

// shortestInitial is the least that begins a connection of QUIC (RFC 9000, section 14.1):
// a server leaves others unanswered.
const shortestInitial = 1200

// BeginsQUIC says whether a datagram begins a connection of QUIC, whose name is encrypted:
// a long header (RFC 8999, section 5.1) of a version that servers have. Other protocols'
// datagrams may look the same by chance, and are then lost like these.
func BeginsQUIC(b []byte) bool {
	if len(b) < shortestInitial || b[0]&0x80 == 0 {
		return false
	}
	switch version := binary.BigEndian.Uint32(b[1:]); {
	case version == 1, version == 0x6b3343cf: // RFC 9000, RFC 9369
		return true
	default:
		first := version >> 24
		return first == 0xff || first == 0xfa || first == 'Q' || first == 'T' // drafts, mvfst, Google's
	}
}
