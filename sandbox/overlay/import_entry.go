package overlay

import (
	"archive/tar"
	"bytes"
	"errors"
	"fmt"
	"io"
	"math"
	"slices"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/sbx-build/sbx/sandbox/state"
)

func (im *importer) entry(t *tar.Reader, h *tar.Header) error {
	if h.Typeflag == tar.TypeXGlobalHeader {
		return nil
	}
	if err := im.count(); err != nil {
		return err
	}
	if im.opts.Progress != nil {
		im.opts.Progress(im.files, im.size)
	}
	name, err := cleanName(h.Name)
	if err != nil {
		return err
	}
	if isSource(name) {
		// Whoever made the archive must not choose a directory of the host to
		// which a pull writes: a run with --with does.
		return nil
	}
	p, rel, err := im.locate(name)
	if err != nil || p == nil || rel == "" {
		return err // the root, whose mode is sbx's own business
	}
	parent, last := split(rel)
	if p.marks && marked(parent) {
		return errors.New("it is in a directory of which the name begins with .wh., which marks what is deleted")
	}
	dir, err := im.parent(p, parent)
	if err != nil {
		return err
	}
	if p.marks && strings.HasPrefix(last, whPrefix) {
		return p.whiteoutEntry(dir, parent, last)
	}
	return im.make(t, h, p, dir, rel, last)
}

// modTime is the time of modification in nanoseconds, or the nearest that there is.
func modTime(h *tar.Header) int64 {
	const most = math.MaxInt64 / int64(time.Second)
	switch s := h.ModTime.Unix(); {
	case s >= most:
		return most * int64(time.Second)
	case s <= -most:
		return -most * int64(time.Second)
	}
	return h.ModTime.UnixNano()
}

// count counts a file that is made.
func (im *importer) count() error {
	im.files++
	if im.files > im.opts.Limits.Entries {
		return fmt.Errorf("the archive has more than %d files", im.opts.Limits.Entries)
	}
	return nil
}

// parent opens a directory of the part; one that no entry has made is made.
func (im *importer) parent(p *part, path string) (int, error) {
	if p.dirs.fd >= 0 && p.dirs.path == path {
		return p.dirs.fd, nil
	}
	dir, _, err := p.dirs.at(join(path, "x"))
	if err == unix.ENOENT {
		up, name := split(path)
		above, e := im.parent(p, up)
		if e == nil {
			e = im.count()
		}
		if e != nil {
			return -1, e
		}
		if e := p.mkdir(above, name); e != nil {
			return -1, e
		}
		dir, _, err = p.dirs.at(join(path, "x"))
	}
	if err == unix.ELOOP || err == unix.ENOTDIR {
		err = errThrough
	}
	return dir, err
}

// mkdir makes a directory. A whiteout in its place means that it hides the
// host's.
func (p *part) mkdir(dir int, name string) error {
	st, err := StatAt(dir, name)
	if err != nil || st.IsDir() {
		return err
	}
	if st.Exists() {
		if err := unix.Unlinkat(dir, name, 0); err != nil {
			return err
		}
	}
	if err := unix.Mkdirat(dir, name, 0o700); err != nil {
		return err
	}
	if err := unix.Fchmodat(dir, name, 0o755, 0); err != nil || !st.IsWhiteout() {
		return err
	}
	return setOpaque(dir, name)
}

func setOpaque(dir int, name string) error {
	fd, err := openBeneath(dir, name, unix.O_RDONLY|unix.O_DIRECTORY)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	return unix.Fsetxattr(fd, "user.overlay.opaque", []byte("y"), 0)
}

// whiteoutEntry does what a name with .wh. says.
func (p *part) whiteoutEntry(dir int, parent, name string) error {
	if name == whOpaque {
		if parent == "" {
			return errors.New("the root of the tree cannot hide the host's")
		}
		return unix.Fsetxattr(dir, "user.overlay.opaque", []byte("y"), 0)
	}
	name = name[len(whPrefix):]
	switch {
	case strings.HasPrefix(name, whPrefix):
		return nil // other marks of AUFS
	case name == "" || name == "." || name == "..":
		return errors.New("it deletes nothing that there can be")
	}
	st, err := StatAt(dir, name)
	switch {
	case err != nil:
		return err
	case st.IsDir():
		return setOpaque(dir, name)
	case st.Exists():
		return nil // the layer has one of its own
	}
	return unix.Mknodat(dir, name, unix.S_IFCHR, 0)
}

// make makes one file of the layer.
func (im *importer) make(t *tar.Reader, h *tar.Header, p *part, dir int, rel, name string) error {
	mode := uint32(h.Mode) & 0o777
	xattrs := headerXattrs(h)
	if h.Typeflag == tar.TypeDir {
		p.later[rel] = later{mode, modTime(h)}
		if err := p.mkdir(dir, name); err != nil || len(xattrs) == 0 {
			return err
		}
		fd, err := openBeneath(dir, name, unix.O_RDONLY|unix.O_DIRECTORY)
		if err != nil {
			return err
		}
		defer unix.Close(fd)
		return setXattrs(fd, xattrs)
	}
	if h.Typeflag == tar.TypeChar && h.Devmajor == 0 && h.Devminor == 0 && p.marks {
		return p.whiteoutEntry(dir, "x", whPrefix+name)
	}
	if h.Typeflag == tar.TypeLink {
		return im.link(p, dir, name, h.Linkname)
	}
	switch h.Typeflag {
	case tar.TypeReg, tar.TypeSymlink, tar.TypeFifo:
	case tar.TypeChar, tar.TypeBlock:
		return errors.New("it is a device")
	default:
		return fmt.Errorf("it is of a type that a layer has not, %q", h.Typeflag)
	}
	// Of two with one name the later counts.
	delete(p.later, rel)
	if err := state.RemoveAt(dir, name); err != nil {
		return err
	}
	ts := timespecs(modTime(h))
	switch h.Typeflag {
	case tar.TypeSymlink:
		if h.Linkname == "" {
			return errors.New("it leads nowhere")
		}
		if err := unix.Symlinkat(h.Linkname, dir, name); err != nil {
			return err
		}
	case tar.TypeFifo:
		if err := unix.Mkfifoat(dir, name, mode); err != nil {
			return err
		}
	default:
		return im.file(t, h, dir, name, mode, xattrs)
	}
	return unix.UtimesNanoAt(dir, name, ts[:], unix.AT_SYMLINK_NOFOLLOW)
}

