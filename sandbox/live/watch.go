package live

import (
	"slices"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"github.com/sbx-build/sbx/sandbox/overlay"
)

const (
	// startAfter is when a run begins to watch: a short one pays nothing.
	startAfter = 100 * time.Millisecond
	// quiet is for how long nothing must happen before a refresh. One waits for that
	// for as long as twenty refreshes take, within these bounds.
	quiet   = 20 * time.Millisecond
	minWait = 100 * time.Millisecond
	maxWait = 400 * time.Millisecond
	// slowInterval is how often the overlay is refreshed where not all is watched: what
	// one refresh misses, because a process holds it just then, the next one shows, and
	// both are within two seconds.
	slowInterval = time.Second
	// bulkyInterval is that where bulky directories alone are not watched.
	bulkyInterval = 30 * time.Second
	// reviseAfter is when it is tried again to watch all.
	reviseAfter = time.Minute
	// What is held is tried again after firstRetry, or as long as ten refreshes take,
	// then twice that, up to lastRetry.
	firstRetry = 10 * time.Millisecond
	lastRetry  = 2 * time.Second
	// largeTree is a tree of so many directories.
	largeTree = 500
	// maxPaths and maxBytes bound the paths that are remembered between two refreshes.
	maxPaths = 50000
	maxBytes = 8 << 20
	// retryFailed is about when a refresh that has failed is tried again.
	retryFailed = 100 * time.Millisecond
	// maxFailures is after how many refreshes in a row that fail the user is told.
	maxFailures = 10
)

// Target is an overlay that is to show what the host has.
type Target struct {
	overlay.Pair
	// Lock is the file of which the supervisors of the layer want the lock.
	Lock string
	// Owner is the user namespace that owns the overlay, Mount a mount of it.
	Owner, Mount int
	// Since is when the overlay was mounted, zero where that is not known.
	Since time.Time
	// Notes are the layer's notes on the pair, if files may be mirrored; a function,
	// because most runs need none.
	Notes func() (overlay.Notes, error)
	// Below are the paths of the overlay on which a sandbox has mounted something.
	Below []string
	// Skip are directories, relative to Lower, that the sandbox does not see through
	// the overlay.
	Skip []string
	// Budget is how many directories are watched at most (Budget).
	Budget int
	// Pick gives what refreshes the overlay (child.Pick).
	Pick func(owner, mount int) (Overlay, error)
	// Warn is told what the user should know.
	Warn func(format string, a ...any)
}

// Overlay can be made to drop what it has cached.
type Overlay interface {
	Refresh() error
	Close()
}

// Status is what a Watcher has done.
type Status struct {
	// Dir is the host's directory.
	Dir string `json:"directory"`
	// Watching says that this is the one that does it for the layer.
	Watching bool `json:"watching"`
	// Watches is how many directories are watched. Slow says that not all that
	// should be could, Partial that some in bulky directories are not.
	Watches int  `json:"watches"`
	Slow    bool `json:"slow,omitempty"`
	Partial bool `json:"partial,omitempty"`
	// Replaced says that another directory has the name by now, or none.
	Replaced bool `json:"replaced,omitempty"`
	// Refreshes is how often the overlay was refreshed.
	Refreshes int `json:"refreshes"`
	// Mirrors is how many edits were mirrored for processes inside that watch.
	Mirrors int `json:"mirrors,omitempty"`
	// Held are paths that processes inside hold as they were, the first few, and as much
	// of them as is of use to people.
	Held []string `json:"held,omitempty"`
}

// Watcher keeps an overlay up to date while a run lives.
type Watcher struct {
	target Target
	wake   int // eventfd(2): Suspend
	done   chan struct{}
	charge *charge
	// overlay is there from the first refresh on.
	overlay Overlay
	// held are the paths that were still as they were after a refresh, and whether their
	// mode was.
	held map[string]bool
	// failing, slow and moved say that the user was told.
	failing, slow, moved bool

	mu      sync.Mutex
	stopped bool
	status  Status
}

// Start begins, at the side. The Watcher owns the descriptors of the target until it
// is stopped.
func Start(t Target) (*Watcher, error) {
	wake, err := unix.Eventfd(0, unix.EFD_CLOEXEC|unix.EFD_NONBLOCK)
	if err != nil {
		return nil, err
	}
	w := &Watcher{target: t, wake: wake, done: make(chan struct{}), held: map[string]bool{}, status: Status{Dir: t.Lower}}
	go w.run(t.Since, startAfter)
	return w, nil
}

