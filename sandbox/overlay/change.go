package overlay

import (
	"golang.org/x/sys/unix"
)

// Kind is what a layer does to a path.
type Kind byte

const (
	// Same is no change: the layer's version equals the host's. Changes gives
	// it only if asked to.
	Same Kind = iota
	Added
	Modified
	Deleted
	TypeChanged
	// ModeChanged is a change of the permission bits and of nothing else.
	ModeChanged
)

var kinds = [...]struct {
	letter byte
	word   string
}{{' ', "same"}, {'A', "added"}, {'M', "modified"}, {'D', "deleted"}, {'T', "type changed"}, {'P', "mode changed"}}

// Letter is the one that `sbx status` prints.
func (k Kind) Letter() byte   { return kinds[k].letter }
func (k Kind) String() string { return kinds[k].word }

// Stat is what is compared of a file, and some more. The zero value is no file.
type Stat struct {
	// Mode is st_mode: type and permission bits.
	Mode  uint32
	Nlink uint32
	Size  int64
	// Alloc are the bytes that the file occupies.
	Alloc        int64
	Rdev         uint64
	Dev, Ino     uint64
	Mtime, Ctime int64 // nanoseconds
}

// Exists says whether there is a file.
func (s Stat) Exists() bool { return s.Mode != 0 }

// Type is st_mode's S_IFMT part.
func (s Stat) Type() uint32 { return s.Mode & unix.S_IFMT }

// Perm are the permission bits, set-user-id and the like included.
func (s Stat) Perm() uint32 { return s.Mode & 0o7777 }

func (s Stat) IsDir() bool     { return s.Type() == unix.S_IFDIR }
func (s Stat) IsRegular() bool { return s.Type() == unix.S_IFREG }
func (s Stat) IsSymlink() bool { return s.Type() == unix.S_IFLNK }

// IsWhiteout says whether an overlay takes the file for a deletion.
func (s Stat) IsWhiteout() bool { return s.Type() == unix.S_IFCHR && s.Rdev == 0 }

// TypeName is the type in a word.
func (s Stat) TypeName() string {
	switch s.Type() {
	case unix.S_IFREG:
		return "file"
	case unix.S_IFDIR:
		return "directory"
	case unix.S_IFLNK:
		return "symlink"
	case unix.S_IFIFO:
		return "fifo"
	case unix.S_IFSOCK:
		return "socket"
	case unix.S_IFCHR:
		return "character device"
	case unix.S_IFBLK:
		return "block device"
	}
	return "nothing"
}

func (s Stat) same(t Stat) bool { return s.Dev == t.Dev && s.Ino == t.Ino && s.Type() == t.Type() }

func statOf(st *unix.Stat_t) Stat {
	return Stat{
		Mode: st.Mode, Nlink: uint32(st.Nlink), Size: st.Size, Alloc: st.Blocks * 512, Rdev: uint64(st.Rdev),
		Dev: uint64(st.Dev), Ino: st.Ino, Mtime: st.Mtim.Nano(), Ctime: st.Ctim.Nano(),
	}
}

// StatAt looks at a name in a directory, and follows no symlink. A file that is
// not there is the zero Stat.
func StatAt(dir int, name string) (Stat, error) {
	var st unix.Stat_t
	for {
		switch err := unix.Fstatat(dir, name, &st, unix.AT_SYMLINK_NOFOLLOW); err {
		case nil:
			return statOf(&st), nil
		case unix.ENOENT:
			return Stat{}, nil
		case unix.EINTR:
		default:
			return Stat{}, err
		}
	}
}

// StatFd looks at what is open.
func StatFd(fd int) (Stat, error) {
	var st unix.Stat_t
	if err := unix.Fstat(fd, &st); err != nil {
		return Stat{}, err
	}
	return statOf(&st), nil
}

// Change is one path at which layer and host differ.
type Change struct {
	// Path is relative to the pair, without slashes at its ends.
	Path string
	Kind Kind
	// Lower is the host's file, Upper the layer's; zero where there is none.
	// Upper is zero for a deletion too.
	Lower, Upper Stat
	// Whiteout says that a deletion is one: otherwise a directory above is
	// opaque and has no such name.
	Whiteout bool
	// Opaque says that the layer has a directory that hides the host's, Hidden
	// that a directory above does: then the host's version would not show even
	// if the layer's were not there.
	Opaque, Hidden bool
	// HiddenSince is since when, in nanoseconds, for a deletion by such a directory
	// above; else 0.
	HiddenSince int64
	// Of a directory that only the layer has, and whose entries are not given
	// one by one: how many entries it has at all depths, the sum of the sizes
	// of the files, and what all of it occupies.
	Count, Size, Alloc int64
	// Refused is how many of them the guard would refuse, if the walk was asked
	// for that.
	Refused int64
	// Lines counts the lines of a file that differ, if the walk was asked for
	// that.
	Lines Lines
	// Shadowed says that the host's version is not the one that was there when
	// the layer took its own.
	Shadowed bool
}

// IsDir says whether the change is of a directory: of the layer's, or of the
// host's if the layer deletes it.
func (c Change) IsDir() bool {
	if c.Upper.Exists() {
		return c.Upper.IsDir()
	}
	return c.Lower.IsDir()
}