func headerXattrs(h *tar.Header) (list []xattr) {
	for key, value := range h.PAXRecords {
		name, ok := strings.CutPrefix(key, "SCHILY.xattr.")
		if ok && strings.HasPrefix(name, "user.") && !strings.HasPrefix(name, "user.overlay.") {
			list = append(list, xattr{name, value})
		}
	}
	return list
}

// link makes a hard link to a file that the archive has already made.
func (im *importer) link(p *part, dir int, name, target string) error {
	clean, err := cleanName(target)
	if err != nil {
		return fmt.Errorf("it is a link to %q: %w", target, err)
	}
	q, rel, err := im.locate(clean)
	if err != nil {
		return err
	}
	if q != p || rel == "" {
		return errors.New("it is a link to something else than a file of its tree")
	}
	parent, last := split(rel)
	from, err := OpenBeneath(p.root, parent, unix.O_PATH|unix.O_DIRECTORY)
	if err != nil {
		return fmt.Errorf("it is a link to %q: %w", target, err)
	}
	defer unix.Close(from)
	st, err := StatAt(from, last)
	if err != nil {
		return err
	}
	if !st.IsRegular() {
		return fmt.Errorf("it is a link to %q, which is no file", target)
	}
	if now, err := StatAt(dir, name); err != nil || now.same(st) {
		return err
	}
	if err := state.RemoveAt(dir, name); err != nil {
		return err
	}
	return unix.Linkat(from, last, dir, name, 0)
}

func (im *importer) file(t *tar.Reader, h *tar.Header, dir int, name string, mode uint32, xattrs []xattr) error {
	if h.Size > im.opts.Limits.Size-im.size {
		return fmt.Errorf("the archive has more than %d bytes", im.opts.Limits.Size)
	}
	fd, err := unix.Openat(dir, name, unix.O_WRONLY|unix.O_CREAT|unix.O_EXCL|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0o600)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	if err := im.fill(t, fd, h.Size); err != nil {
		return err
	}
	if err := setXattrs(fd, xattrs); err != nil {
		return err
	}
	if err := unix.Fchmod(fd, mode); err != nil {
		return err
	}
	return setTimes(fd, modTime(h))
}

// fill writes a file, and leaves long runs of zeros out.
func (im *importer) fill(t io.Reader, fd int, size int64) error {
	if im.buf == nil {
		im.buf = make([]byte, 64<<10)
	}
	for off := int64(0); off < size; {
		n, err := io.ReadFull(t, im.buf[:min(size-off, int64(len(im.buf)))])
		if n > 0 && !allZero(im.buf[:n]) {
			if im.written += int64(n); im.written > im.opts.Limits.Written {
				return fmt.Errorf("the archive has more than the %d bytes that the disk has room for", im.opts.Limits.Written)
			}
			if err := pwriteAll(fd, im.buf[:n], off); err != nil {
				return err
			}
		}
		off += int64(n)
		im.size += int64(n)
		if im.opts.Progress != nil {
			im.opts.Progress(im.files, im.size)
		}
		if err != nil {
			return err
		}
	}
	return unix.Ftruncate(fd, size)
}

func allZero(b []byte) bool {
	for len(b) >= len(zeros) {
		if !bytes.Equal(b[:len(zeros)], zeros[:]) {
			return false
		}
		b = b[len(zeros):]
	}
	return bytes.Equal(b, zeros[:len(b)])
}

var zeros [4096]byte

func pwriteAll(fd int, buf []byte, off int64) error {
	for len(buf) > 0 {
		n, err := unix.Pwrite(fd, buf, off)
		if err != nil && err != unix.EINTR {
			return err
		}
		buf, off = buf[max(n, 0):], off+int64(max(n, 0))
	}
	return nil
}

func setXattrs(fd int, list []xattr) error {
	for _, x := range list {
		if err := unix.Fsetxattr(fd, x.name, []byte(x.value), 0); err != nil {
			return fmt.Errorf("its attribute %q: %w", x.name, err)
		}
	}
	return nil
}

// finish gives the directories their modes and times, from below.
func (im *importer) finish() error {
	for _, p := range im.parts {
		paths := make([]string, 0, len(p.later))
		for path := range p.later {
			paths = append(paths, path)
		}
		slices.Sort(paths)
		for _, path := range slices.Backward(paths) {
			if err := p.finish(path, p.later[path]); err != nil {
				return &Error{Do: "import", Path: path, Err: err}
			}
		}
	}
	return nil
}

func (p *part) finish(path string, l later) error {
	fd, err := OpenBeneath(p.root, path, unix.O_RDONLY|unix.O_DIRECTORY)
	if err == unix.ENOENT || err == unix.ENOTDIR || err == unix.ELOOP {
		return nil // a later entry replaced it
	}
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	if err := setTimes(fd, l.mtime); err != nil {
		return err
	}
	return unix.Fchmod(fd, l.mode)
}
