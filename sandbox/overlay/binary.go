package overlay

import (
	"bytes"
	"compress/zlib"
	"crypto/sha1"
	"encoding/binary"
	"encoding/hex"
	"fmt"

	"golang.org/x/sys/unix"
)

// MaxBinary is the size up to which a file is put into a binary patch.
const MaxBinary = 64 << 20

// readBinary reads a file for a binary patch; false if it is too large.
func readBinary(root int, path string, st Stat) ([]byte, bool, error) {
	if !st.Exists() {
		return nil, true, nil
	}
	if st.IsSymlink() {
		target, _, err := readText(root, path, st)
		return []byte(target), true, err
	}
	if st.Size > MaxBinary {
		return nil, false, nil
	}
	fd, err := OpenBeneath(root, path, unix.O_RDONLY)
	if err != nil {
		return nil, false, err
	}
	defer unix.Close(fd)
	if now, err := StatFd(fd); err != nil || !now.same(st) {
		return nil, false, errMoved
	}
	buf := make([]byte, st.Size)
	n, err := preadFull(fd, buf, 0)
	return buf[:n], true, err
}

// binary makes the part of a patch that gitformat-patch calls a binary diff: the
// new content and the old one, and what git would call them.
func (o *Opened) binary(p *Patch, c Change) error {
	old, ok1, err := readBinary(o.lower, c.Path, c.Lower)
	if err != nil {
		return err
	}
	now, ok2, err := readBinary(o.upper, c.Path, c.Upper)
	if err != nil || !ok1 || !ok2 {
		return err
	}
	mode := ""
	if c.Lower.Exists() && c.Upper.Exists() && gitMode(c.Lower) == gitMode(c.Upper) {
		mode = fmt.Sprintf(" %06o", gitMode(c.Upper))
	}
	p.literal = append(p.literal, "index "+blobName(old, c.Lower)+".."+blobName(now, c.Upper)+mode, "GIT binary patch")
	p.literal = literal(p.literal, now)
	p.literal = literal(p.literal, old)
	return nil
}

// blobName is git's name of a file's content.
func blobName(data []byte, st Stat) string {
	if !st.Exists() {
		return hex.EncodeToString(make([]byte, sha1.Size))
	}
	h := sha1.New()
	fmt.Fprintf(h, "blob %d\x00", len(data))
	h.Write(data)
	return hex.EncodeToString(h.Sum(nil))
}

const base85 = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz!#$%&()*+-;<=>?@^_`{|}~"

// literal appends content, compressed, in lines of up to 52 bytes: their number
// as a letter, and five digits to the base 85 for each four bytes.
func literal(list []string, data []byte) []string {
	list = append(list, fmt.Sprintf("literal %d", len(data)))
	var z bytes.Buffer
	w := zlib.NewWriter(&z)
	w.Write(data)
	w.Close()
	for z.Len() > 0 {
		chunk := z.Next(52)
		n := byte(len(chunk))
		line := []byte{'A' + n - 1}
		if n > 26 {
			line[0] = 'a' + n - 27
		}
		for len(chunk) > 0 {
			var word [4]byte
			chunk = chunk[copy(word[:], chunk):]
			v := binary.BigEndian.Uint32(word[:])
			var digits [5]byte
			for i := 4; i >= 0; i-- {
				digits[i] = base85[v%85]
				v /= 85
			}
			line = append(line, digits[:]...)
		}
		list = append(list, string(line))
	}
	return append(list, "")
}