// Suspend lets another supervisor of the layer have the watch, until Resume: this one
// is about to be stopped, as by Ctrl-Z.
func (w *Watcher) Suspend() {
	w.mu.Lock()
	w.stopped = true
	w.mu.Unlock()
	unix.Write(w.wake, []byte{1, 0, 0, 0, 0, 0, 0, 0})
	<-w.done
	w.set(func(s *Status) { s.Watching, s.Watches = false, 0 })
}

// Resume goes on after Suspend.
func (w *Watcher) Resume() {
	var b [8]byte
	unix.Read(w.wake, b[:])
	w.mu.Lock()
	w.stopped = false
	w.mu.Unlock()
	w.done = make(chan struct{})
	go w.run(time.Time{}, 0)
}

// Stop ends it, and lets go of the mount.
func (w *Watcher) Stop() {
	w.Suspend()
	w.drop()
	unix.Close(w.wake)
	unix.Close(w.target.Owner)
	unix.Close(w.target.Mount)
}

func (w *Watcher) ending() bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.stopped
}

// Status says what has been done until now.
func (w *Watcher) Status() Status {
	w.mu.Lock()
	defer w.mu.Unlock()
	s := w.status
	s.Held = slices.Clone(s.Held)
	return s
}

// pause waits for an event of fd, if that is not -1, for so long at most; ok is false
// when the Watcher is to stop.
func (w *Watcher) pause(fd int, d time.Duration) (ok bool) {
	deadline := time.Now().Add(d)
	for {
		fds := []unix.PollFd{{Fd: int32(w.wake), Events: unix.POLLIN}, {Fd: int32(fd), Events: unix.POLLIN}}
		timeout := -1
		if d >= 0 {
			timeout = int(max(0, (time.Until(deadline)+time.Millisecond-1)/time.Millisecond))
		}
		_, err := unix.Poll(fds, timeout)
		if err == unix.EINTR {
			continue
		}
		return err == nil && fds[0].Revents == 0
	}
}

// run is the life of a Watcher: it waits, for its time and for the lock, and watches.
// since is as in Target.
func (w *Watcher) run(since time.Time, after time.Duration) {
	defer close(w.done)
	if !w.pause(-1, after) {
		return
	}
	charge, err := newCharge(w.target.Lock)
	if err != nil {
		w.target.Warn("what you edit may not be seen inside: cannot lock %q: %v", w.target.Lock, err)
		return
	}
	defer charge.close()
	w.charge = charge
	for {
		waited, ok := w.wait()
		if !ok {
			return
		}
		if waited {
			since = time.Time{} // nobody knows what the one before has missed
		}
		if !w.inCharge(since) {
			return
		}
		w.set(func(s *Status) { s.Watching, s.Watches = false, 0 })
	}
}

// wait waits until this one is in charge; ok is false if it is to stop.
func (w *Watcher) wait() (waited, ok bool) {
	for !w.charge.take() {
		waited = true
		event := w.charge.event
		if w.charge.hasLock() {
			event = -1 // it has come before
		}
		if !w.pause(event, takeOverAfter) {
			return waited, false
		}
	}
	return waited, true
}

// inCharge watches, until the Watcher is to stop or, deposed, until another has taken
// its place.
func (w *Watcher) inCharge(since time.Time) (deposed bool) {
	pair, err := w.target.Open()
	if err != nil || pair.LowerFd() < 0 {
		w.target.Warn("what you edit may not be seen inside: cannot open %q: %v", w.target.Lower, err)
		return false
	}
	defer pair.Close()
	w.set(func(s *Status) { s.Watching = true })
	for {
		switch w.watch(pair, since) {
		case stopped:
			return false
		case replaced:
			return true
		case anew:
			since = time.Now()
		case lost:
			since = time.Time{}
		}
	}
}

// drop lets go of what refreshes the overlay.
func (w *Watcher) drop() {
	if w.overlay != nil {
		w.overlay.Close()
		w.overlay = nil
	}
}

func (w *Watcher) set(f func(s *Status)) {
	w.mu.Lock()
	f(&w.status)
	w.mu.Unlock()
}
