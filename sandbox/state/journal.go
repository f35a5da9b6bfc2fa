package state

import (
	"bufio"
	"fmt"
	"io"
	"iter"
	"math"
	"os"
	"path/filepath"
	"slices"
	"sync"

	"golang.org/x/sys/unix"
)

// Journal is what a layer knows of the host: which version of a file the host
// had when the layer's own was first seen, where a pull may have left
// temporaries, and what in the layer only mirrors the host. It is one file of lines
// that are only ever appended,
//
//	CRC32 OP PAIR "PATH" VALUE
//
// so that a crash at any moment costs the last line at most. A line that is torn
// or wrong is skipped: what it said is unknown then, which is the safe side.
// Several processes may append at once; none of them is a sandbox.
type Journal struct {
	layer Layer
	mu    sync.Mutex
	notes
	// read is the file as it was read: of what a path was seen with notes have the
	// place in it.
	read lineReader
	// written is what this process has written of that since then.
	written map[place]string
	// shared says that another process has written since this one has read.
	shared bool
}

// Note is a line of the journal.
type Note struct {
	Op Op
	// Pair is the directory of the layer: ".", "with/KEY".
	Pair string
	// Path is relative to the pair; of a Temp it is the directory.
	Path string
	// Value is a fingerprint, or the mark in the names of temporaries.
	Value string
}

// Op is what a note says.
type Op uint8

const (
	// Seen: the host had the version Value.
	Seen Op = iota
	// Forget: nothing is known of the path any more.
	Forget
	// Keep: the layer's version stays even where it equals the host's.
	Keep
	// Temp: names that begin with Value in the directory Path are temporaries, until
	// Done: a pull's in the host's, a mirror's and a drop's in the layer's.
	Temp
	Done
	// Settled: at the time Value, in nanoseconds, the layer was at rest, and each
	// file of the pair was compared with the host's afterwards.
	Settled
	// Mirror: what the layer has at the path is the host's, put there to wake up who
	// watches it, and is Value; with no Value it is so no more. So is what was in the
	// way of that, and what a drop or a pull has left in a mounted layer (overlay.Notes).
	// Forget says nothing of that.
	Mirror
)

var ops = [...]string{"seen", "forget", "keep", "temp", "done", "settled", "mirror"}

func (l Layer) journalFile() string { return filepath.Join(l.Dir, "journal") }

