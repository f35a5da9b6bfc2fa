package overlay

import (
	"slices"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/sbx-build/sbx/sandbox/state"
)

// Settle brings an upper that no mount has into order: what equals the host's is
// removed, so that it never hides a later edit, and of all the rest the journal
// then has what the host had. The caller holds the layer's lock.
//
// An upper with nothing in it costs three system calls.
func (o *Opened) Settle(n Notes) error {
	_, err := o.SettleFind(n, true)
	return err
}

// Note is the part of Settle that leaves the upper alone: for one that is
// mounted.
func (o *Opened) Note(n Notes) error {
	_, err := o.SettleFind(n, false)
	return err
}

// Found is what there is in a layer when it is settled.
type Found struct {
	// Changes are counted as status does: a directory that only the layer has is one.
	Changes int
	// Shadowed is how many of them the host has changed since, First the first.
	Shadowed int
	First    string
}

// Add adds what another pair has.
func (f *Found) Add(g Found) {
	if f.Shadowed == 0 {
		f.First = g.First
	}
	f.Changes += g.Changes
	f.Shadowed += g.Shadowed
}

// SettleFind is Settle if the layer is at rest, else Note, and says what there is.
func (o *Opened) SettleFind(n Notes, remove bool) (found Found, err error) {
	if o.upper < 0 {
		return found, nil
	}
	began := time.Now().UnixNano()
	s := &settling{o: o, notes: n, remove: remove, dirs: newParents(o.upper), stale: map[string]bool{}, linked: map[uint64][]Change{}}
	defer s.dirs.close()
	for path := range n.Journal.Paths(n.Pair) {
		s.stale[path] = true
		s.noted = append(s.noted, path)
	}
	slices.Sort(s.noted)
	if remove {
		if err := o.removeMirrors(n); err != nil {
			s.fail(err)
		}
	}
	if o.Empty() {
		return found, s.end()
	}
	for c, err := range o.Changes(Options{Base: n.Base, Same: true, Uncounted: true, Known: s.known, Notes: n}) {
		s.leave(c.Path)
		if err != nil {
			s.fail(err)
			s.unsure(c.Path)
			continue
		}
		if c.Kind != Same {
			found.add(o, c)
		}
		if err := s.look(c); err != nil {
			s.fail(&Error{Do: "settle", Path: o.Shown(c.Path), Err: err})
		}
	}
	s.leave("")
	if err := s.unlink(); err != nil {
		s.fail(&Error{Do: "settle", Path: o.Shown(""), Err: err})
	}
	if remove && s.first == nil {
		s.list = append(s.list, n.settled(began))
	}
	return found, s.end()
}

func (f *Found) add(o *Opened, c Change) {
	f.Changes++
	if c.Shadowed {
		if f.Shadowed++; f.Shadowed == 1 {
			f.First = o.Shown(c.Path)
		}
	}
}

// clockTick is more than the time of change of a file can be behind.
const clockTick = int64(100 * time.Millisecond)

// known says whether the last time that the layer was settled has found two files
// to differ, or to be kept, and neither has changed since. The layer's time of
// change tells, which a build cannot set: writing sets it, and what a mapping had
// open has ended when a layer is at rest. A clock that was set back could hide a
// change; then a copy that equals the host's remains, which status tells apart.
func (s *settling) known(path string, up, low Stat) bool {
	was, when := s.notes.Journal.Settled(s.notes.Pair, path)
	return s.remove && up.Nlink == 1 && up.Ctime < when-clockTick && was == low.Fingerprint().String()
}

// Empty says whether the layer has nothing over the host's directory.
func (o *Opened) Empty() bool {
	if o.upper < 0 {
		return true
	}
	fd, err := openBeneath(o.upper, ".", unix.O_RDONLY|unix.O_DIRECTORY)
	if err != nil {
		return false
	}
	defer unix.Close(fd)
	return emptyFd(fd)
}

// EmptyDir says whether a directory is empty, or is not there.
func EmptyDir(path string) bool {
	fd, err := openRoot(path)
	if err != nil || fd < 0 {
		return err == nil
	}
	defer unix.Close(fd)
	return emptyFd(fd)
}

func emptyFd(fd int) bool {
	var buf [1024]byte
	n, err := retry(func() (int, error) { return unix.Getdents(fd, buf[:]) })
	return err == nil && len(parseNames(buf[:max(n, 0)], nil)) == 0
}

