package relay

import (
	"bytes"
	"encoding/binary"
	"net/netip"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/sbx-build/sbx/sandbox/plan"
)

// Datagrams that come as one are many.
func TestEach(t *testing.T) {
	for _, to := range []string{"93.184.216.1", "2600:1::1"} {
		for _, size := range []int{0, 1, 7, 40, 999, 1000, 1001} {
			from, data := plan.SandboxAddr, make([]byte, 1000)
			for i := range data {
				data[i] = byte(i * 7)
			}
			if netip.MustParseAddr(to).Is6() {
				from = plan.SandboxAddr6
			}
			all := make([]byte, room)
			f := frame{packet: build(all[virtio:], unix.IPPROTO_UDP, from, netip.MustParseAddr(to), headUDP+len(data))}
			f.all = all[:virtio+len(f.b)]
			udpHeader(f.l4, 5, 7, len(f.l4))
			copy(f.l4[headUDP:], data)
			f.all[1] = vnetDatagrams
			binary.NativeEndian.PutUint16(f.all[4:], uint16(size))
			var got []byte
			n := 0
			f.each(func(f frame) {
				p, ok := parse(f.b)
				if !ok || len(p.l4) != len(f.l4) || len(p.b) != len(f.b) || p.sport() != 5 || p.dport() != 7 || p.dst != f.dst {
					t.Fatalf("%d: %x is no datagram", size, f.b)
				}
				got = append(got, p.l4[headUDP:]...)
				n++
			})
			want := 1
			if size > 0 {
				want = (len(data) + size - 1) / size
			}
			if n != want || !bytes.Equal(got, data) {
				t.Errorf("%d: %d datagrams, want %d; the same bytes: %v", size, n, want, bytes.Equal(got, data))
			}
		}
	}
}