// Journal reads the layer's journal; a layer without one has an empty journal.
func (l Layer) Journal() (*Journal, error) {
	j := &Journal{layer: l, notes: newNotes(), written: map[place]string{}}
	fd, err := unix.Open(l.journalFile(), unix.O_RDONLY|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
	if err == unix.ENOENT {
		return j, nil
	}
	if err != nil {
		return nil, &Error{Do: "read", What: fmt.Sprintf("the journal of the layer %q", l.Name), Err: err}
	}
	j.read.file = os.NewFile(uintptr(fd), "journal") // closed when nobody has the journal any more
	if j.notes, err = parseJournal(io.NewSectionReader(j.read.file, 0, math.MaxInt64)); err != nil {
		return nil, &Error{Do: "read", What: fmt.Sprintf("the journal of the layer %q", l.Name), Err: err}
	}
	return j, nil
}

// HasJournal says whether there is anything to read.
func (l Layer) HasJournal() bool {
	var st unix.Stat_t
	return unix.Lstat(l.journalFile(), &st) == nil && st.Size > 0
}

// DropJournal forgets everything at once: no pair of the layer has anything.
func (l Layer) DropJournal() { unix.Unlink(l.journalFile()) }

// Seen is the host's version of a path when the layer's was first seen.
func (j *Journal) Seen(pair, path string) (value string, ok bool) {
	j.mu.Lock()
	defer j.mu.Unlock()
	return j.find(pair, path)
}

func (j *Journal) find(pair, path string) (value string, ok bool) {
	if value, ok := j.written[place{pair, path}]; ok {
		return value, true
	}
	at, ok := j.seen[pair][j.key(path)]
	if !ok {
		return "", false
	}
	n, ok := j.read.note(at)
	// Another path with the same hash may have been seen later.
	return n.Value, ok && n.Op == Seen && n.Pair == pair && n.Path == path
}

// Settled is when the pair was settled for the last time, and Seen what it is if
// the path was seen before that.
func (j *Journal) Settled(pair, path string) (value string, when int64) {
	j.mu.Lock()
	defer j.mu.Unlock()
	if j.since[place{pair, path}] {
		return "", 0
	}
	value, _ = j.find(pair, path)
	return value, j.settled[pair]
}

// Kept says whether the layer's version of a path stays in any case.
func (j *Journal) Kept(pair, path string) bool {
	j.mu.Lock()
	defer j.mu.Unlock()
	return j.keep[place{pair, path}]
}

// Paths are all that is noted of a pair, in no order. The journal may be
// written to meanwhile.
func (j *Journal) Paths(pair string) iter.Seq[string] {
	j.mu.Lock()
	defer j.mu.Unlock()
	list := make([]string, 0, len(j.seen[pair]))
	j.read.lines(func(n Note, ok bool, at int64, _ []byte) {
		if ok && n.Pair == pair && j.last(n, at) {
			list = append(list, n.Path)
		}
	})
	for at := range j.written {
		if at.pair == pair {
			list = append(list, at.path)
		}
	}
	for at := range j.keep {
		if _, ok := j.find(pair, at.path); at.pair == pair && !ok {
			list = append(list, at.path)
		}
	}
	return slices.Values(list)
}

// Temps are the directories of a pair in which temporaries may have been left.
func (j *Journal) Temps(pair string) []Note {
	j.mu.Lock()
	defer j.mu.Unlock()
	var list []Note
	for n := range j.temps {
		if n.Pair == pair {
			list = append(list, n)
		}
	}
	return list
}

// Mirror is what a mirror at a path is, "" if there is none.
func (j *Journal) Mirror(pair, path string) string {
	j.mu.Lock()
	defer j.mu.Unlock()
	return j.mirrors[place{pair, path}]
}

// Mirrors are the paths of all mirrors of a pair, in the byte order.
func (j *Journal) Mirrors(pair string) []string {
	j.mu.Lock()
	defer j.mu.Unlock()
	var list []string
	for at := range j.mirrors {
		if at.pair == pair {
			list = append(list, at.path)
		}
	}
	slices.Sort(list)
	return list
}

// Write appends notes, in one piece. With sync they are on the disk when it
// returns; otherwise a crash of the machine may lose them, and one of sbx not.
func (j *Journal) Write(sync bool, list ...Note) error {
	if len(list) == 0 {
		return nil
	}
	j.mu.Lock()
	defer j.mu.Unlock()
	list, err := j.write(sync, list)
	if err != nil {
		return j.layer.broken(err)
	}
	for _, n := range list {
		at := place{n.Pair, n.Path}
		j.add(n, -1)
		switch n.Op {
		case Seen:
			j.written[at] = n.Value
		case Forget:
			delete(j.written, at)
		}
	}
	return nil
}

// write gives the notes that were written.
func (j *Journal) write(sync bool, list []Note) ([]Note, error) {
	fd, err := lockJournal(j.layer.journalFile())
	if err != nil {
		return nil, err
	}
	defer unix.Close(fd)
	var buf []byte
	// Of a torn line the next must not become a part.
	var st unix.Stat_t
	var last [1]byte
	if err := unix.Fstat(fd, &st); err != nil {
		return nil, err
	}
	if j.shared = j.shared || st.Size != j.size; j.shared {
		// A pull of a layer that lived until now may just have seen what was
		// compared before.
		list = slices.DeleteFunc(slices.Clone(list), func(n Note) bool { return n.Op == Settled })
	}
	if st.Size > 0 {
		if _, err := unix.Pread(fd, last[:], st.Size-1); err != nil {
			return nil, err
		}
		if last[0] != '\n' {
			buf = append(buf, '\n')
		}
	}
	for _, n := range list {
		buf = n.append(buf)
	}
	if err := writeAll(fd, buf); err != nil {
		return nil, err
	}
	j.size = st.Size + int64(len(buf))
	if sync {
		if err := unix.Fdatasync(fd); err != nil {
			return nil, err
		}
	}
	if j.lines+len(list) > 2*(j.needed()+len(j.written)+len(list))+100 {
		j.compact(fd) // what fails leaves the journal longer than it need be
	}
	return list, nil
}

// lockJournal opens the file for appending, as the only one who does.
func lockJournal(file string) (int, error) {
	for {
		fd, err := unix.Open(file, unix.O_RDWR|unix.O_APPEND|unix.O_CREAT|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0o600)
		if err != nil {
			return -1, err
		}
		for {
			if err = unix.Flock(fd, unix.LOCK_EX); err != unix.EINTR {
				break
			}
		}
		var st unix.Stat_t
		if err == nil {
			err = unix.Fstat(fd, &st)
		}
		if err != nil {
			unix.Close(fd)
			return -1, err
		}
		if st.Nlink > 0 {
			return fd, nil
		}
		unix.Close(fd) // another has just put a shorter one in its place
	}
}

// compact puts a file in the journal's place that says the same in fewer lines.
// fd is the journal, locked.
func (j *Journal) compact(fd int) error {
	var st unix.Stat_t
	if err := unix.Fstat(fd, &st); err != nil {
		return err
	}
	whole := io.NewSectionReader(preader(fd), 0, st.Size)
	all, err := parseJournal(whole)
	if err != nil {
		return err
	}
	tmp := j.layer.journalFile() + ".new"
	f, err := os.OpenFile(tmp, os.O_WRONLY|os.O_CREATE|os.O_TRUNC|unix.O_NOFOLLOW, 0o600)
	if err != nil {
		return err
	}
	defer f.Close()
	out := bufio.NewWriterSize(f, 64<<10)
	size, lines := 0, 0
	put := func(line []byte) {
		out.Write(line) // Flush has the error
		size, lines = size+len(line), lines+1
	}
	if _, err := whole.Seek(0, io.SeekStart); err != nil {
		return err
	}
	_, err = eachLine(whole, func(n Note, ok bool, at int64, line []byte) {
		if ok && all.last(n, at) {
			put(append(line, '\n'))
		}
	})
	if err != nil {
		return err
	}
	for note := range all.others {
		put(note.append(nil))
	}
	if err := out.Flush(); err != nil {
		return err
	}
	if err := f.Sync(); err != nil {
		return err
	}
	if err := unix.Rename(tmp, j.layer.journalFile()); err != nil {
		return err
	}
	j.lines, j.size = lines, int64(size)
	return nil
}

// preader reads a descriptor, wherever its offset is.
type preader int

func (fd preader) ReadAt(buf []byte, off int64) (int, error) {
	done := 0
	for done < len(buf) {
		n, err := unix.Pread(int(fd), buf[done:], off+int64(done))
		switch {
		case err == unix.EINTR:
		case err != nil:
			return done, err
		case n == 0:
			return done, io.EOF
		}
		done += max(n, 0)
	}
	return done, nil
}

func writeAll(fd int, buf []byte) error {
	for len(buf) > 0 {
		n, err := unix.Write(fd, buf)
		if err != nil && err != unix.EINTR {
			return err
		}
		buf = buf[max(n, 0):]
	}
	return nil
}
