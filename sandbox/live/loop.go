package live

import (
	"maps"
	"runtime/debug"
	"slices"
	"time"

	"golang.org/x/sys/unix"

	"github.com/sbx-build/sbx/sandbox/overlay"
)

// outcome is why a watch has ended.
type outcome int

const (
	stopped outcome = iota
	// anew: the tree must be watched anew; lost: and events were lost.
	anew
	lost
	// replaced: another supervisor of the layer is in charge now.
	replaced
)

// watch watches until the Watcher is to stop, or something has happened. since is as in
// Target.
func (w *Watcher) watch(pair *overlay.Opened, since time.Time) outcome {
	l := &loop{w: w, pair: pair, batch: newBatch(0), began: time.Now()}
	var err error
	l.tree, err = newTree(pair.LowerFd(), w.target.Budget, l.batch.add)
	fd := -1
	if err != nil {
		l.blind = true
		w.warnSlow("what you edit is seen inside only after a while: cannot watch %q: %v (sysctl fs.inotify.max_user_instances and max_user_watches)", w.target.Lower, err)
	} else {
		defer l.tree.close()
		fd = l.tree.fd
		l.tree.skip = map[string]bool{}
		for _, dir := range w.target.Skip {
			l.tree.skip[dir] = true
		}
		if since.IsZero() {
			l.tree.nodes[top].tell = all
		} else {
			// The clock of files is behind by a tick of the kernel's.
			l.tree.since = since.Add(-50 * time.Millisecond).UnixNano()
		}
	}
	if since.IsZero() {
		l.batch.add("", 0)
	}
	if w.target.Notes != nil && l.tree != nil {
		l.mirror = newMirror(w.target, pair, l.tree, w.ending)
		defer func() {
			l.unpark(true)
			l.mirror.close()
		}()
	}
	for {
		if !w.pause(fd, l.next()) {
			return stopped
		}
		if !w.charge.mine() {
			return replaced
		}
		if fd >= 0 {
			if l.look() {
				return lost
			}
			if l.blind && time.Since(l.began) > reviseAfter {
				return anew
			}
		}
		if l.mirror != nil {
			l.mirror.holds.wake()
		}
		l.act()
	}
}

// compare sees whether the host's directory is still the one that the overlay is over, and
// tells once if it is not: that cannot be changed while a run lives.
func (w *Watcher) compare(lower int) {
	was, err := overlay.StatFd(lower)
	now, err1 := overlay.StatAt(unix.AT_FDCWD, w.target.Lower)
	replaced := err == nil && (err1 != nil || was.Dev != now.Dev || was.Ino != now.Ino)
	w.set(func(s *Status) { s.Replaced = replaced })
	if replaced && !w.moved {
		w.moved = true
		w.target.Warn("%q was moved or replaced: its runs still see the directory that was there, and a run sees the new one when all of them have ended", w.target.Lower)
	}
}

