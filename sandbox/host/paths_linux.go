package host

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/sbx-build/sbx/sandbox/policy"
)

// paths looks at every source and at what stands where rules hide or bind below
// shown directories.
func (f *Facts) paths(p policy.Policy, mounts []Mount) error {
	for _, r := range p.Rules {
		if r.Access == policy.Hidden {
			if r.Optional && kindAt(r.Target) == Absent {
				continue
			}
			real := realTarget(r.Target)
			if real != r.Target {
				f.Hides[r.Target] = real
			}
			f.Targets[real] = kindAt(real)
			continue
		}
		path, err := look(r.Source, r.Literal, mounts)
		if err != nil || path.Kind == Absent {
			if r.Optional {
				continue
			}
			missing := &SourceError{Flag: r.Origin.Flag, Path: r.Source, Err: err}
			if r.Device {
				missing.Fix = "ls -l " + filepath.Dir(r.Source)
			}
			return missing
		}
		if r.Access == policy.CopyOnWrite && !r.Optional {
			if path.Kind != Dir {
				return &SourceError{Flag: r.Origin.Flag, Path: r.Source, Err: errors.New("copy-on-write is for directories; --ro shows a file")}
			}
			if err := overlayable(path); err != nil {
				return &SourceError{Flag: r.Origin.Flag, Path: r.Source, Err: err}
			}
		}
		if r.Device && path.Kind != Device && path.Kind != Dir {
			return &SourceError{Flag: r.Origin.Flag, Path: r.Source, Err: errors.New("it is not a device")}
		}
		if path.Kind == Socket && r.Origin.Flag != "" {
			f.Warnings = append(f.Warnings, fmt.Sprintf("%s shows a socket: the build reaches the program behind it, also where the rule is read-only", r.Origin))
		}
		f.Paths[r.Source] = path
	}
	tree, err := look(p.Tree, false, mounts)
	if err != nil {
		return &SourceError{Path: p.Tree, Err: err}
	}
	if err := overlayable(tree); err != nil {
		return &SourceError{Path: p.Tree, Err: err, Fix: "sbx --source DIR -- COMMAND"}
	}
	f.Paths[p.Tree] = tree
	for _, w := range p.With {
		path, err := look(w.Source, false, mounts)
		switch {
		case err != nil || path.Kind == Absent:
			return &SourceError{Flag: w.Flag, Path: w.Source, Err: err}
		case path.Kind != Dir:
			return &SourceError{Flag: w.Flag, Path: w.Source, Err: errors.New("it is not a directory")}
		}
		if err := overlayable(path); err != nil {
			return &SourceError{Flag: w.Flag, Path: w.Source, Err: err}
		}
		f.Paths[w.Source] = path
	}
	return nil
}

// AbsentBelow answers for the many built-in rules below $HOME, most of which name
// nothing that exists: each directory on the way is read once, instead of a look
// at each path. It says false where it does not know.
func AbsentBelow(home string) func(path string) bool {
	buf := make([]byte, 16<<10)
	read := map[string][]string{}
	names := func(dir string) []string {
		n, known := read[dir]
		if !known {
			n = entries(dir, buf)
			read[dir] = n
		}
		return n
	}
	return func(path string) bool {
		if home == "" || !policy.Below(path, home) {
			return false
		}
		dir := home
		for name := range strings.SplitSeq(path[len(home)+1:], "/") {
			if n := names(dir); n == nil {
				return false // too large to read, or not readable
			} else if !slices.Contains(n, name) {
				return true
			}
			dir += "/" + name
		}
		return false
	}
}

// entries are the names in a directory; nil where it cannot be read, or has more
// than fit buf: then looking at each path is quicker.
func entries(dir string, buf []byte) []string {
	fd, err := unix.Open(dir, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil
	}
	defer unix.Close(fd)
	n, err := unix.ReadDirent(fd, buf)
	if err != nil {
		return nil
	}
	list := make([]string, 0, 32)
	_, _, list = unix.ParseDirent(buf[:n], -1, list)
	if n, err = unix.ReadDirent(fd, buf); err != nil || n > 0 {
		return nil
	}
	return list
}

// overlayable says whether a directory can be a lower layer: overlayfs gives
// EINVAL for one that has mounts below it, as a user namespace must not uncover
// what they cover (fs/namespace.c:has_locked_children).
func overlayable(p Path) error {
	if len(p.Below) == 0 {
		return nil
	}
	names := make([]string, 0, 3)
	for i, b := range p.Below {
		if i == 3 {
			names = append(names, "…")
			break
		}
		names = append(names, strconv.Quote(b))
	}
	return fmt.Errorf("something is mounted below it, which an overlay cannot hold: %s", strings.Join(names, " "))
}

// look examines one source path.
func look(path string, literal bool, mounts []Mount) (Path, error) {
	var st unix.Stat_t
	err := unix.Lstat(path, &st)
	if err != nil {
		if err == unix.ENOENT || err == unix.ENOTDIR {
			return Path{}, nil
		}
		return Path{}, err
	}
	p := Path{Kind: kindOf(st.Mode), Real: path}
	if p.Kind == Symlink && literal {
		p.Link, err = os.Readlink(path)
		return p, err
	}
	p.Real, err = filepath.EvalSymlinks(path)
	if err != nil {
		if errors.Is(err, fs.ErrNotExist) {
			return Path{}, nil
		}
		return Path{}, err
	}
	if p.Real != path {
		if err := unix.Lstat(p.Real, &st); err != nil {
			return Path{}, err
		}
		p.Kind = kindOf(st.Mode)
	}
	if p.Kind == Dir {
		for _, m := range MountsBelow(mounts, p.Real) {
			p.Below = append(p.Below, m.Point)
		}
	}
	return p, nil
}

// realTarget resolves a path whose last names may not exist.
func realTarget(path string) string {
	for d, rest := path, ""; ; d, rest = filepath.Dir(d), filepath.Join(filepath.Base(d), rest) {
		if real, err := filepath.EvalSymlinks(d); err == nil {
			return filepath.Join(real, rest)
		}
		if d == "/" {
			return path
		}
	}
}

func kindAt(path string) Kind {
	var st unix.Stat_t
	if unix.Lstat(path, &st) != nil {
		return Absent
	}
	return kindOf(st.Mode)
}

func kindOf(mode uint32) Kind {
	switch mode & unix.S_IFMT {
	case unix.S_IFDIR:
		return Dir
	case unix.S_IFREG:
		return File
	case unix.S_IFLNK:
		return Symlink
	case unix.S_IFCHR, unix.S_IFBLK:
		return Device
	case unix.S_IFSOCK:
		return Socket
	}
	return Other
}

// SourceError is a path that was asked for and cannot be shown.
type SourceError struct {
	// Flag is what was typed; empty for the source tree.
	Flag string
	Path string
	// Err is nil where the path does not exist.
	Err error
	// Fix is a command, if there is one.
	Fix string
}

func (e *SourceError) Error() string {
	what := "show"
	if e.Flag == "" {
		what = "use the source tree"
	}
	cause := "it does not exist"
	if e.Err != nil {
		cause = e.Err.Error()
	}
	s := fmt.Sprintf("cannot %s %q: %s", what, e.Path, cause)
	if e.Flag != "" {
		s += " (" + e.Flag + ")"
	}
	return s
}

func (e *SourceError) Unwrap() error { return e.Err }

// Hint is a command that avoids the error.
func (e *SourceError) Hint() string {
	switch {
	case e.Fix != "":
		return e.Fix
	case e.Err == nil:
		return "mkdir -p " + e.Path + "   (or leave the rule out)"
	}
	return "sbx why " + e.Path
}
