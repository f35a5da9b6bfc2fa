package overlay

import (
	"bytes"
	"encoding/binary"

	"golang.org/x/sys/unix"
)

// name is an entry of a directory, with the d_type that getdents64(2) gives;
// DT_UNKNOWN on some file systems.
type name struct {
	name string
	typ  byte
	ino  uint64
}

// readNames lists a directory. A build may change it meanwhile: a name may be
// missing or be there twice, which is as good as an earlier or later look.
func readNames(fd int, buf []byte) ([]name, error) {
	if _, err := unix.Seek(fd, 0, unix.SEEK_SET); err != nil {
		return nil, err
	}
	var list []name
	for {
		n, err := retry(func() (int, error) { return unix.Getdents(fd, buf) })
		if err == unix.ENOENT {
			return list, nil // the directory is deleted
		}
		if err != nil {
			return nil, err
		}
		if n <= 0 {
			return list, nil
		}
		list = parseNames(buf[:n], list)
	}
}

// parseNames reads
//
//	struct linux_dirent64 {
//		ino64_t        d_ino;
//		off64_t        d_off;
//		unsigned short d_reclen;
//		unsigned char  d_type;
//		char           d_name[];
//	};
func parseNames(buf []byte, list []name) []name {
	for len(buf) >= 19 {
		size := int(binary.NativeEndian.Uint16(buf[16:]))
		if size < 19 || size > len(buf) {
			return list
		}
		s := buf[19:size]
		if i := bytes.IndexByte(s, 0); i >= 0 {
			s = s[:i]
		}
		if string(s) != "." && string(s) != ".." && len(s) > 0 {
			list = append(list, name{string(s), buf[18], binary.NativeEndian.Uint64(buf)})
		}
		buf = buf[size:]
	}
	return list
}

// Entries calls f for each entry of an open directory, with its type as in
// getdents(2), which may be unknown. It reads into buf.
func Entries(fd int, buf []byte, f func(name string, typ byte)) error {
	list, err := readNames(fd, buf)
	for _, n := range list {
		f(n.name, n.typ)
	}
	return err
}

// Inodes does so with the inode numbers.
func Inodes(fd int, buf []byte, f func(name string, typ byte, ino uint64)) error {
	list, err := readNames(fd, buf)
	for _, n := range list {
		f(n.name, n.typ, n.ino)
	}
	return err
}
