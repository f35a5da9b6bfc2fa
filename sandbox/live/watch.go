package live

import (
	"maps"
	"runtime/debug"
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
	maxWait = 250 * time.Millisecond
	// slowInterval is how often the overlay is refreshed where not all is watched.
	slowInterval = 1500 * time.Millisecond
	// What is held is tried again after firstRetry, then twice that, up to lastRetry.
	firstRetry = 10 * time.Millisecond
	lastRetry  = 2 * time.Second
	// largeTree is a tree of so many directories.
	largeTree = 500
	// maxPaths bounds the paths that are remembered between two refreshes.
	maxPaths = 50000
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
	// Budget is how many directories are watched at most, 0 for what the kernel
	// allows and the editor needs.
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
	// should be could.
	Watches int  `json:"watches"`
	Slow    bool `json:"slow,omitempty"`
	// Refreshes is how often the overlay was refreshed.
	Refreshes int `json:"refreshes"`
	// Mirrors is how many edits were mirrored for processes inside that watch.
	Mirrors int `json:"mirrors,omitempty"`
	// Held are paths that processes inside hold as they were, the first few.
	Held []string `json:"held,omitempty"`
}

// Watcher keeps an overlay up to date while a run lives.
type Watcher struct {
	target Target
	wake   int // eventfd(2): Stop
	done   chan struct{}
	// overlay is there from the first refresh on.
	overlay Overlay

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
	w := &Watcher{target: t, wake: wake, done: make(chan struct{}), status: Status{Dir: t.Lower}}
	go w.run()
	return w, nil
}

