package live

import (
	"slices"
	"time"

	"golang.org/x/sys/unix"

	"github.com/sbx-build/sbx/sandbox/overlay"
)

// parked is a file that a mirror has taken the place of. A build may be about to write to
// it: one that has looked up the name, and not opened the file yet, is seen by nobody. So it
// is deleted only after a while, if nobody has written to it by then; else it gets its name
// back.
type parked struct {
	path string
	// temp is the directory, name what it is called there.
	temp, name string
	// file holds it, as else a refresh would make it another inode, and who watches it
	// would not learn of its end.
	file int
	// ino is the upper's inode, is what was in it.
	ino uint64
	is  overlay.Mirror
	// mirror is what has its place.
	mirror overlay.Mirror
	until  time.Time
}

const (
	// parkFor is longer than a process waits for its turn in the middle of an open(2).
	parkFor = 200 * time.Millisecond
	// maxParked bounds how many there are.
	maxParked = 256
	// maxSummed bounds the files of which the content is known. Of a larger one the time
	// of modification says whether it was written to.
	maxSummed = 4 << 20
)

// announce has the journal know what is about to be in a temporary, and whose place that
// had: it is nobody's change, and is removed, or gets its name back, should sbx be killed.
func (m *mirror) announce(e *edit, t *tempDir, tmp string, was overlay.Mirrors) error {
	return m.notes.SetParked(join(t.path, tmp), e.path, was...)
}

// unnote says that it is not there any more, discard sees to that.
func (m *mirror) unnote(t *tempDir, tmp string) { m.notes.SetMirrors(join(t.path, tmp)) }

func (m *mirror) discard(t *tempDir, tmp string) {
	unix.Unlinkat(t.fd, tmp, 0)
	m.unnote(t, tmp)
}

// park keeps what was taken out of the way for a while. Where people look, or copy all that
// there is, it is deleted at once.
func (m *mirror) park(e *edit, t *tempDir, tmp string, is overlay.Mirror) error {
	p := parked{path: e.path, temp: t.path, name: tmp, file: e.file, mirror: is, until: time.Now().Add(parkFor)}
	if !t.open || !aside(t.path) || len(m.parked) >= min(maxParked, m.holds.limit()/2) || m.look(&p) != nil {
		m.forget(e)
		m.discard(t, tmp)
		return m.set(e, is)
	}
	m.holds.drop(e.path)
	m.parked = append(m.parked, p)
	e.file = -1
	return m.set(e, is)
}

// aside says whether a directory is one that no tool takes for sources.
func aside(path string) bool {
	_, name := split(path)
	return bulky[name]
}

// look finds out what the upper has, without an event inside.
func (m *mirror) look(p *parked) error {
	dir, err := overlay.OpenBeneath(m.pair.UpperFd(), p.temp, unix.O_RDONLY|unix.O_DIRECTORY)
	if err != nil {
		return err
	}
	defer unix.Close(dir)
	st, err := overlay.StatAt(dir, p.name)
	if err == nil && !st.Exists() {
		err = unix.ENOENT
	}
	if err != nil {
		return err
	}
	p.ino, p.is = st.Ino, overlay.Mirror{Mode: st.Mode, Size: st.Size, Mtime: st.Mtime}
	if st.Size > maxSummed || !st.IsRegular() && !st.IsSymlink() {
		return nil
	}
	p.is, err = overlay.MirrorOf(dir, p.name)
	if !scarce(err) {
		err = nil // it is being written to: then the sums differ
	}
	return err
}

// same says whether nobody has written to a file since. Its mode and times are nothing that
// is lost with it, as its name is another file's, and a build can set them.
func (p *parked) same(now parked) bool {
	if now.ino != p.ino || now.is.Size != p.is.Size || (now.is.Mode^p.is.Mode)&unix.S_IFMT != 0 {
		return false
	}
	if unknown := (overlay.Mirror{}).Sum; now.is.Sum == unknown || p.is.Sum == unknown {
		return now.is.Mtime == p.is.Mtime
	}
	return now.is.Sum == p.is.Sum
}

// parkedUntil is when the next one is to be looked at.
func (m *mirror) parkedUntil() (time.Time, bool) {
	if len(m.parked) == 0 {
		return time.Time{}, false
	}
	return m.parked[0].until, true
}

// unpark ends that for those for which it is to end.
func (m *mirror) unpark(which func(p parked) bool) {
	var end []parked
	m.parked = slices.DeleteFunc(m.parked, func(p parked) bool {
		if !which(p) {
			return false
		}
		end = append(end, p)
		return true
	})
	for _, p := range end {
		m.unparkOne(p)
	}
}

func (m *mirror) unparkOne(p parked) {
	if err := m.settle(p); scarce(err) {
		p.until = time.Now().Add(parkFor)
		m.parked = append(m.parked, p)
		return
	}
	if p.file >= 0 {
		unix.Close(p.file)
	}
	m.notes.SetMirrors(join(p.temp, p.name))
}

// adopt takes up what the one in charge before has parked.
func (m *mirror) adopt(temp string) {
	path, ok := m.notes.Parked(temp)
	if !ok {
		return
	}
	p := parked{path: path, file: -1}
	p.temp, p.name = split(temp)
	if l := m.notes.Mirrors(path); len(l) > 0 {
		p.mirror = l[0]
	}
	if m.look(&p) == nil {
		as := p
		if !slices.ContainsFunc(m.notes.Mirrors(temp), func(w overlay.Mirror) bool { as.is = w; return as.same(p) }) {
			p.is.Size = -1 // a build has written to it
		}
	}
	m.unparkOne(p)
}

// settle deletes a parked file, or gives it its name back.
func (m *mirror) settle(p parked) error {
	temp, err := overlay.OpenBeneath(m.merged, p.temp, unix.O_PATH|unix.O_DIRECTORY)
	if err != nil {
		return err
	}
	defer unix.Close(temp)
	now := p
	if err := m.look(&now); err != nil {
		return err
	}
	if p.same(now) {
		is, err := unwritten(temp, p.name, overlay.Stat{Mode: now.is.Mode})
		if is {
			err = unix.Unlinkat(temp, p.name, 0)
		}
		if is || scarce(err) {
			return err
		}
	}
	e := &edit{path: p.path, file: -1}
	e.parent, e.name = split(p.path)
	if e.dir, err = overlay.OpenBeneath(m.merged, e.parent, unix.O_PATH|unix.O_DIRECTORY); err != nil {
		return err // it stays where it is: it is a build's
	}
	defer unix.Close(e.dir)
	m.putBack(e, temp, p.name, p.mirror)
	return nil
}

// unwritten says whether nobody has a file open for writing: there is no such lease then
// (fcntl(2)).
func unwritten(dir int, name string, st overlay.Stat) (bool, error) {
	if !st.IsRegular() {
		return true, nil
	}
	fd, err := overlay.OpenBeneath(dir, name, unix.O_RDONLY|unix.O_NONBLOCK)
	if err != nil {
		return false, err
	}
	defer unix.Close(fd)
	_, err = unix.FcntlInt(uintptr(fd), unix.F_SETLEASE, unix.F_RDLCK)
	return err == nil, err
}

// scarce says whether an error is for want of something that there may be later.
func scarce(err error) bool {
	return err == unix.EMFILE || err == unix.ENFILE || err == unix.ENOMEM
}
