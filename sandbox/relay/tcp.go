package relay

import (
	"crypto/rand"
	"encoding/binary"
	"net/netip"
	"slices"
	"time"

	"github.com/sbx-build/sbx/sandbox/plan"
)

// stream is a TCP connection of the sandbox. Its packets pass sbx twice, each way: from
// the program, which believes that it talks to remote, to the socket of sbx's that
// listens in the sandbox's network, which believes that peer talks to it.
type stream struct {
	local  uint16         // the program's port
	remote netip.AddrPort // whom the program wants
	peer   netip.AddrPort // who the program is to the listening socket
	state  streamState
	dest   *dest // where the connection goes; host is its socket
	host   int
	// syn is the packet with which it began, held until host is connected. The program
	// then learns what really happened.
	syn []byte
	// fins are the directions in which a FIN has passed; last is when something did, once
	// the flow is closing, or when it was offered.
	fins byte
	last time.Time
	dial *connecting
	// asking says that host's other end is a proxy, which has not answered yet.
	asking bool
}

type streamState uint8

const (
	streamDialing   streamState = iota // nothing has been said to the program
	streamOffered                      // the held packet is with the listening socket
	streamConnected                    // it has been accepted
	streamClosing                      // nothing more is to come
)

// streamKey finds a flow by what its program's packets say, peerKey by those of the
// listening socket.
type (
	streamKey struct {
		addr        [16]byte
		port, local uint16
	}
	peerKey struct {
		addr [16]byte
		port uint16
	}
)

func keyOf(remote netip.AddrPort, local uint16) streamKey {
	return streamKey{remote.Addr().As16(), remote.Port(), local}
}

func peerOf(a netip.AddrPort) peerKey { return peerKey{a.Addr().As16(), a.Port()} }

const (
	// maxStreams bounds the flows, and so what a flood inside costs. A connection beyond
	// it is not answered, as by a network that loses packets.
	maxStreams = 32768
	// maxDials bounds those that are being connected.
	maxDials = 1024
	// lingering is how long a flow is known after its last packet. What comes later
	// gets a reset, as from any host that has forgotten a connection.
	lingering = 4 * time.Second
	// maxClosing bounds those that linger.
	maxClosing = 4096
	// acceptWithin is how long the program has to complete a connection, for which
	// nothing is needed but its own system.
	acceptWithin = 10 * time.Second
)

// tcp handles a packet of TCP.
func (r *Relay) tcp(f frame) {
	if f.src == plan.RelayAddr || f.src == plan.RelayAddr6 {
		r.fromRelay(f)
		return
	}
	if f.src != plan.SandboxAddr && f.src != plan.SandboxAddr6 {
		return // whoever says so is not the sandbox
	}
	key := streamKey{f.dst.As16(), f.dport(), f.sport()}
	fl := r.streams[key]
	flags := f.flags()
	if flags&(tcpSYN|tcpACK) == tcpSYN {
		switch {
		case fl != nil && fl.state == streamClosing:
			r.forget(fl)
		case fl != nil && fl.state == streamDialing:
			return // sent again
		case fl != nil:
			r.toRelay(fl, f)
			return
		}
		r.open(f)
		return
	}
	switch {
	case fl == nil && flags&tcpRST == 0:
		r.reset(f)
	case fl == nil:
	case fl.state == streamDialing:
		if flags&tcpRST != 0 {
			r.abandon(fl)
		}
	default:
		r.toRelay(fl, f)
	}
}

func (r *Relay) toRelay(fl *stream, f frame) {
	to := netip.AddrPortFrom(plan.RelayAddr, plan.RelayPort)
	if f.v6 {
		to = netip.AddrPortFrom(plan.RelayAddr6, plan.RelayPort)
	}
	flags := f.flags()
	f.readdress(fl.peer, to)
	r.wire.send(f)
	r.passed(fl, flags, 1)
}

// fromRelay handles a packet of the listening socket's, and of those accepted there.
func (r *Relay) fromRelay(f frame) {
	fl := r.peers[peerKey{f.dst.As16(), f.dport()}]
	if f.sport() != plan.RelayPort || fl == nil {
		return
	}
	to := netip.AddrPortFrom(plan.SandboxAddr, fl.local)
	if f.v6 {
		to = netip.AddrPortFrom(plan.SandboxAddr6, fl.local)
	}
	flags := f.flags()
	f.readdress(fl.remote, to)
	r.wire.send(f)
	r.passed(fl, flags, 2)
}

// passed notes what ends a flow.
func (r *Relay) passed(fl *stream, flags, direction byte) {
	if fl.state == streamClosing {
		fl.last = r.now
		return
	}
	if flags&(tcpFIN|tcpRST) == 0 {
		return
	}
	if fl.state == streamOffered && flags&tcpRST != 0 {
		r.abandon(fl) // also by sbx, which had no descriptor for it
		return
	}
	if flags&tcpFIN != 0 {
		fl.fins |= direction
	}
	if flags&tcpRST != 0 || fl.fins == 3 {
		r.close(fl)
	}
}

