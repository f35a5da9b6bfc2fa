package state

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// Lock is a layer that this process has: alone, or while it is Shared together
// with other runs, which have the same mounts.
//
// There are two files. "lock" is held for as long as something changes: a run
// starts or ends, or a layer is reset. "live" is held, shared, for as long as a
// run lives; whoever has "lock" and gets "live" for itself alone knows that none
// does. Both are flock(2), which ends with the process.
type Lock struct {
	Layer Layer
	// Unclean says that an earlier run did not end in order: its mount may
	// still be alive. Lost says that the machine went down meanwhile.
	Unclean, Lost bool
	// Live says that other runs have the layer.
	Live   bool
	fd     int  // "lock", -1 while it is Shared
	live   int  // "live", -1 until it is Shared
	left   bool // it was
	runs   int  // how many have begun and not ended in order, this one included
	who    string
	mapped bool // the layer's files belong to more ids than the caller's
}

// BusyError is a layer that another run has.
type BusyError struct {
	Layer Layer
	// Run is what the run wrote of itself: "pid 12, make -j2".
	Run string
}

func (e *BusyError) Error() string {
	s := fmt.Sprintf("cannot use the layer %q: another run has it", e.Layer.Name)
	if e.Run != "" {
		s += " (" + e.Run + ")"
	}
	return s
}

// Hint is a command that helps.
func (e *BusyError) Hint() string {
	return "sbx ps   (sbx stop RUN ends a run; sbx --layer OTHER -- COMMAND works beside it)"
}

// Lock creates the layer if need be and locks it for a run that starts. run is a
// line that tells others who has it; ids is the id map, to which the layer belongs
// from then on: files made under another map cannot be touched. Other runs may
// have the layer: then Live is set.
func (l Layer) Lock(run, ids string) (*Lock, error) {
	if err := l.create(); err != nil {
		return nil, err
	}
	k, err := l.lock(run, 1)
	if err != nil {
		return nil, err
	}
	if err := l.claim(ids); err != nil {
		k.Unlock()
		return nil, err
	}
	k.mapped = mapped(ids)
	return k, nil
}

// Take locks a layer that exists and that no run has, for something other than a
// run. One that does not exist is an fs.ErrNotExist.
func (l Layer) Take(who string) (*Lock, error) {
	if _, err := os.Lstat(l.Dir); err != nil {
		return nil, &Error{Do: "use", What: fmt.Sprintf("the layer %q", l.Name), Err: err}
	}
	return l.alone(who)
}

// alone is lock, and a BusyError where runs have the layer.
func (l Layer) alone(who string) (*Lock, error) {
	k, err := l.lock(who, 0)
	if err == nil && k.Live {
		_, _, who := k.read()
		err = &BusyError{Layer: l, Run: who}
		unix.Close(k.fd)
	}
	if err != nil {
		return nil, err
	}
	return k, nil
}

// Alone waits until no other sbx brings something out of the layer, or takes
// something from it.
func (l Layer) Alone() (release func(), err error) {
	fd, err := unix.Open(filepath.Join(l.Dir, "pull"), unix.O_RDWR|unix.O_CREAT|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0o600)
	if err != nil {
		return nil, l.broken(err)
	}
	for {
		if err = unix.Flock(fd, unix.LOCK_EX); err != unix.EINTR {
			break
		}
	}
	if err != nil {
		unix.Close(fd)
		return nil, l.broken(err)
	}
	return func() { unix.Close(fd) }, nil
}

// patience is how long a lock is waited for. Runs hold it for milliseconds.
var patience = 20 * time.Second

// lock takes "lock". Its first line is "TIME RUNS WHO" from before the first mount
// until after the end of the last, when its first byte becomes ended: if that is
// missing and no run lives, one was killed. The line is overwritten, never
// truncated: that takes a file system ten times as long.
func (l Layer) lock(who string, runs int) (*Lock, error) {
	k := &Lock{Layer: l, live: -1, runs: runs, who: strings.ReplaceAll(who, "\n", " ")}
	var err error
	if k.fd, err = l.hold(); err != nil {
		return nil, err
	}
	stamp, _, _ := k.read()
	if stamp != "" && stamp[0] != ended {
		k.Live = l.lives()
		k.Unclean = !k.Live
	}
	if k.Unclean {
		k.Lost = beforeBoot(stamp)
	}
	if k.Live || k.Unclean && runs == 0 {
		return k, nil // Share counts it; the next run must see what that one has left
	}
	if err := k.write(); err != nil {
		unix.Close(k.fd)
		return nil, l.broken(err)
	}
	return k, nil
}

