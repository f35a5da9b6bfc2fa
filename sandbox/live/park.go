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
	// is is what the upper has.
	is overlay.Stat
	// mirror is what has its place.
	mirror overlay.Mirror
	until  time.Time
}

const (
	// parkFor is longer than a process waits for its turn in the middle of an open(2).
	parkFor = 200 * time.Millisecond
	// maxParked bounds how many there are.
	maxParked = 256
)

// park keeps what was taken out of the way for a while. The journal has what it is, so that
// it is nobody's change, and is removed should sbx be killed.
func (m *mirror) park(e *edit, t *tempDir, tmp string, is overlay.Mirror, was overlay.Mirrors) error {
	path := join(t.path, tmp)
	st := m.upper(path)
	if !st.Exists() || len(m.parked) >= maxParked || m.notes.SetMirrors(path, was...) != nil {
		m.forget(e)
		unix.Unlinkat(t.fd, tmp, 0)
		return m.set(e, is)
	}
	m.holds.dropPath(e.path)
	m.parked = append(m.parked, parked{e.path, t.path, tmp, e.file, st, is, time.Now().Add(parkFor)})
	e.file = -1
	return m.set(e, is)
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
	defer unix.Close(p.file)
	path := join(p.temp, p.name)
	defer m.notes.SetMirrors(path)
	temp, err := overlay.OpenBeneath(m.merged, p.temp, unix.O_PATH|unix.O_DIRECTORY)
	if err != nil {
		return
	}
	defer unix.Close(temp)
	st := m.upper(path)
	if !st.Exists() {
		return
	}
	if st.Ino == p.is.Ino && st.Mode == p.is.Mode && st.Size == p.is.Size && st.Mtime == p.is.Mtime && unwritten(temp, p.name, st) {
		unix.Unlinkat(temp, p.name, 0)
		return
	}
	e := &edit{path: p.path, file: -1}
	e.parent, e.name = split(p.path)
	if e.dir, err = overlay.OpenBeneath(m.merged, e.parent, unix.O_PATH|unix.O_DIRECTORY); err != nil {
		return // it stays where it is: it is a build's
	}
	defer unix.Close(e.dir)
	m.putBack(e, temp, p.name, p.mirror)
}

// unwritten says whether nobody has a file open for writing: there is no such lease then
// (fcntl(2)).
func unwritten(dir int, name string, st overlay.Stat) bool {
	if !st.IsRegular() {
		return true
	}
	fd, err := overlay.OpenBeneath(dir, name, unix.O_RDONLY|unix.O_NONBLOCK)
	if err != nil {
		return false
	}
	defer unix.Close(fd)
	_, err = unix.FcntlInt(uintptr(fd), unix.F_SETLEASE, unix.F_RDLCK)
	return err == nil
}
