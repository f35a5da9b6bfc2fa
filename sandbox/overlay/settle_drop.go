package overlay

import (
	"slices"

	"golang.org/x/sys/unix"

	"github.com/sbx-build/sbx/sandbox/state"
)

// What settling removes from a layer: what is in it and need not be.

// unlink drops the files of which all links equal the host's.
func (s *settling) unlink() error {
	for _, links := range s.linked {
		if uint32(len(links)) != links[0].Upper.Nlink {
			continue // one is in a directory that hides the host's, or differs
		}
		for _, c := range links {
			gone, err := s.drop(c)
			if err != nil {
				return err
			}
			if !gone {
				break
			}
			s.list = append(s.list, s.notes.forget(c.Path))
		}
	}
	return nil
}

// drop removes a file that equals the host's, or a whiteout over nothing. One
// with attributes of its own is more than its content.
func (s *settling) drop(c Change) (bool, error) {
	dir, name, err := s.dirs.at(c.Path)
	if err != nil {
		return false, err
	}
	if c.Upper.IsRegular() {
		if !s.o.sameXattrs(dir, name, c.Path) {
			return false, nil
		}
	}
	if err := unix.Unlinkat(dir, name, 0); err != nil && err != unix.ENOENT {
		return false, err
	}
	return true, nil
}

// leave goes out of the directories that path is not in.
func (s *settling) leave(path string) {
	for len(s.open) > 0 {
		// "a-b" comes after "a" and before what is in it.
		d := s.open[len(s.open)-1]
		if path != "" && (under(path, d.path) || path < d.path+"/") {
			return
		}
		s.open = s.open[:len(s.open)-1]
		if err := s.close(d); err != nil {
			s.fail(&Error{Do: "settle", Path: s.o.Shown(d.path), Err: err})
		}
	}
}

// close removes a directory if it is needless.
func (s *settling) close(d needless) error {
	if s.dirs.path == d.path || under(s.dirs.path, d.path) {
		s.dirs.close()
	}
	dir, name, err := s.dirs.at(d.path)
	if err != nil {
		return err
	}
	if d.change.Opaque {
		if d.agrees {
			s.forgetBelow(d.path)
			return state.RemoveAt(dir, name)
		}
		return s.note(d.change)
	}
	if attrs, err := dirXattrs(dir, name); err == nil && len(attrs) == 0 {
		switch err := unix.Unlinkat(dir, name, unix.AT_REMOVEDIR); err {
		case nil, unix.ENOENT:
			return nil
		case unix.ENOTEMPTY, unix.EEXIST:
		default:
			return err
		}
	}
	return s.note(d.change)
}

// forgetBelow takes back what this walk has noted in a directory.
func (s *settling) forgetBelow(path string) {
	s.list = slices.DeleteFunc(s.list, func(n state.Note) bool { return under(n.Path, path) })
	for p := range s.notes.Journal.Paths(s.notes.Pair) {
		if under(p, path) {
			s.stale[p] = true
		}
	}
}

func dirXattrs(dir int, name string) ([]xattr, error) {
	fd, err := openBeneath(dir, name, unix.O_RDONLY|unix.O_DIRECTORY)
	if err != nil {
		return nil, err
	}
	defer unix.Close(fd)
	return listXattrs(fd)
}
