package overlay

import (
	"archive/tar"
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"strings"

	"github.com/klauspost/compress/zstd"
	"golang.org/x/sys/unix"
)

// Limits bound what an archive may unpack to.
type Limits struct {
	// Entries is a number of files, Size of bytes, holes included, Written of
	// bytes on the disk.
	Entries, Size, Written int64
}

// DefaultLimits are for a file system that has so much room.
func DefaultLimits(free int64) Limits {
	return Limits{Entries: 5_000_000, Size: 1 << 40, Written: free}
}

// ImportOptions are limits, and who is told of what is done.
type ImportOptions struct {
	Limits   Limits
	Progress func(files, bytes int64)
}

// Import unpacks the archive of a layer (see Export), or any OCI layer, into the
// fresh directory of a layer: upper, with/KEY, home. Nothing in the archive is
// trusted: no name leads out of the directory or through a symlink, no device
// but a whiteout is made, no set-user-ID bit is set, no overlayfs attribute is
// taken over. zstd and plain tar are read.
func Import(in io.Reader, dir int, opts ImportOptions) error {
	r, closeIt, err := decompress(in)
	if err != nil {
		return err
	}
	defer closeIt()
	im := &importer{dir: dir, opts: opts, parts: map[string]*part{}}
	defer im.close()
	if _, err := im.part("upper", "upper"); err != nil {
		return err
	}
	t := tar.NewReader(r)
	for {
		h, err := t.Next()
		if err == io.EOF {
			break
		}
		if err == nil {
			err = im.entry(t, h)
			if err != nil {
				err = &Error{Do: "import", Path: h.Name, Err: err}
			}
		} else {
			err = fmt.Errorf("cannot read the archive: %w", err)
		}
		if err != nil {
			return err
		}
	}
	// The checksum comes at the end.
	if _, err := io.Copy(io.Discard, io.LimitReader(r, 1<<30)); err != nil {
		return fmt.Errorf("cannot read the archive: %w", err)
	}
	return im.finish()
}

// CompressedError is an archive that is compressed otherwise.
type CompressedError struct{}

func (*CompressedError) Error() string {
	return "cannot read the archive: it is compressed with gzip; zstd and plain tar are read"
}

// Hint is a command that reads it.
func (*CompressedError) Hint() string { return "gunzip <FILE | sbx import" }

// decompress finds out how the archive is compressed.
func decompress(in io.Reader) (io.Reader, func(), error) {
	b := bufio.NewReaderSize(in, 64<<10)
	magic, err := b.Peek(4)
	if len(magic) == 0 {
		if err == io.EOF {
			err = errors.New("it is empty")
		}
		return nil, nil, fmt.Errorf("cannot read the archive: %w", err)
	}
	switch {
	case bytes.Equal(magic, []byte{0x28, 0xb5, 0x2f, 0xfd}):
		// The window bounds the memory; 128 MiB is what zstd --long takes.
		z, err := zstd.NewReader(b, zstd.WithDecoderMaxWindow(128<<20))
		if err != nil {
			return nil, nil, fmt.Errorf("cannot read the archive: %w", err)
		}
		return z, z.Close, nil
	case bytes.HasPrefix(magic, []byte{0x1f, 0x8b}):
		// Package gzip would cost every start of sbx a tenth of a millisecond.
		return nil, nil, &CompressedError{}
	}
	return b, func() {}, nil
}

type importer struct {
	dir   int
	opts  ImportOptions
	parts map[string]*part
	buf   []byte

	files, size, written int64
}

// part is a directory that is being filled.
type part struct {
	root int
	dirs *parents
	// later are the modes and times of directories, which come last.
	later map[string]later
	// marks are whether overlayfs would take whiteouts there for what they are.
	marks bool
}

type later struct {
	mode  uint32
	mtime int64
}

func (im *importer) close() {
	for _, p := range im.parts {
		p.dirs.close()
		unix.Close(p.root)
	}
}

// part opens a directory of the layer, made if need be.
func (im *importer) part(key, path string) (*part, error) {
	if p := im.parts[key]; p != nil {
		return p, nil
	}
	at := ""
	for name := range strings.SplitSeq(path, "/") {
		at = join(at, name)
		if err := unix.Mkdirat(im.dir, at, 0o755); err != nil && err != unix.EEXIST {
			return nil, err
		}
	}
	fd, err := openBeneath(im.dir, path, unix.O_RDONLY|unix.O_DIRECTORY)
	if err != nil {
		return nil, err
	}
	p := &part{root: fd, dirs: newParents(fd), later: map[string]later{}, marks: key != "home"}
	im.parts[key] = p
	return p, nil
}

var (
	errAbsolute = errors.New("it is absolute")
	errUpwards  = errors.New("it has .. in it")
	errThrough  = errors.New("it goes through something that is no directory")
)

// deepest is how deep a directory of a layer may be: an archive of one file can
// name more directories than a disk has room for.
const deepest = 1000

// cleanName checks a name, and takes what means nothing out of it.
func cleanName(name string) (string, error) {
	if strings.HasPrefix(name, "/") {
		return "", errAbsolute
	}
	if strings.IndexByte(name, 0) >= 0 {
		return "", errors.New("it has a NUL byte")
	}
	var out []string
	for n := range strings.SplitSeq(name, "/") {
		switch {
		case n == "..":
			return "", errUpwards
		case len(n) > 255:
			return "", unix.ENAMETOOLONG
		case n != "" && n != ".":
			out = append(out, n)
		}
	}
	if len(out) > deepest {
		return "", fmt.Errorf("it is more than %d directories deep", deepest)
	}
	return strings.Join(out, "/"), nil
}

// locate says to which part of the layer a name belongs, and where in it.
func (im *importer) locate(name string) (*part, string, error) {
	rest, ours := strings.CutPrefix(name+"/", ArchiveDir+"/")
	if !ours {
		p, err := im.part("upper", "upper")
		return p, name, err
	}
	rest = strings.TrimSuffix(rest, "/")
	top, rest, _ := strings.Cut(rest, "/")
	switch top {
	case "": // .sbx-layer itself
		return nil, "", nil
	case "home":
		p, err := im.part("home", "home")
		return p, rest, err
	case "with":
		key, rest, _ := strings.Cut(rest, "/")
		sub, rest, _ := strings.Cut(rest, "/")
		switch {
		case key == "":
			return nil, "", nil
		case !isKey(key):
			return nil, "", errors.New("it is not the key of a joined directory")
		case sub == "":
			return nil, "", nil
		case sub == "upper":
			p, err := im.part("with/"+key, "with/"+key+"/upper")
			return p, rest, err
		}
	}
	return nil, "", errors.New("sbx knows nothing of that name")
}

func isKey(s string) bool { return len(s) == 16 && strings.Trim(s, "0123456789abcdef") == "" }

// isSource says whether a name is that of the note which directory of the host a
// joined one is.
func isSource(name string) bool {
	key, ok := strings.CutPrefix(name, ArchiveDir+"/with/")
	key, is := strings.CutSuffix(key, "/source")
	return ok && is && isKey(key)
}