// hold opens and locks the file "lock".
func (l Layer) hold() (fd int, err error) {
	name := filepath.Join(l.Dir, "lock")
	deadline, pause := time.Now().Add(patience), time.Millisecond
	for {
		fd, err := unix.Open(name, unix.O_RDWR|unix.O_CREAT|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0o600)
		if err != nil {
			return -1, l.broken(err)
		}
		err = unix.Flock(fd, unix.LOCK_EX|unix.LOCK_NB)
		if err == nil {
			var held, there unix.Stat_t
			if unix.Fstat(fd, &held) == nil && unix.Lstat(name, &there) == nil && held.Ino == there.Ino && held.Dev == there.Dev {
				return fd, nil
			}
			unix.Close(fd) // of a layer that was wiped meanwhile
			if err := l.create(); err != nil {
				return -1, err
			}
			continue
		}
		k := Lock{fd: fd}
		_, _, who := k.read()
		unix.Close(fd)
		switch {
		case !errors.Is(err, unix.EWOULDBLOCK) && err != unix.EINTR:
			return -1, &Error{Do: "lock", What: fmt.Sprintf("the layer %q", l.Name), Err: err, Fix: "sbx --state DIR -- COMMAND"}
		case time.Now().After(deadline):
			return -1, &BusyError{Layer: l, Run: who}
		}
		time.Sleep(pause)
		pause = min(2*pause, 20*time.Millisecond)
	}
}

// read reads the line.
func (k *Lock) read() (stamp string, runs int, who string) {
	var buf [256]byte
	n, _ := unix.Pread(k.fd, buf[:], 0)
	line, _, _ := strings.Cut(string(buf[:max(n, 0)]), "\n")
	stamp, rest, _ := strings.Cut(line, " ")
	count, who, _ := strings.Cut(rest, " ")
	runs, _ = strconv.Atoi(count)
	if n > 0 && stamp == "" {
		stamp = "?" // damaged, and surely not the end of a run
	}
	return stamp, runs, who
}

func (k *Lock) write() error {
	line := fmt.Sprintf("%d %d %.200s\n", time.Now().Unix(), k.runs, k.who)
	_, err := unix.Pwrite(k.fd, []byte(line), 0)
	return err
}