// warnSlow tells once that not all is watched.
func (w *Watcher) warnSlow(format string, a ...any) {
	if !w.slow {
		w.slow = true
		w.target.Warn(format, a...)
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
	began  time.Time
	// blind says that not all that should be is watched.
	blind bool
	// scanAt is when the tree is read on, retryAt when what is held is tried again, after
	// retry, slowAt when the overlay is refreshed for what is not watched.
	scanAt, retryAt, slowAt time.Time
	retry                   time.Duration
	failures                int
	// cost is how long the last refresh took.
	cost time.Duration
	// again is how many refreshes are to follow for paths that were not remembered.
	again int
}

// nextBatch begins a batch, which may wait the longer for quiet the more one costs.
func (l *loop) nextBatch() batch {
	cost := l.cost
	if l.mirror != nil {
		cost += l.mirror.cost
	}
	return newBatch(cost)
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
	if l.mirror != nil {
		earlier(l.mirror.parkedUntil())
		earlier(l.mirror.holds.rested())
	}
	earlier(l.scanAt, l.tree != nil && !l.tree.settled())
	earlier(l.retryAt, len(l.w.held)+l.again > 0)
	earlier(l.slowAt, l.blind || l.partial())
	if !some {
		return -1
	}
	return max(0, time.Until(at))
}

// partial says that bulky directories are not all watched.
func (l *loop) partial() bool { return l.tree != nil && l.tree.left }

// look reads what has happened, and on in the tree.
func (l *loop) look() (lost bool) {
	t := l.tree
	if t.events() {
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
	if l.blind = t.over; l.blind {
		l.w.warnSlow("what you edit is in part seen inside only after up to two seconds: %q has more directories than can be watched (sysctl fs.inotify.max_user_watches gives more, --no-live switches it off)", l.w.target.Lower)
	}
	l.w.set(func(s *Status) { s.Watches, s.Slow, s.Partial = t.count(), l.blind, t.left })
	return false
}

// act refreshes the overlay if it is time.
func (l *loop) act() {
	now := time.Now()
	l.unpark(false)
	due, changed := l.batch.due()
	changed = changed && !now.Before(due)
	retry := len(l.w.held)+l.again > 0 && !now.Before(l.retryAt)
	slow := (l.blind || l.partial()) && !now.Before(l.slowAt)
	if !changed && !retry && !slow {
		return
	}
	if l.tree != nil {
		l.tree.sweep()
	}
	if changed {
		l.w.compare(l.pair.LowerFd())
	}
	needless := changed && !l.batch.hard && !retry && !slow
	// One that was stopped in the middle of it may be about to go on.
	mirrors := l.mirror != nil && l.w.charge.lock(mirrorByte)
	if mirrors {
		defer l.w.charge.unlock(mirrorByte)
		if !l.w.charge.mine() {
			return
		}
		l.mirror.before(l.batch.kinds, l.batch.many || slow, !needless)
		l.w.set(func(s *Status) { s.Mirrors = l.mirror.count })
	}
	if needless {
		l.batch = l.nextBatch() // nothing that the overlay has cached is wrong
		l.postpone()
		return
	}
	began := time.Now()
	err := l.w.refresh()
	l.cost = time.Since(began)
	if err != nil {
		// For want of processes or memory, which the build may have used up. The kernel
		// takes no second call by a descriptor with which one has failed.
		l.w.drop()
		if l.failures++; l.failures == maxFailures && !l.w.failing {
			l.w.failing = true
			l.w.target.Warn("what you edit is not seen inside: %v", err)
		}
		l.batch.first, l.batch.last = time.Now(), time.Now().Add(retryFailed)
		l.retryAt, l.slowAt = l.batch.last, l.batch.last
		return
	}
	l.failures = 0
	l.slowAt = time.Now().Add(bulkyInterval)
	if l.blind {
		l.slowAt = time.Now().Add(slowInterval)
	}
	l.w.set(func(s *Status) { s.Refreshes++ })
	if mirrors {
		l.mirror.after()
	}
	l.check(changed)
	l.postpone()
}

// postpone has the next batch look at what the mirror has left for it.
func (l *loop) postpone() {
	if l.mirror == nil {
		return
	}
	for path, mask := range l.mirror.later {
		l.batch.add(path, mask)
	}
	clear(l.mirror.later)
}

// unpark looks at what mirrors have taken the place of, and it is time for.
func (l *loop) unpark(all bool) {
	if l.mirror == nil {
		return
	}
	now := time.Now()
	if until, some := l.mirror.parkedUntil(); !some || !all && now.Before(until) {
		return
	}
	if !l.w.charge.lock(mirrorByte) {
		for i := range l.mirror.parked {
			l.mirror.parked[i].until = now.Add(parkFor)
		}
		return
	}
	defer l.w.charge.unlock(mirrorByte)
	l.mirror.unpark(func(p parked) bool { return all || !now.Before(p.until) })
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
	look := l.w.held
	if changed {
		look = l.batch.paths
		for path, mode := range l.w.held {
			look[path] = look[path] || mode
		}
		if l.batch.many {
			l.again = 10
		}
		l.batch = l.nextBatch()
	} else if l.again > 0 {
		l.again--
	}
	held := map[string]bool{}
	for _, path := range slices.Sorted(maps.Keys(look)) {
		if l.w.ending() {
			return // a run must not wait for this at its end
		}
		if c.stale(path, look[path]) {
			held[path] = look[path]
		}
	}
	l.w.held = held
	if l.retry *= 2; changed {
		l.retry = max(firstRetry, 10*l.cost)
	}
	l.retry = min(l.retry, lastRetry)
	l.retryAt = time.Now().Add(l.retry)
	l.w.set(func(s *Status) { s.Held = shown(held) })
}

// maxHeld is how many held paths are told, maxShown how much of each.
const (
	maxHeld  = 20
	maxShown = 200
)

// shown are the paths that are told.
func shown(held map[string]bool) []string {
	list := slices.Sorted(maps.Keys(held))
	list = list[:min(len(list), maxHeld)]
	for i, path := range list {
		if len(path) > maxShown {
			list[i] = path[:maxShown] + "…"
		}
	}
	return list
}