// open begins a connection of the sandbox's.
func (r *Relay) open(f frame) {
	if r.closed || len(r.streams) >= maxStreams {
		return
	}
	if r.dials >= maxDials {
		r.giveUpOldest()
	}
	remote := netip.AddrPortFrom(f.dst, f.dport())
	fl := &stream{local: f.sport(), remote: remote, host: -1}
	// Without data: what a SYN brings comes again (RFC 9293, 3.10.7.4), and a program
	// could make sbx hold a lot of it.
	head := len(f.b) - len(f.l4) + int(f.l4[12]>>4)*4
	fl.syn = append([]byte(nil), f.b[:head]...)
	if f.v6 {
		binary.BigEndian.PutUint16(fl.syn[4:], uint16(head-header6))
	} else {
		binary.BigEndian.PutUint16(fl.syn[2:], uint16(head))
	}
	r.streams[keyOf(remote, fl.local)] = fl
	r.begin(fl)
}

// offer has the program talk to the listening socket: the other end of its connection
// exists.
func (r *Relay) offer(fl *stream) {
	fl.state, fl.last = streamOffered, r.now
	for {
		fl.peer = randomPeer(fl.remote.Addr().Is6())
		if _, taken := r.peers[peerOf(fl.peer)]; !taken {
			break
		}
	}
	r.peers[peerOf(fl.peer)] = fl
	f := r.held(fl)
	fl.syn = nil
	to := netip.AddrPortFrom(plan.RelayAddr, plan.RelayPort)
	if f.v6 {
		to = netip.AddrPortFrom(plan.RelayAddr6, plan.RelayPort)
	}
	f.readdress(fl.peer, to)
	r.wire.send(f)
}

// held is the packet that a flow holds.
func (r *Relay) held(fl *stream) frame {
	return r.wire.make(func(b []byte) packet {
		p, _ := parse(b[:copy(b, fl.syn)])
		return p
	})
}

// randomPeer is an address that nobody can guess before it is given out: see takeStream.
func randomPeer(v6 bool) netip.AddrPort {
	var b [10]byte
	rand.Read(b[:])
	port := binary.BigEndian.Uint16(b[8:]) | 1<<10
	if v6 {
		a := plan.PeerPrefix6.Addr().As16()
		copy(a[8:], b[:8])
		return netip.AddrPortFrom(netip.AddrFrom16(a), port)
	}
	// 240.0.0.0 to 247.255.255.255 is nobody's (RFC 1112), and to Linux like any other.
	return netip.AddrPortFrom(netip.AddrFrom4([4]byte{240 | b[0]&7, b[1], b[2], b[3]}), port)
}

// abandon gives up a flow that has not been accepted.
func (r *Relay) abandon(fl *stream) {
	if fl.dial != nil {
		r.cancel(fl.dial)
		fl.dial = nil
	}
	r.asked(fl)
	if fl.host >= 0 {
		r.drop(fl.host)
		fl.host = -1
	}
	r.forget(fl)
}

// close lets a flow linger.
func (r *Relay) close(fl *stream) {
	fl.state, fl.last = streamClosing, r.now
	r.lingering = append(r.lingering, fl)
	if len(r.lingering) > maxClosing {
		r.forget(r.lingering[0])
		r.lingering = r.lingering[1:]
	}
}

// giveUpOldest gives up the flow that has been connecting for longest. Its program asks
// again; and one that has thousands of connections going nowhere does not keep others
// from being made.
func (r *Relay) giveUpOldest() {
	for len(r.dialed) > 0 {
		fl := r.dialed[0]
		r.dialed = r.dialed[1:]
		if fl.dial != nil || fl.asking {
			r.abandon(fl)
			return
		}
	}
}

// expire forgets flows of which nothing has been heard for a while.
func (r *Relay) expire() {
	r.dialed = slices.DeleteFunc(r.dialed, func(fl *stream) bool { return fl.dial == nil && !fl.asking })
	if r.now.Sub(r.scanned) > acceptWithin {
		r.scanned = r.now
		for _, fl := range r.streams {
			if fl.state == streamOffered && r.now.Sub(fl.last) > acceptWithin {
				r.abandon(fl)
			} else if fl.asking && r.now.Sub(fl.last) > proxyWithin {
				r.failProxy(fl)
			}
		}
	}
	keep := r.lingering[:0]
	for _, fl := range r.lingering {
		switch {
		case r.streams[keyOf(fl.remote, fl.local)] != fl:
		case r.now.Sub(fl.last) >= lingering:
			r.forget(fl)
		default:
			keep = append(keep, fl)
		}
	}
	clear(r.lingering[len(keep):])
	r.lingering = keep
}

func (r *Relay) forget(fl *stream) {
	key := keyOf(fl.remote, fl.local)
	if r.streams[key] == fl {
		delete(r.streams, key)
	}
	if fl.peer.IsValid() && r.peers[peerOf(fl.peer)] == fl {
		delete(r.peers, peerOf(fl.peer))
	}
}