// Stop ends it, and lets go of the mount.
func (w *Watcher) Stop() {
	w.mu.Lock()
	w.stopped = true
	w.mu.Unlock()
	unix.Write(w.wake, []byte{1, 0, 0, 0, 0, 0, 0, 0})
	<-w.done
	if w.overlay != nil {
		w.overlay.Close()
	}
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
func (w *Watcher) run() {
	defer close(w.done)
	if !w.pause(-1, startAfter) {
		return
	}
	lock, waited, ok := w.lock()
	if !ok {
		return
	}
	defer unix.Close(lock)
	since := w.target.Since
	if waited {
		since = time.Time{} // nobody knows what the one before has missed
	}
	w.set(func(s *Status) { s.Watching = true })
	for w.watch(since) {
		since = time.Time{}
	}
}

// lock waits for the lock; ok is false if the Watcher is to stop, or cannot have it.
func (w *Watcher) lock() (lock int, waited, ok bool) {
	fd, err := unix.Open(w.target.Lock, unix.O_RDWR|unix.O_CREAT|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0o600)
	if err != nil {
		w.target.Warn("what you edit may not be seen inside: cannot lock %q: %v", w.target.Lock, err)
		return -1, false, false
	}
	if unix.Flock(fd, unix.LOCK_EX|unix.LOCK_NB) == nil {
		return fd, false, true
	}
	event, err := unix.Eventfd(0, unix.EFD_CLOEXEC|unix.EFD_NONBLOCK)
	if err != nil {
		unix.Close(fd)
		return -1, false, false
	}
	// flock(2) cannot be told to give up: the goroutine outlives a Watcher that is
	// stopped, and ends with the process or when it gets the lock.
	var mu sync.Mutex
	var got, gone bool
	go func() {
		for unix.Flock(fd, unix.LOCK_EX) == unix.EINTR {
		}
		mu.Lock()
		defer mu.Unlock()
		if gone {
			unix.Close(fd)
			return
		}
		got = true
		unix.Write(event, []byte{1, 0, 0, 0, 0, 0, 0, 0})
	}()
	ok = w.pause(event, -1)
	mu.Lock()
	defer mu.Unlock()
	unix.Close(event)
	gone = !got
	if got && !ok {
		unix.Close(fd)
	}
	return fd, true, ok && got
}

func (w *Watcher) set(f func(s *Status)) {
	w.mu.Lock()
	f(&w.status)
	w.mu.Unlock()
}

// batch is what has happened since the last refresh.
type batch struct {
	first, last time.Time
	wait        time.Duration // for quiet, from first on
	paths       map[string]bool
	many        bool // and more than can be remembered
	// kinds are what has happened to them, and to files that were only written to,
	// which makes no name wrong.
	kinds map[string]uint32
	hard  bool
}

func newBatch(cost time.Duration) batch {
	return batch{wait: min(max(20*cost, minWait), maxWait), paths: map[string]bool{}, kinds: map[string]uint32{}}
}

// written are the events of a file that is written to in place.
const written = unix.IN_CLOSE_WRITE | unix.IN_MODIFY

// soft says whether an event makes no name wrong.
func soft(mask uint32) bool { return mask&written != 0 && mask&unix.IN_ALL_EVENTS&^written == 0 }

func (b *batch) add(path string, mask uint32) {
	now := time.Now()
	if b.first.IsZero() {
		b.first = now
	}
	b.last = now
	if _, ok := b.kinds[path]; ok || len(b.kinds) < maxPaths {
		b.kinds[path] |= mask
	}
	if soft(mask) {
		return
	}
	b.hard = true
	if len(b.paths) < maxPaths {
		b.paths[path] = true
	} else {
		b.many = b.many || !b.paths[path]
	}
}

// due is when it is time for a refresh; false if there is nothing to show.
func (b *batch) due() (time.Time, bool) {
	if b.first.IsZero() {
		return time.Time{}, false
	}
	due := b.last.Add(quiet)
	if end := b.first.Add(b.wait); due.After(end) {
		due = end
	}
	return due, true
}

// watch watches until the Watcher is to stop, or, true, until the tree must be watched
// anew.
func (w *Watcher) watch(since time.Time) (again bool) {
	pair, err := w.target.Open()
	if err != nil || pair.LowerFd() < 0 {
		w.target.Warn("what you edit may not be seen inside: cannot open %q: %v", w.target.Lower, err)
		return false
	}
	defer pair.Close()
	l := &loop{w: w, pair: pair, batch: newBatch(0), held: map[string]bool{}}
	budget := w.target.Budget
	if budget == 0 {
		budget = watchBudget()
	}
	l.tree, err = newTree(pair.LowerFd(), budget, l.batch.add)
	fd := -1
	if err != nil {
		l.blind = true
		w.target.Warn("what you edit is seen inside only after a while: cannot watch %q: %v (sysctl fs.inotify.max_user_instances and max_user_watches)", w.target.Lower, err)
	} else {
		defer l.tree.close()
		fd = l.tree.fd
		for _, dir := range w.target.Skip {
			if l.tree.skip == nil {
				l.tree.skip = map[string]bool{}
			}
			l.tree.skip[dir] = true
		}
		if !since.IsZero() {
			// The clock of files is behind by a tick of the kernel's.
			l.tree.since = since.Add(-50 * time.Millisecond).UnixNano()
		}
	}
	if since.IsZero() {
		l.batch.add("", 0)
	}
	if w.target.Notes != nil {
		l.mirror = newMirror(w.target, pair, l.tree)
		defer l.mirror.close()
	}
	for {
		wait := l.next()
		if !w.pause(fd, wait) {
			return false
		}
		if fd >= 0 {
			if lost := l.look(); lost {
				return true
			}
		}
		l.act()
	}
}

// loop is the state of one watch.
type loop struct {
	w     *Watcher
	pair  *overlay.Opened
	tree  *tree
	batch batch
	// mirror is there where files are mirrored.
	mirror *mirror
	// blind says that not everything is watched.
	blind, warned bool
	// scanAt is when the tree is read on.
	scanAt time.Time
	// held are the paths that were still as they were after a refresh.
	held     map[string]bool
	retry    time.Duration
	retryAt  time.Time
	slowAt   time.Time
	failures int
	// cost is how long the last refresh took.
	cost time.Duration
	// again is how many refreshes are to follow for paths that were not remembered.
	again int
}

// next is how long nothing need be done; -1 for ever.
func (l *loop) next() time.Duration {
	var at time.Time
	some := false
	earlier := func(t time.Time, ok bool) {
		if ok && (!some || t.Before(at)) {
			at, some = t, true
		}
	}
	earlier(l.batch.due())
	earlier(l.scanAt, l.tree != nil && !l.tree.settled())
	earlier(l.retryAt, len(l.held)+l.again > 0)
	earlier(l.slowAt, l.blind)
	if !some {
		return -1
	}
	return max(0, time.Until(at))
}

// look reads what has happened, and on in the tree.
func (l *loop) look() (lost bool) {
	t := l.tree
	if _, lost = t.events(); lost {
		return true
	}
	if began := time.Now(); !t.settled() && !began.Before(l.scanAt) {
		// The build's time is worth more than that of directories that are rarely
		// edited.
		pause := time.Duration(1)
		if t.scan() {
			pause = 4
		}
		l.scanAt = time.Now().Add(pause * time.Since(began))
		if t.settled() {
			t.since = 0
			if t.count() > largeTree {
				debug.FreeOSMemory() // reading it has left much behind
			}
		}
	}
	l.blind = t.over
	if l.blind && !l.warned {
		l.warned = true
		l.w.target.Warn("what you edit is in part seen inside only after %v: %q has more directories than can be watched (sysctl fs.inotify.max_user_watches gives more, --no-live switches it off)", slowInterval.Round(time.Second), l.w.target.Lower)
	}
	l.w.set(func(s *Status) { s.Watches, s.Slow = t.count(), l.blind })
	return false
}

// act refreshes the overlay if it is time.
func (l *loop) act() {
	now := time.Now()
	due, changed := l.batch.due()
	changed = changed && !now.Before(due)
	retry := len(l.held)+l.again > 0 && !now.Before(l.retryAt)
	slow := l.blind && !now.Before(l.slowAt)
	if !changed && !retry && !slow {
		return
	}
	if l.tree != nil {
		l.tree.sweep()
	}
	needless := changed && !l.batch.hard && !retry && !slow
	if l.mirror != nil {
		l.mirror.before(l.batch.kinds, l.batch.many || slow, !needless)
		l.w.set(func(s *Status) { s.Mirrors = l.mirror.count })
	}
	if needless {
		l.batch = newBatch(l.cost) // nothing that the overlay has cached is wrong
		return
	}
	began := time.Now()
	err := l.w.refresh()
	l.cost = time.Since(began)
	l.slowAt = time.Now().Add(slowInterval)
	if err != nil {
		// For want of processes or memory, which the build may have used up.
		if l.failures++; l.failures == maxFailures {
			l.w.target.Warn("what you edit is not seen inside: %v", err)
		}
		l.batch.first, l.batch.last = time.Now(), time.Now().Add(retryFailed)
		return
	}
	l.failures = 0
	l.w.set(func(s *Status) { s.Refreshes++ })
	if l.mirror != nil {
		l.mirror.after()
	}
	l.check(changed)
}

func (w *Watcher) refresh() (err error) {
	if w.overlay == nil {
		if w.overlay, err = w.target.Pick(w.target.Owner, w.target.Mount); err != nil {
			w.overlay = nil
			return err
		}
	}
	return w.overlay.Refresh()
}

// check finds out what a refresh has not reached: what is held by a process.
func (l *loop) check(changed bool) {
	c := &checker{pair: l.pair, merged: l.w.target.Mount}
	defer c.close()
	before := len(l.held)
	look := l.held
	if changed {
		look = l.batch.paths
		maps.Copy(look, l.held)
		if l.batch.many {
			l.again = 4
		}
		l.batch = newBatch(l.cost)
	}
	l.held = map[string]bool{}
	for _, path := range slices.Sorted(maps.Keys(look)) {
		if l.w.ending() {
			return // a run must not wait for this at its end
		}
		if c.stale(path) {
			l.held[path] = true
		}
	}
	if !changed && l.again > 0 {
		l.again--
	}
	if changed || len(l.held) < before || l.retry == 0 {
		l.retry = firstRetry
	} else {
		l.retry = min(2*l.retry, lastRetry)
	}
	l.retryAt = time.Now().Add(l.retry)
	l.w.set(func(s *Status) {
		s.Held = slices.Sorted(maps.Keys(l.held))
		s.Held = s.Held[:min(len(s.Held), maxHeld)]
	})
}

// maxHeld is how many held paths are told.
const maxHeld = 20
