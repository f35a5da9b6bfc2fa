package relay

import (
	"golang.org/x/sys/unix"

	"github.com/sbx-build/sbx/sandbox/internal/nonblock"
)

// conn joins two sockets: the program's, and that of whom it talks to. What one brings
// the other gets, ends included.
type conn struct {
	r    *Relay
	side [2]side
	// look, where it is not nil, must agree to what side 0 sends first; see sniff.go.
	look func(first []byte, last bool) (agreed, wait bool)
	over func()
	done bool
}

// side is one of a connection's sockets, and the way of its bytes to the other.
type side struct {
	conn *conn
	fd   int
	to   *side
	// rest are bytes that the other side had no room for. They are in pipe or in memory.
	pipe   *pipe
	rest   []byte
	eof    bool // nothing more comes
	broken bool // nor does an end
	ended  bool // and the other side knows
	hup    bool // the end is there, or an error
	eager  bool // there may be more than events tell of
	stuck  bool // the other side takes nothing now
	queued bool
	quick  bool // reads have been full: splice(2) pays
	urgent bool // there is an urgent byte: a read ends before it, and splice(2) does for good
	// limited says that only limit more bytes may go. What comes then is read, so that the
	// end is noticed, and goes nowhere.
	limited bool
	limit   int64
	bytes   *uint64
}

const (
	// chunk is what is read at once into memory that all connections share; a small
	// answer needs no pipe.
	chunk = 64 << 10
	// smallChunk is for when much is held for those that do not take it.
	smallChunk = 4 << 10
	heldLimit  = 4 << 20
	// share is what a side may have moved until others get their turn.
	share = 1 << 20
)

// join joins two sockets that are watched, of which a is the program's. Nothing moves
// before start. over, if not nil, is called at the end.
func (r *Relay) join(a, b int, rec *Contact, over func()) *conn {
	c := &conn{r: r, over: over}
	c.side[0] = side{conn: c, fd: a, to: &c.side[1], bytes: &rec.Up}
	c.side[1] = side{conn: c, fd: b, to: &c.side[0], bytes: &rec.Down}
	r.handle(a, &c.side[0])
	r.handle(b, &c.side[1])
	r.conns[c] = struct{}{}
	return c
}

func (c *conn) start() {
	for i := range c.side {
		c.side[i].eager = true // what came before is not told again
		c.pump(&c.side[i])
	}
}

func (s *side) ready(events uint32) {
	c := s.conn
	if events&(unix.EPOLLRDHUP|unix.EPOLLHUP|unix.EPOLLERR) != 0 {
		s.hup = true
	}
	if s.ended && events&unix.EPOLLERR != 0 {
		c.reset() // it takes nothing either
		return
	}
	if events&unix.EPOLLPRI != 0 {
		s.eager, s.urgent = true, true
	}
	if events&(unix.EPOLLIN|unix.EPOLLPRI) != 0 || s.hup {
		c.pump(s)
	}
	if s.to.stuck && events&(unix.EPOLLOUT|unix.EPOLLHUP|unix.EPOLLERR) != 0 {
		c.pump(s.to)
	}
}

// pump moves what a side brings to the other side, as much as goes now.
func (c *conn) pump(s *side) {
	if c.done || s.ended {
		return
	}
	for moved := 0; ; {
		if s.stuck = !c.flush(s); s.stuck {
			return
		}
		if s.eof {
			s.ended = true
			if s.to.ended {
				c.close()
				return
			}
			s.halfOver()
			if !s.full() { // else its end says nothing of the request
				unix.Shutdown(s.to.fd, unix.SHUT_WR)
			}
			return
		}
		if c.look != nil && s == &c.side[0] && !c.agreed() {
			return
		}
		if moved >= share {
			if !s.queued {
				s.queued = true
				c.r.pending = append(c.r.pending, s)
			}
			return
		}
		n, more := c.fill(s)
		if !more {
			return
		}
		moved += n
	}
}

// forgottenAfter is when it is asked whether a side that has ended takes anything yet.
// One that has closed its socket forgets it after as long (tcp_fin_timeout in tcp(7)), and
// then answers with a reset: else what never ends at the other side would be kept for ever.
const forgottenAfter = 60

// halfOver has that asked, if the other side does not end within a moment, as it mostly
// does.
func (s *side) halfOver() {
	r := s.conn.r
	if r.halves = append(r.halves, s); len(r.halves) == maxHalves {
		r.askHalves()
	}
}

// maxHalves bounds what is kept for that of connections that are over.
const maxHalves = 256

func (r *Relay) askHalves() {
	for _, s := range r.halves {
		if !s.conn.done {
			unix.SetsockoptInt(s.fd, unix.IPPROTO_TCP, unix.TCP_KEEPIDLE, forgottenAfter)
			unix.SetsockoptInt(s.fd, unix.SOL_SOCKET, unix.SO_KEEPALIVE, 1)
		}
	}
	clear(r.halves)
	r.halves = r.halves[:0]
}

