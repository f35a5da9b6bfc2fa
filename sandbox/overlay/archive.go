package overlay

import (
	"archive/tar"
	"errors"
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/klauspost/compress/zstd"
	"golang.org/x/sys/unix"
)

// The archive of a layer is an OCI layer, a tar file (zstd compressed) with
//
//	PATH            what the layer has in the source tree: files, directories,
//	                symlinks, fifos, hard links; modes without set-user-ID
//	DIR/.wh.NAME    NAME is deleted
//	DIR/.wh..wh..opq  DIR hides the host's
//
// in PAX format, of owner 0, with times to the nanosecond and the user's extended
// attributes (SCHILY.xattr.user.*). Whoever unpacks it over the tree as an OCI
// layer has the merged tree. What else a layer has stands below one name, which
// a plain OCI tool unpacks as a directory:
//
//	.sbx-layer/with/KEY/source   the path of a joined directory, quoted; for
//	                             people, an import does not take it over
//	.sbx-layer/with/KEY/upper/…  what the layer has there, in the same form
//	.sbx-layer/home/…            the private home, if it was asked for
//
// Names that begin with .wh. cannot be said in this format; sockets are left
// out.
const (
	whPrefix = ".wh."
	whOpaque = ".wh..wh..opq"
	// ArchiveDir is that name.
	ArchiveDir = ".sbx-layer"
)

// Part is a directory that goes into an archive.
type Part struct {
	// Dir is its path, Prefix where it comes in the archive: "" or "a/b/".
	Dir, Prefix string
	// Source is the host's directory of a joined one, which is noted beside it.
	Source string
	// Home says that it is no upper: names in it mean what they say.
	Home bool
}

// ExportOptions are told of what is done.
type ExportOptions struct {
	// Skip is told what the archive does not have; lost says that it is something that
	// the layer's next user may miss.
	Skip     func(path, why string, lost bool)
	Progress func(files, bytes int64)
}

// Export writes the archive of a layer, which no run changes meanwhile.
func Export(out io.Writer, parts []Part, opts ExportOptions) error {
	z, err := zstd.NewWriter(out)
	if err != nil {
		return err
	}
	e := &exporter{tar: tar.NewWriter(z), opts: opts}
	for _, p := range parts {
		if err := e.part(p); err != nil {
			z.Close()
			return err
		}
	}
	return errors.Join(e.tar.Close(), z.Close())
}

type exporter struct {
	tar          *tar.Writer
	opts         ExportOptions
	files, bytes int64
}

// inode is a file with several names.
type inode struct{ dev, ino uint64 }

func (e *exporter) part(p Part) error {
	if p.Source != "" {
		if err := e.source(p); err != nil {
			return err
		}
	}
	o, err := Pair{Upper: p.Dir}.Open()
	if err != nil {
		return err
	}
	defer o.Close()
	dirs := newParents(o.upper)
	defer dirs.close()
	links := map[inode]string{}
	for c, err := range o.Changes(Options{All: true, Same: true}) {
		if err == nil {
			err = e.entry(p, c, dirs, links)
		}
		if err != nil {
			var own *Error
			if !errors.As(err, &own) {
				err = &Error{Do: "export", Path: p.Prefix + c.Path, Err: err}
			}
			return err
		}
	}
	return nil
}

// source writes which directory a joined one is.
func (e *exporter) source(p Part) error {
	text := fmt.Sprintf("%q\n", p.Source)
	h := &tar.Header{Typeflag: tar.TypeReg, Name: strings.TrimSuffix(p.Prefix, "upper/") + "source", Mode: 0o644, Size: int64(len(text)), Format: tar.FormatPAX}
	if err := e.tar.WriteHeader(h); err != nil {
		return err
	}
	_, err := io.WriteString(e.tar, text)
	return err
}

// marked says whether a name of a path means something else in the format.
func marked(path string) bool {
	return strings.HasPrefix(path, whPrefix) || strings.Contains(path, "/"+whPrefix)
}

func (e *exporter) skip(path, why string, lost bool) error {
	if e.opts.Skip != nil {
		e.opts.Skip(path, why, lost)
	}
	return nil
}

