package relay

import "time"

// The end of a run waits for others to take what its programs have sent before they
// ended: for as long as they do, but not for ever.
const (
	drainIdle   = time.Second
	drainWithin = 30 * time.Second
)

// stop says whether the loop is over: once it is told to, when all that programs have
// sent is on its way.
func (r *Relay) stop() bool {
	if !r.closed {
		return false
	}
	now := time.Now()
	if sent := r.sent(); sent != r.drained {
		r.drained, r.idle = sent, now
	}
	if now.After(r.until) || now.Sub(r.idle) > drainIdle {
		return true
	}
	for c := range r.conns {
		if !c.side[0].ended {
			return false
		}
	}
	for _, fl := range r.streams {
		if fl.state == streamOffered {
			return false // its program has sent, and ended, before it was accepted
		}
	}
	return true
}

// Close ends the relay, when nothing lives in the sandbox any more. It gives what the
// sandbox had to do with the network.
func (r *Relay) Close() *Record {
	r.post(func() {
		r.closed = true
		r.idle = time.Now()
		r.until = r.idle.Add(drainWithin)
	})
	<-r.ended
	return r.record
}

// sent is what programs have sent that others have taken.
func (r *Relay) sent() (n uint64) {
	for c := range r.conns {
		s := &c.side[0]
		n += *s.bytes - uint64(len(s.rest))
		if s.pipe != nil {
			n -= uint64(s.pipe.n)
		}
	}
	return n
}