// full says that no more bytes of a side may go.
func (s *side) full() bool { return s.limited && s.limit == 0 }

// fill reads from a side, and says whether there may be more now. A read that is not
// full has emptied the socket; what comes later is an event (epoll(7), questions and
// answers), and so is the end, unless it was there before.
func (c *conn) fill(s *side) (n int, more bool) {
	r := c.r
	if s.urgent {
		c.idle(s)
	}
	if s.quick && s.pipe == nil && !s.limited && !s.urgent {
		s.pipe = r.pipes.take()
	}
	var err error
	full := true
	if s.pipe != nil {
		if n, err = s.pipe.fill(s.fd); n == 0 && err == nil {
			c.idle(s) // the end; or an urgent byte, and the end somewhere after it
		}
	}
	if s.pipe == nil {
		buf := r.buffer[:]
		if r.heldBytes > heldLimit {
			buf = buf[:smallChunk]
		}
		if s.limited && !s.full() {
			buf = buf[:min(int64(len(buf)), s.limit)]
		}
		n, err = nonblock.Read(s.fd, buf)
		full = n == len(buf)
		s.quick = full && len(buf) == len(r.buffer)
		if n > 0 && !full && !s.limited && (s.hup || s.eager) {
			n += s.ahead(buf[n:])
		}
	}
	switch {
	case err == unix.EAGAIN:
		s.eager, s.urgent = false, false
		c.idle(s)
		return 0, false
	case err != nil:
		c.reset()
		return 0, false
	case n == 0:
		s.eof = true
		return 0, true
	}
	if s.full() {
		return n, true
	}
	*s.bytes += uint64(n)
	if s.limited {
		s.limit -= int64(n)
	}
	if s.pipe == nil && !c.deliver(s, r.buffer[:n]) {
		return n, false
	}
	if s.broken {
		c.reset()
		return n, false
	}
	return n, full || s.hup || s.eager || len(s.rest) > 0
}

// ahead reads what comes after bytes that have been read, which mostly is the end: it
// then goes with them, in one packet.
func (s *side) ahead(buf []byte) int {
	n, err := nonblock.Read(s.fd, buf)
	switch {
	case err == unix.EAGAIN:
		s.eager = false
	case err != nil:
		s.broken = true // it is not told again
	case n == 0:
		s.eof = true
	}
	return n
}

// idle gives back what a side needs only while it moves bytes.
func (c *conn) idle(s *side) {
	if s.pipe != nil && s.pipe.n == 0 {
		c.r.pipes.give(s.pipe)
		s.pipe, s.quick = nil, false
	}
}

// deliver writes what has been read, and keeps what the other side does not take. It
// is false where the connection is over.
func (c *conn) deliver(s *side, b []byte) bool {
	flags := 0
	if s.eof {
		flags = unix.MSG_MORE
	}
	n, err := nonblock.Send(s.to.fd, b, flags)
	if err != nil && err != unix.EAGAIN {
		c.reset()
		return false
	}
	if n < len(b) {
		s.rest = append([]byte(nil), b[n:]...)
		c.r.heldBytes += len(s.rest)
	}
	return true
}

// flush writes what is held. It says whether all of it went.
func (c *conn) flush(s *side) bool {
	if len(s.rest) > 0 {
		n, err := nonblock.Write(s.to.fd, s.rest)
		if err != nil && err != unix.EAGAIN {
			c.reset()
			return false
		}
		s.rest = s.rest[n:]
		c.r.heldBytes -= n
		if len(s.rest) > 0 {
			return false
		}
		s.rest = nil
	}
	for s.pipe != nil && s.pipe.n > 0 {
		if err := s.pipe.drain(s.to.fd); err == unix.EAGAIN {
			return false
		} else if err != nil {
			c.reset()
			return false
		}
	}
	return true
}

// reset ends both sides by a reset, as the end of one of them did.
func (c *conn) reset() {
	if c.done {
		return
	}
	for i := range c.side {
		unix.SetsockoptLinger(c.side[i].fd, unix.SOL_SOCKET, unix.SO_LINGER, &unix.Linger{Onoff: 1})
	}
	c.close()
}

func (c *conn) close() {
	if c.done {
		return
	}
	c.done = true
	for i := range c.side {
		s := &c.side[i]
		c.r.drop(s.fd)
		if s.pipe != nil {
			c.r.pipes.give(s.pipe)
			s.pipe = nil
		}
		c.r.heldBytes -= len(s.rest)
		s.rest = nil
	}
	delete(c.r.conns, c)
	if c.over != nil {
		c.over()
	}
}
