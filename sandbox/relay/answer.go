package relay

import (
	"encoding/binary"
	"io"
	"net/netip"
	"os"
	"time"
)

const (
	// maxAsking bounds the queries that are being answered. One beyond it is lost, and
	// asked again.
	maxAsking = 256
	// maxQueryConns bounds the connections by which queries come.
	maxQueryConns = 32
	queryIdle     = 10 * time.Second
)

// query answers a query that came by UDP.
func (r *Relay) query(f frame) {
	if r.asking >= maxAsking || r.closed {
		return
	}
	r.asking++
	q := append([]byte(nil), f.l4[headUDP:]...)
	from, port := netip.AddrPortFrom(f.dst, f.dport()), f.sport()
	go func() {
		answer := r.server.Answer(q, false)
		r.post(func() {
			r.asking--
			if answer != nil {
				r.reply(from, port, answer)
			}
		})
	}()
}

// serveQueries answers the queries that come by a connection (RFC 7766).
func (r *Relay) serveQueries(fd int) {
	if r.queryConns >= maxQueryConns {
		abort(fd)
		return
	}
	r.queryConns++
	f := os.NewFile(uintptr(fd), "queries")
	r.files[f] = struct{}{}
	go func() {
		defer r.post(func() {
			r.queryConns--
			delete(r.files, f)
		})
		defer f.Close()
		for {
			f.SetDeadline(time.Now().Add(queryIdle))
			var length [2]byte
			if _, err := io.ReadFull(f, length[:]); err != nil {
				return
			}
			q := make([]byte, binary.BigEndian.Uint16(length[:]))
			if _, err := io.ReadFull(f, q); err != nil {
				return
			}
			answer := r.server.Answer(q, true)
			if answer == nil || len(answer) > 65535 {
				return
			}
			if _, err := f.Write(append(binary.BigEndian.AppendUint16(nil, uint16(len(answer))), answer...)); err != nil {
				return
			}
		}
	}()
}
