package relay

import (
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// TestWaiter: events come, awake or not, and without one it waits as long as it is to.
func TestWaiter(t *testing.T) {
	epoll, err := unix.EpollCreate1(unix.EPOLL_CLOEXEC)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(epoll)
	fd, err := unix.Eventfd(0, unix.EFD_CLOEXEC|unix.EFD_NONBLOCK)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(fd)
	if err := unix.EpollCtl(epoll, unix.EPOLL_CTL_ADD, fd, &unix.EpollEvent{Events: unix.EPOLLIN, Fd: int32(fd)}); err != nil {
		t.Fatal(err)
	}
	events := make([]unix.EpollEvent, 4)
	wait := func(w *waiter, patience int) (int, error) {
		for {
			// The runtime interrupts its threads now and then.
			if n, err := w.wait(epoll, events, patience); err != unix.EINTR {
				return n, err
			}
		}
	}
	for _, w := range []waiter{{}, {quick: true}, {quick: true, crowded: time.Now().Add(time.Hour)}} {
		begun := time.Now()
		if n, err := wait(&w, 0); n != 0 || err != nil {
			t.Errorf("%+v: %d events, %v, where there are none", w, n, err)
		}
		if n, err := wait(&w, 20); n != 0 || err != nil || time.Since(begun) < 20*time.Millisecond {
			t.Errorf("%+v: %d events, %v after %v", w, n, err, time.Since(begun))
		}
		if w.quick {
			t.Errorf("%+v: nothing came, and that was soon", w)
		}
		go func() {
			time.Sleep(time.Millisecond)
			unix.Write(fd, []byte{1, 0, 0, 0, 0, 0, 0, 0})
		}()
		if n, err := wait(&w, -1); n != 1 || err != nil || events[0].Fd != int32(fd) {
			t.Errorf("%+v: %d events, %v", w, n, err)
		}
		unix.Read(fd, make([]byte, 8))
	}
}

// TestWaiterBusy: on a machine that stays busy it is found out ever more rarely whether it is.
func TestWaiterBusy(t *testing.T) {
	w, now := waiter{}, time.Now()
	for _, want := range []time.Duration{minCrowd, 4 * minCrowd, 16 * minCrowd, 64 * minCrowd, maxCrowd, maxCrowd} {
		w.busy(now)
		if got := w.crowded.Sub(now); got != want {
			t.Errorf("%v, want %v", got, want)
		}
		now = w.crowded.Add(time.Millisecond)
	}
	now = now.Add(2 * maxCrowd)
	if w.busy(now); w.crowded.Sub(now) != minCrowd {
		t.Errorf("after a while %v, want %v", w.crowded.Sub(now), minCrowd)
	}
}