// settling is one walk. open are the directories that it is in and that may
// turn out to be needless.
type settling struct {
	o      *Opened
	notes  Notes
	remove bool
	dirs   *parents
	stale  map[string]bool
	noted  []string // the paths that the journal has, in order
	open   []needless
	// linked are the paths that equal the host's, by inode, of files with several links:
	// they go together.
	linked map[uint64][]Change
	list   []state.Note
	first  error
}

// needless is a directory that goes if nothing is left in it, or, if it is
// opaque, if all in it equals the host's.
type needless struct {
	path   string
	change Change
	agrees bool
}

func (s *settling) fail(err error) {
	if s.first == nil {
		s.first = err
	}
}

// unsure keeps what the journal has below a path that could not be read.
func (s *settling) unsure(path string) {
	for p := range s.stale {
		if p == path || path == "" || under(p, path) {
			delete(s.stale, p)
		}
	}
	s.differs(path)
}

// differs says that the directories above a path do not agree with the host's.
func (s *settling) differs(path string) {
	for i, d := range s.open {
		if path == "" || path == d.path || under(path, d.path) {
			s.open[i].agrees = false
		}
	}
}

// look decides what becomes of one path.
func (s *settling) look(c Change) error {
	kept := s.notes.Journal.Kept(s.notes.Pair, c.Path)
	if c.Kind != Same || kept || c.Upper.IsRegular() && c.Upper.Nlink > 1 {
		s.differs(c.Path)
	}
	if c.Kind == Added && c.Upper.IsDir() {
		s.retain(c.Path + "/") // the host has removed it, and what it had in it
	}
	if c.Kind == Deleted && !c.Whiteout {
		// The opaque directory above has its note. It may have one itself, of the time
		// before, or of what was pulled.
		delete(s.stale, c.Path)
		return nil
	}
	if c.Kind == Same && s.remove && !kept {
		switch {
		case c.Upper.IsDir():
			// One below an opaque directory goes with that.
			if !c.Hidden {
				s.open = append(s.open, needless{c.Path, c, true})
				return nil // noted when it is left
			}
		case c.Upper.IsRegular() && c.Upper.Nlink > 1:
			if !c.Hidden {
				s.linked[c.Upper.Ino] = append(s.linked[c.Upper.Ino], c)
			}
		case !c.Hidden:
			if gone, err := s.drop(c); gone || err != nil {
				return err
			}
		}
	}
	return s.note(c)
}

// retain keeps what the journal has of the paths with a prefix: the walk does not give
// them.
func (s *settling) retain(prefix string) {
	from, _ := slices.BinarySearch(s.noted, prefix)
	for _, path := range s.noted[from:] {
		if !strings.HasPrefix(path, prefix) {
			return
		}
		delete(s.stale, path)
	}
}

// note makes sure that the journal has the path.
func (s *settling) note(c Change) error {
	delete(s.stale, c.Path)
	now := c.Lower.Fingerprint()
	was, ok := s.notes.Base(c.Path)
	switch {
	case c.Opaque && ok && was.Type == hides, !c.Opaque && ok && (c.Kind != Same || was == now):
		return nil
	case c.Opaque && ok && (was.Type != 'd' || was.Ino != now.Ino):
		return nil // the host has put another there
	case c.Opaque:
		dir, name, err := s.dirs.at(c.Path)
		if err != nil {
			return err
		}
		if now.Ctime, err = hidingSince(dir, name); err != nil {
			return err
		}
		if now.Type = hides; ok {
			now.Mode = was.Mode
		}
	case !ok && c.Kind != Same && c.Lower.Exists() && !(c.Upper.IsDir() && c.Lower.IsDir()):
		// Did the host's change between the moment when the layer took its
		// own and this one? Then nobody knows what it was.
		dir, name, err := s.dirs.at(c.Path)
		if err != nil {
			return err
		}
		born, err := birth(dir, name)
		if err != nil {
			return err
		}
		if c.Lower.Ctime > born {
			now.Ctime = 0
		}
	}
	s.list = append(s.list, s.notes.seen(c.Path, now))
	if len(s.list) >= 4096 {
		return s.write()
	}
	return nil
}

func (s *settling) write() error {
	err := s.notes.Journal.Write(false, s.list...)
	s.list = s.list[:0]
	return err
}

// end forgets what the layer has no more.
func (s *settling) end() error {
	for path := range s.stale {
		s.list = append(s.list, s.notes.forget(path))
	}
	if err := s.write(); err != nil {
		s.fail(err)
	}
	return s.first
}