// entry writes one file of the layer.
func (e *exporter) entry(p Part, c Change, dirs *parents, links map[inode]string) error {
	dir, name, err := dirs.at(c.Path)
	if err != nil {
		return err
	}
	path := p.Prefix + c.Path
	switch {
	case p.Home:
	case marked(c.Path):
		return e.skip(path, "the format has no way to say a name that begins with .wh.", true)
	case p.Prefix == "" && (path == ArchiveDir || under(path, ArchiveDir)):
		return e.skip(path, "the format uses that name itself", true)
	case c.Whiteout:
		parent, _ := split(path)
		return e.header(&tar.Header{Typeflag: tar.TypeReg, Name: join(parent, whPrefix+name), Mode: 0o644, Format: tar.FormatPAX})
	}
	h := &tar.Header{
		Name: path, Mode: int64(c.Upper.Perm() & 0o777), ModTime: time.Unix(0, c.Upper.Mtime), Format: tar.FormatPAX,
	}
	switch c.Upper.Type() {
	case unix.S_IFDIR:
		return e.directory(h, dir, name)
	case unix.S_IFLNK:
		h.Typeflag = tar.TypeSymlink
		if h.Linkname, err = readLink(dir, name); err != nil {
			return err
		}
		return e.header(h)
	case unix.S_IFIFO:
		h.Typeflag = tar.TypeFifo
		return e.header(h)
	case unix.S_IFREG:
	default:
		return e.skip(path, "it is a "+c.Upper.TypeName(), false)
	}
	if c.Upper.Nlink > 1 {
		id := inode{c.Upper.Dev, c.Upper.Ino}
		if first, ok := links[id]; ok {
			h.Typeflag, h.Linkname = tar.TypeLink, first
			return e.header(h)
		}
		links[id] = path
	}
	return e.file(h, dir, name, c)
}

func (e *exporter) header(h *tar.Header) error {
	e.files++
	if e.opts.Progress != nil {
		e.opts.Progress(e.files, e.bytes)
	}
	return e.tar.WriteHeader(h)
}

func (e *exporter) directory(h *tar.Header, dir int, name string) error {
	fd, err := openBeneath(dir, name, unix.O_RDONLY|unix.O_DIRECTORY)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	if err := addXattrs(h, fd); err != nil {
		return err
	}
	hides, err := isOpaque(fd)
	if err != nil {
		return err
	}
	path := h.Name
	h.Typeflag, h.Name = tar.TypeDir, path+"/"
	if err := e.header(h); err != nil || !hides {
		return err
	}
	return e.header(&tar.Header{Typeflag: tar.TypeReg, Name: path + "/" + whOpaque, Mode: 0o644, Format: tar.FormatPAX})
}

func addXattrs(h *tar.Header, fd int) error {
	list, err := listXattrs(fd)
	if len(list) > 0 {
		h.PAXRecords = map[string]string{}
	}
	for _, x := range list {
		h.PAXRecords["SCHILY.xattr."+x.name] = x.value
	}
	return err
}

func (e *exporter) file(h *tar.Header, dir int, name string, c Change) error {
	fd, err := openRegular(dir, name, c.Upper)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	if err := addXattrs(h, fd); err != nil {
		return err
	}
	h.Typeflag, h.Size = tar.TypeReg, c.Upper.Size
	if err := e.header(h); err != nil {
		return err
	}
	n, err := io.Copy(e.tar, &progressReader{io.LimitReader(fdReader(fd), h.Size), e})
	if err == nil && n < h.Size {
		err = errMoved
	}
	return err
}

// progressReader counts what is read.
type progressReader struct {
	io.Reader
	e *exporter
}

func (r *progressReader) Read(buf []byte) (int, error) {
	n, err := r.Reader.Read(buf)
	r.e.bytes += int64(n)
	if r.e.opts.Progress != nil {
		r.e.opts.Progress(r.e.files, r.e.bytes)
	}
	return n, err
}

// fdReader reads a descriptor that stays the caller's.
type fdReader int

func (r fdReader) Read(buf []byte) (int, error) {
	n, err := retry(func() (int, error) { return unix.Read(int(r), buf) })
	if n <= 0 && err == nil {
		return 0, io.EOF
	}
	return max(n, 0), err
}
