package relay

import (
	"time"

	"golang.org/x/sys/unix"
)

// handler is what has a descriptor that is waited for.
type handler interface {
	// ready is called with the events of epoll_ctl(2). There may be none any more.
	ready(events uint32)
}

const (
	// edge is how sockets are watched: once, for both directions.
	edge = unix.EPOLLIN | unix.EPOLLPRI | unix.EPOLLOUT | unix.EPOLLRDHUP | unix.EPOLLET&(1<<32-1)
	// batch is how many packets are handled before sockets get their turn.
	batch = 64
)

// run is the loop: it waits, and handles what has come, until it is told to stop. All
// of a relay but the record and what posts to it happens here, in one thread: a packet
// mostly wakes a socket of this same process, which is then served without another
// change of threads.
func (r *Relay) run() {
	events := make([]unix.EpollEvent, 128)
	for !r.stop() {
		n, err := r.waiter.wait(r.epoll, events, r.patience())
		if err != nil && err != unix.EINTR {
			return
		}
		r.now = time.Now()
		for _, e := range events[:max(n, 0)] {
			if h := r.handlers[e.Fd]; h != nil {
				h.ready(e.Events)
			}
		}
		r.again()
		r.closeDropped()
		if n == len(events) && r.wire != nil {
			// The wire's turn comes after that of thousands, it may be.
			packets{r}.catchUp()
		}
		if r.now.Sub(r.ticked) >= time.Second {
			r.tick()
		}
		for len(r.timers) > 0 && !r.timers[0].at.After(r.now) {
			f := r.timers[0].f
			r.timers.pop()
			f()
		}
	}
}

// patience is how long to wait, in milliseconds: until a timer, or for ever.
func (r *Relay) patience() int {
	if len(r.pending) > 0 {
		return 0
	}
	wait := -1
	if len(r.streams)+len(r.datagrams)+len(r.pings)+len(r.halves)+len(r.entrances) > 0 {
		wait = 1000
	}
	if r.closed {
		wait = 50
	}
	if len(r.timers) > 0 {
		d := int(time.Until(r.timers[0].at)/time.Millisecond) + 1
		if wait < 0 || d < wait {
			wait = max(d, 0)
		}
	}
	return wait
}

// tick does what is done now and then.
func (r *Relay) tick() {
	r.ticked = r.now
	r.askHalves()
	r.expire()
	r.expireDatagrams()
	r.expirePings()
	r.expireEntrances()
}

// again serves the sockets that had more than their share.
func (r *Relay) again() {
	for i := len(r.pending); i > 0; i-- {
		s := r.pending[0]
		r.pending = r.pending[1:]
		s.queued = false
		s.conn.pump(s)
	}
	if len(r.pending) == 0 {
		r.pending = nil
	}
}

// watch waits for a descriptor.
func (r *Relay) watch(fd int, events uint32, h handler) error {
	if err := unix.EpollCtl(r.epoll, unix.EPOLL_CTL_ADD, fd, &unix.EpollEvent{Events: events, Fd: int32(fd)}); err != nil {
		return err
	}
	r.handlers[int32(fd)] = h
	return nil
}

// handle gives a descriptor another handler.
func (r *Relay) handle(fd int, h handler) { r.handlers[int32(fd)] = h }

// drop closes a descriptor, after this turn: an event may be waiting that is about it,
// and would be taken for one of the next descriptor with its number.
func (r *Relay) drop(fd int) {
	delete(r.handlers, int32(fd))
	r.dropped = append(r.dropped, fd)
}

func (r *Relay) closeDropped() {
	for _, fd := range r.dropped {
		unix.Close(fd)
	}
	r.dropped = r.dropped[:0]
}

// post has the loop call f. It may be called by any goroutine. It is false where the
// loop has ended.
func (r *Relay) post(f func()) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.wake < 0 {
		return false
	}
	r.posted = append(r.posted, f)
	if len(r.posted) == 1 {
		unix.Write(r.wake, []byte{1, 0, 0, 0, 0, 0, 0, 0})
	}
	return true
}

// wakeup is the eventfd(2) by which the loop learns of what is posted.
type wakeup struct{ r *Relay }

func (w wakeup) ready(uint32) {
	var b [8]byte
	unix.Read(w.r.wake, b[:])
	w.r.mu.Lock()
	list := w.r.posted
	w.r.posted = nil
	w.r.mu.Unlock()
	for _, f := range list {
		f()
	}
}

// timer calls f at a time.
type timer struct {
	at time.Time
	f  func()
}

// timers are sorted by time. There are few: one for each connection that is being
// made to more than one address, and those of refuse.
type timers []timer

func (r *Relay) after(d time.Duration, f func()) {
	t := timer{r.now.Add(d), f}
	i := len(r.timers)
	for i > 0 && r.timers[i-1].at.After(t.at) {
		i--
	}
	r.timers = append(r.timers, timer{})
	copy(r.timers[i+1:], r.timers[i:])
	r.timers[i] = t
}

func (t *timers) pop() {
	(*t)[0] = timer{}
	*t = (*t)[1:]
}
