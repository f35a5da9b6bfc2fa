package state

import (
	"bufio"
	"bytes"
	"encoding/binary"
	"encoding/hex"
	"hash/crc32"
	"io"
	"slices"
	"strconv"
	"strings"
)

// append adds the note's line.
func (n Note) append(buf []byte) []byte {
	start := len(buf)
	buf = append(buf, "00000000 "...)
	buf = append(buf, ops[n.Op]...)
	buf = append(buf, ' ')
	buf = append(buf, n.Pair...)
	buf = append(buf, ' ')
	buf = strconv.AppendQuote(buf, n.Path)
	buf = append(buf, ' ')
	buf = append(buf, n.Value...)
	var sum [4]byte
	binary.BigEndian.PutUint32(sum[:], crc32.ChecksumIEEE(buf[start+9:]))
	hex.Encode(buf[start:], sum[:])
	return append(buf, '\n')
}

// lineSize is about what a line takes: it need not be exact.
const lineSize = 96

// parseJournal reads a journal of about size bytes. It goes by lines: the memory
// is that of the notes.
func parseJournal(from io.Reader, size int64) (notes, error) {
	all := newNotes(int(min(size/lineSize, 1<<20)))
	r := bufio.NewReaderSize(from, 64<<10)
	for {
		line, err := r.ReadSlice('\n')
		if err == bufio.ErrBufferFull {
			var rest []byte
			line = bytes.Clone(line)
			rest, err = r.ReadBytes('\n')
			line = append(line, rest...)
		}
		if err != nil && err != io.EOF {
			return all, err
		}
		all.size += int64(len(line))
		whole := err == nil
		if len(line) > 0 {
			if note, ok := parseNote(bytes.TrimSuffix(line, []byte("\n"))); ok && whole {
				all.add(note)
			} else {
				all.lines++
			}
		}
		if !whole {
			return all, nil
		}
	}
}

// parseNote reads a line that append has written, and no other.
func parseNote(line []byte) (n Note, ok bool) {
	var sum [4]byte
	if len(line) < 9 || line[8] != ' ' {
		return n, false
	}
	if _, err := hex.Decode(sum[:], line[:8]); err != nil || crc32.ChecksumIEEE(line[9:]) != binary.BigEndian.Uint32(sum[:]) {
		return n, false
	}
	op, rest, _ := strings.Cut(string(line[9:]), " ")
	i := slices.Index(ops[:], op)
	if i < 0 {
		return n, false
	}
	n.Op = Op(i)
	n.Pair, rest, _ = strings.Cut(rest, " ")
	if n.Pair == "" {
		return n, false
	}
	if n.Path, rest, ok = unquote(rest); !ok {
		return n, false
	}
	n.Value, ok = strings.CutPrefix(rest, " ")
	return n, ok
}

// unquote takes a quoted string off. Most paths are as they are between the
// quotes.
func unquote(s string) (text, rest string, ok bool) {
	if s == "" || s[0] != '"' {
		return "", s, false
	}
	i := 1
	for i < len(s) && ' ' <= s[i] && s[i] <= '~' && s[i] != '"' && s[i] != '\\' {
		i++
	}
	if i < len(s) && s[i] == '"' {
		return s[1:i], s[i+1:], true
	}
	quoted, err := strconv.QuotedPrefix(s)
	if err != nil {
		return "", s, false
	}
	text, err = strconv.Unquote(quoted)
	return text, s[len(quoted):], err == nil
}
