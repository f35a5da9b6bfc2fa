package relay

import (
	"encoding/binary"

	"golang.org/x/sys/unix"

	"github.com/sbx-build/sbx/sandbox/internal/nonblock"
	"github.com/sbx-build/sbx/sandbox/plan"
)

// wire is the other end of the sandbox's network interface. Each packet stands behind
// a struct virtio_net_hdr (linux/virtio_net.h), and, where it comes from a packet
// socket, an Ethernet header. With the former the kernel hands over segments of up to
// 64 KiB as one, without a checksum, and takes such.
type wire struct {
	fd   int
	link int // bytes of the link header
	in   [room]byte
	out  [room]byte
}

const (
	virtio   = 10
	ethernet = 14
	room     = virtio + ethernet + 1<<16
	// vnetNeedsChecksum is VIRTIO_NET_HDR_F_NEEDS_CSUM.
	vnetNeedsChecksum = 1
)

func newWire(fd int) *wire {
	w := &wire{fd: fd}
	if domain, err := unix.GetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_DOMAIN); err == nil && domain == unix.AF_PACKET {
		w.link = ethernet
	}
	return w
}

// frame is a packet with what stands before it: all that is written.
type frame struct {
	all []byte
	packet
}

// read reads the next packet. ok is false for what is not one, err is EAGAIN where
// there is none.
func (w *wire) read() (f frame, ok bool, err error) {
	n, err := nonblock.Read(w.fd, w.in[:])
	if err != nil {
		return f, false, err
	}
	if n < virtio+w.link {
		return f, false, nil
	}
	f.packet, ok = parse(w.in[virtio+w.link : n])
	f.all = w.in[:virtio+w.link+len(f.b)]
	return f, ok, nil
}

// make makes a packet to be sent, which is good until the next one is made. The
// transport's bytes are not cleared.
func (w *wire) make(build func(b []byte) packet) frame {
	f := frame{packet: build(w.out[virtio+w.link:])}
	f.all = w.out[:virtio+w.link+len(f.b)]
	clear(f.all[:virtio])
	return f
}

// send sends a packet to the sandbox. A packet that the kernel has no room for is
// lost, as on any network.
func (w *wire) send(f frame) {
	if w.link > 0 {
		e := f.all[virtio:]
		copy(e, plan.InterfaceMAC[:])
		copy(e[6:], plan.WireMAC[:])
		kind := uint16(unix.ETH_P_IP)
		if f.v6 {
			kind = unix.ETH_P_IPV6
		}
		binary.BigEndian.PutUint16(e[12:], kind)
	}
	switch f.proto {
	case unix.IPPROTO_TCP:
		w.checksum(f, 16)
	case unix.IPPROTO_UDP:
		w.checksum(f, 6)
	}
	nonblock.Write(w.fd, f.all)
}

// checksum has the kernel complete the checksum at an offset of the transport: there
// stands the sum over the pseudo-header, not complemented.
func (w *wire) checksum(f frame, offset int) {
	f.all[0] = vnetNeedsChecksum
	binary.NativeEndian.PutUint16(f.all[6:], uint16(w.link+len(f.b)-len(f.l4)))
	binary.NativeEndian.PutUint16(f.all[8:], uint16(offset))
	f.l4[offset], f.l4[offset+1] = 0, 0
	binary.BigEndian.PutUint16(f.l4[offset:], fold(f.pseudo()))
}
