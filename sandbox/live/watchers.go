package live

import (
	"bytes"
	"os"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// All of /proc that belongs to a process inside is the build's to choose: how many
// processes, descriptors and watches there are. These are the bounds of what is read.
const (
	maxProcesses   = 8192
	maxDescriptors = 4096
	maxInotify     = 256
	maxFdinfo      = 16 << 20
	maxWatched     = 200000
	maxLooking     = 200 * time.Millisecond
)

// watches are inodes that are watched, and how.
type watches map[uint64]watch

type watch uint8

const (
	isWatched watch = 1 << iota
	// watchesCreate and watchesDelete are those for IN_CREATE and IN_DELETE.
	watchesCreate
	watchesDelete
)

func (w watches) has(ino uint64) bool { return w[ino] != 0 }

// watched finds the inodes of a file system that processes in other mount namespaces
// watch by inotify(7): /proc/PID/fdinfo has them for who could trace the process
// (proc(5)). dev is the file system's st_dev.
func watched(dev uint64) watches {
	w := &watchers{dev: sdev(dev), inodes: watches{}, until: time.Now().Add(maxLooking)}
	w.own, _ = os.Readlink("/proc/self/ns/mnt")
	proc, err := os.Open("/proc")
	if err != nil || w.own == "" {
		return nil
	}
	defer proc.Close()
	names, _ := proc.Readdirnames(maxProcesses)
	for _, name := range names {
		if name[0] < '0' || name[0] > '9' {
			continue
		}
		if w.full() {
			break
		}
		// Not by the process's uid: with --root, and of a caller that is root, it is another.
		dir := "/proc/" + name
		if ns, err := os.Readlink(dir + "/ns/mnt"); err != nil || ns == w.own {
			continue
		}
		w.process(dir)
	}
	return w.inodes
}

type watchers struct {
	dev    uint64
	own    string
	inodes watches
	until  time.Time
}

func (w *watchers) full() bool { return len(w.inodes) >= maxWatched || time.Now().After(w.until) }

// process looks at the descriptors of a process.
func (w *watchers) process(dir string) {
	fds, err := os.Open(dir + "/fd")
	if err != nil {
		// Of another uid it cannot be listed (proc_pid_fd(5)), and this can.
		w.others(dir + "/fdinfo")
		return
	}
	defer fds.Close()
	names, _ := fds.Readdirnames(maxDescriptors)
	found := 0
	buf := make([]byte, 32)
	for _, name := range names {
		// A link that does not fit is none of inotify's.
		n, err := unix.Readlinkat(int(fds.Fd()), name, buf)
		if err != nil || string(buf[:max(n, 0)]) != "anon_inode:inotify" {
			continue
		}
		if found++; found > maxInotify || w.full() {
			return
		}
		w.info(dir + "/fdinfo/" + name)
	}
}

// others looks at all descriptors, because nobody says which are inotify's.
func (w *watchers) others(dir string) {
	fds, err := os.Open(dir)
	if err != nil {
		return
	}
	defer fds.Close()
	names, _ := fds.Readdirnames(maxDescriptors)
	for _, name := range names {
		if w.full() {
			return
		}
		w.info(dir + "/" + name)
	}
}

// info reads what one descriptor watches.
func (w *watchers) info(file string) {
	f, err := os.Open(file)
	if err != nil {
		return
	}
	defer f.Close()
	buf := make([]byte, 64<<10)
	have, total := 0, 0
	for total < maxFdinfo && !w.full() {
		n, err := f.Read(buf[have:])
		have, total = have+n, total+n
		rest := buf[:have]
		for {
			line, more, ok := bytes.Cut(rest, []byte("\n"))
			if !ok {
				break
			}
			w.line(string(line))
			rest = more
		}
		if err != nil || len(rest) == len(buf) {
			return
		}
		have = copy(buf, rest)
	}
}

// line takes one watch (proc_pid_fdinfo(5)):
//
//	inotify wd:1 ino:9e7e sdev:800013 mask:800afce ignored_mask:0 …
func (w *watchers) line(s string) {
	rest, ok := strings.CutPrefix(s, "inotify ")
	if !ok {
		return
	}
	var ino, dev, mask uint64
	var err1, err2, err3 error
	for field := range strings.FieldsSeq(rest) {
		key, value, _ := strings.Cut(field, ":")
		switch key {
		case "ino":
			ino, err1 = strconv.ParseUint(value, 16, 64)
		case "sdev":
			dev, err2 = strconv.ParseUint(value, 16, 64)
		case "mask":
			mask, err3 = strconv.ParseUint(value, 16, 64)
		}
	}
	if err1 != nil || err2 != nil || err3 != nil || dev != w.dev || ino == 0 {
		return
	}
	is := isWatched
	if mask&unix.IN_CREATE != 0 {
		is |= watchesCreate
	}
	if mask&unix.IN_DELETE != 0 {
		is |= watchesDelete
	}
	w.inodes[ino] |= is
}

// sdev is a st_dev as the kernel has it itself.
func sdev(dev uint64) uint64 { return uint64(unix.Major(dev))<<20 | uint64(unix.Minor(dev)) }
