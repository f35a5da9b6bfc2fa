package relay

import (
	"time"

	"golang.org/x/sys/unix"

	"github.com/sbx-build/sbx/sandbox/internal/nonblock"
)

// waiter waits for events. An answer that comes within the time that a thread takes to fall
// asleep and wake up is waited for awake, if the one before came as soon: that is what two
// programs of this machine do that talk to each other.
//
// Not on a machine that is busy: the scheduler would have the thread wait for its turn when
// the answer comes, because it has computed. It shows in a look for events that takes as
// long as another program's turn does.
type waiter struct {
	// quick says that the last event came soon, crowded until when nothing is waited for
	// awake, and pause for how long that was.
	quick   bool
	crowded time.Time
	pause   time.Duration
}

const (
	// awake is how long is waited awake.
	awake = 30 * time.Microsecond
	// turn is more than a look takes, and less than a program's turn (base_slice_ns in
	// debugfs: 0.7 ms and more).
	turn = 200 * time.Microsecond
	// A machine is taken for busy for minCrowd first, and for longer each time that it
	// turns out to be so still, as far as maxCrowd.
	minCrowd = 10 * time.Millisecond
	maxCrowd = time.Second
)

// wait waits for so many milliseconds, -1: for ever. Of events that are there, Go's scheduler
// need not know.
func (w *waiter) wait(epoll int, events []unix.EpollEvent, patience int) (int, error) {
	n, err := nonblock.EpollWait(epoll, events)
	if n > 0 || patience == 0 {
		return n, err
	}
	begun := time.Now()
	if w.quick && begun.After(w.crowded) {
		for last := begun; n == 0 && last.Sub(begun) < awake; {
			n, err = nonblock.EpollWait(epoll, events)
			now := time.Now()
			if now.Sub(last) > turn {
				w.busy(now)
			}
			last = now
		}
		if n > 0 {
			return n, err
		}
	}
	n, err = unix.EpollWait(epoll, events, patience)
	w.quick = n > 0 && time.Since(begun) < 2*awake
	return n, err
}

// busy takes the machine for busy from now on.
func (w *waiter) busy(now time.Time) {
	if w.pause *= 4; now.Sub(w.crowded) > maxCrowd {
		w.pause = 0 // it is long ago that it was
	}
	w.pause = min(max(w.pause, minCrowd), maxCrowd)
	w.crowded = now.Add(w.pause)
}