// lives says whether a run has the layer. The caller has "lock".
func (l Layer) lives() bool {
	fd, err := unix.Open(filepath.Join(l.Dir, "live"), unix.O_RDONLY|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
	if err != nil {
		return err != unix.ENOENT
	}
	defer unix.Close(fd)
	return unix.Flock(fd, unix.LOCK_EX|unix.LOCK_NB) != nil
}

// Again lets go of the lock for a moment, for runs that want to end, and takes it
// as Layer.Lock did.
func (k *Lock) Again(pause time.Duration) error {
	unix.Close(k.fd)
	time.Sleep(pause)
	again, err := k.Layer.lock(k.who, k.runs)
	if err != nil {
		k.fd = -1
		return err
	}
	again.mapped = k.mapped
	*k = *again
	return nil
}

// Share lets other runs have the layer too, or counts this one among those that
// have it.
func (k *Lock) Share() error {
	if k.Live {
		_, others, _ := k.read()
		k.runs += others
		if err := k.write(); err != nil {
			return k.Layer.broken(err)
		}
	}
	fd, err := unix.Open(filepath.Join(k.Layer.Dir, "live"), unix.O_RDWR|unix.O_CREAT|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0o600)
	if err == nil {
		// Those who look hold it for a moment, and have "lock": nobody does.
		if err = unix.Flock(fd, unix.LOCK_SH); err != nil {
			unix.Close(fd)
		}
	}
	if err != nil {
		return k.Layer.broken(err)
	}
	k.live = fd
	unix.Close(k.fd)
	k.fd = -1
	return nil
}

// Leave ends the sharing: the sandbox has ended, and this process has let go of
// its mounts. It says whether the layer is at rest: no other run has it, and none
// was killed whose mounts may still be alive.
func (k *Lock) Leave() (atRest bool, err error) {
	if k.fd < 0 {
		fd, err := k.Layer.hold()
		if err != nil {
			return false, err
		}
		k.fd = fd
		unix.Close(k.live)
		k.live, k.left = -1, true
		_, k.runs, _ = k.read()
		k.Live = k.Layer.lives()
	}
	return !k.Live && k.runs == 1 && !k.Unclean, nil
}

// Bereft says after Leave that no other run has the layer, and that one which had it was
// killed: its mounts may still be alive. Buried says that they are not, and that the
// layer is at rest.
func (k *Lock) Bereft() bool { return !k.Live && k.runs > 1 }

// Buried is said by who has seen to that.
func (k *Lock) Buried() { k.runs = 1 }

// beforeBoot says whether a time stamp is older than the kernel's start.
func beforeBoot(stamp string) bool {
	at, err := strconv.ParseInt(stamp, 10, 64)
	var info unix.Sysinfo_t
	if err != nil || unix.Sysinfo(&info) != nil {
		return false
	}
	return at < time.Now().Unix()-int64(info.Uptime)
}

// Unlock gives the layer back. The sandbox's pid 1 has been waited for: the
// kernel ends its mounts before that. The mark of a run that was killed stays if
// nobody has seen to it.
func (k *Lock) Unlock() {
	shared := k.live >= 0 || k.left
	if k.fd < 0 {
		if k.live < 0 {
			return // Again failed
		}
		if _, err := k.Leave(); err != nil {
			unix.Close(k.live)
			return
		}
	}
	switch {
	case k.Live && shared:
		_, _, k.who = k.read()
		k.runs--
		k.write()
	case k.Live: // never counted
	case !k.Live && k.runs <= 1 && !k.Unclean:
		unix.Pwrite(k.fd, []byte{ended}, 0)
	}
	unix.Close(k.fd)
}

// ended is the first byte of the line of a run that ended in order.
const ended = '-'

// claim compares the layer's id map with that of the run, or sets it.
func (l Layer) claim(ids string) error {
	file := filepath.Join(l.Dir, "layer")
	data, err := readSmall(file)
	switch {
	case err == unix.ENOENT:
		return l.write(file, ids)
	case err != nil:
		return l.broken(err)
	case string(data) != ids:
		return &Error{
			Do: "use", What: fmt.Sprintf("the layer %q", l.Name),
			Err: errors.New("it was made with other user ids, and its files cannot be used with these"),
			Fix: "sbx reset --all --layer " + l.Name,
		}
	}
	return nil
}

// IDs is the id map that the layer was made with, "" if there is none.
func (l Layer) IDs() string {
	data, _ := os.ReadFile(filepath.Join(l.Dir, "layer"))
	return string(data)
}

// Discard moves the whole layer into the trash, and says where.
func (k *Lock) Discard() (string, error) {
	return k.Layer.trash(k.Layer.Dir, discard{ids: k.Layer.IDs()})
}

// maxSmall is more than a file of sbx's own has.
const maxSmall = 16 << 20

// readSmall reads a file of sbx's own, without the runtime's poller.
func readSmall(file string) ([]byte, error) {
	fd, err := unix.Open(file, unix.O_RDONLY|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, err
	}
	defer unix.Close(fd)
	for buf, have := make([]byte, 8192), 0; ; {
		n, err := unix.Read(fd, buf[have:])
		switch have += max(n, 0); {
		case err == unix.EINTR:
		case err != nil || have < len(buf):
			return buf[:have], err
		case have > maxSmall:
			return nil, fmt.Errorf("it is larger than %d MiB", maxSmall>>20)
		case have == len(buf):
			buf = append(buf, make([]byte, len(buf))...)
		}
	}
}
