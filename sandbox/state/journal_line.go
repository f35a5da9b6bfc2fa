package state

import (
	"bufio"
	"bytes"
	"encoding/binary"
	"encoding/hex"
	"hash/crc32"
	"io"
	"math"
	"os"
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

// parseJournal reads a journal. It goes by lines: the memory is that of the notes.
func parseJournal(from io.Reader) (notes, error) {
	all := newNotes()
	var err error
	all.size, err = eachLine(from, func(n Note, ok bool, at int64, _ []byte) {
		if ok {
			all.add(n, at)
		} else {
			all.lines++
		}
	})
	return all, err
}

// eachLine gives each line that is whole, or says that it is none of ours, where it begins
// and its bytes, which are the caller's until the next. It returns the size of all.
func eachLine(from io.Reader, do func(n Note, ok bool, at int64, line []byte)) (int64, error) {
	r := bufio.NewReaderSize(from, 64<<10)
	for at := int64(0); ; {
		line, err := r.ReadSlice('\n')
		if err == bufio.ErrBufferFull {
			var rest []byte
			line = bytes.Clone(line)
			rest, err = r.ReadBytes('\n')
			line = append(line, rest...)
		}
		if err != nil && err != io.EOF {
			return at, err
		}
		size := int64(len(line))
		line, whole := bytes.CutSuffix(line, []byte("\n"))
		if size > 0 {
			n, ok := parseNote(line)
			do(n, ok && whole, at, line)
		}
		at += size
		if !whole {
			return at, nil
		}
	}
}

// lineReader reads lines of a file by their places. Mostly the next one is asked for next.
type lineReader struct {
	file *os.File
	// window is a part of the file, from at.
	window []byte
	at     int64
}

// windowSize is what is read at once.
const windowSize = 16 << 10

// note is the line at a place.
func (r *lineReader) note(at int64) (Note, bool) {
	for size := windowSize; ; size *= 4 {
		if from := at - r.at; from >= 0 && from < int64(len(r.window)) {
			if line, _, whole := bytes.Cut(r.window[from:], []byte("\n")); whole {
				return parseNote(line)
			}
		}
		if cap(r.window) < size {
			r.window = make([]byte, size)
		}
		n, err := r.file.ReadAt(r.window[:size], at)
		r.at, r.window = at, r.window[:n]
		if err != nil && bytes.IndexByte(r.window, '\n') < 0 {
			return Note{}, false
		}
	}
}

// lines gives all lines.
func (r *lineReader) lines(do func(n Note, ok bool, at int64, line []byte)) {
	if r.file != nil {
		eachLine(io.NewSectionReader(r.file, 0, math.MaxInt64), do)
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
