package state

import (
	"errors"
	"fmt"
	"math/rand/v2"
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
	runs   int  // how many have begun and not ended in order
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
		err = &BusyError{Layer: l, Run: k.who()}
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
	k := &Lock{Layer: l, live: -1}
	var err error
	if k.fd, err = l.hold(nil); err != nil {
		return nil, err
	}
	stamp, others, _ := k.read()
	if stamp != "" && stamp[0] != ended {
		k.Live = l.lives()
		k.Unclean = !k.Live
	}
	if k.Unclean {
		k.Lost = beforeBoot(stamp)
	}
	if k.Live {
		k.runs = others
	}
	k.runs += runs
	if k.Live && runs == 0 {
		return k, nil // it only looks
	}
	if err := k.write(who); err != nil {
		unix.Close(k.fd)
		return nil, l.broken(err)
	}
	return k, nil
}

// hold opens and locks the file "lock". wait, if not nil, is called before it is
// waited for.
func (l Layer) hold(wait func()) (fd int, err error) {
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
		if wait != nil {
			wait()
			wait = nil
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

func (k *Lock) who() string {
	_, _, who := k.read()
	return who
}

func (k *Lock) write(who string) error {
	line := fmt.Sprintf("%d %d %.200s\n", time.Now().Unix(), k.runs, strings.ReplaceAll(who, "\n", " "))
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

// Look looks again whether other runs have the layer. Where they have gone without
// ending in order it is unclean, and this run's alone.
func (k *Lock) Look() {
	if k.Live = k.Layer.lives(); !k.Live {
		k.Unclean, k.runs = true, 1
	}
}

// Share lets other runs have the layer too.
func (k *Lock) Share() error {
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
		// Who has "lock" may be a run that starts, and waits until this one lends
		// it its mounts, which it does no more, or lets go of "live".
		fd, err := k.Layer.hold(k.leaveLive)
		k.leaveLive()
		if err != nil {
			return false, err
		}
		k.fd = fd
		_, k.runs, _ = k.read()
		k.Live = k.Layer.lives()
	}
	return !k.Live && k.runs == 1 && !k.Unclean, nil
}

// leaveLive lets go of "live".
func (k *Lock) leaveLive() {
	if k.live >= 0 {
		unix.Close(k.live)
		k.live = -1
	}
}

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
	if k.fd < 0 {
		if k.live < 0 {
			return // Leave has failed, after a long wait
		}
		if _, err := k.Leave(); err != nil {
			return
		}
	}
	switch {
	case k.Live && k.runs > 0:
		_, _, who := k.read()
		k.runs--
		k.write(who)
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

// Prepare makes the layer's directories. A work directory must be fresh: what a
// volatile mount leaves in it makes the kernel refuse the next, and after a run
// that was killed anything may lie there. The old one is renamed away, because to
// empty it takes longer than the mount; Sweep deletes it.
func (k *Lock) Prepare(dirs, work []string) error {
	for _, d := range work {
		if err := k.setAside(filepath.Join(k.Layer.Dir, d)); err != nil {
			return k.Layer.broken(err)
		}
	}
	for _, d := range dirs {
		if err := k.Layer.directory(filepath.Join(k.Layer.Dir, d)); err != nil {
			return k.Layer.broken(err)
		}
	}
	k.Unclean = false
	return nil
}

// asides bounds the work directories that wait to be swept.
const asides = 16

// setAside renames a work directory away, or empties it where that cannot be.
func (k *Lock) setAside(dir string) error {
	if k.mapped {
		return gone(emptyDir(dir))
	}
	var st unix.Stat_t
	if err := unix.Lstat(dir, &st); err != nil {
		return gone(err)
	}
	if st.Mode&unix.S_IFMT != unix.S_IFDIR {
		return unix.ENOTDIR
	}
	first := rand.IntN(asides) // mostly free, where the first ones are taken
	for i := range asides {
		aside := dir + ".old" + strconv.Itoa((first+i)%asides)
		switch err := unix.Rename(dir, aside); err {
		case unix.ENOTEMPTY, unix.EEXIST:
		default:
			return gone(err)
		}
	}
	// Many short runs in a row.
	k.sweep(dir)
	return gone(emptyDir(dir))
}

// gone takes the error of what is not there to be removed as success.
func gone(err error) error {
	if err == unix.ENOENT {
		return nil
	}
	return err
}

// Sweep deletes what Prepare has renamed away, in this run and in runs that were
// too short to sweep. It may run while the layer is mounted.
func (k *Lock) Sweep(work []string) {
	for _, d := range work {
		k.sweep(filepath.Join(k.Layer.Dir, d))
	}
}

func (k *Lock) sweep(dir string) {
	for i := range asides {
		remove(dir + ".old" + strconv.Itoa(i))
	}
}

// directory makes a directory of the layer, all of whose parents are sbx's own.
// The build owns what it sees as the root of its tree or home, and may have
// taken its permissions away.
func (l Layer) directory(dir string) error {
	err := unix.Mkdir(dir, 0o755)
	if err == unix.ENOENT {
		return os.MkdirAll(dir, 0o755)
	}
	if err != unix.EEXIST {
		return err
	}
	var st unix.Stat_t
	if err := unix.Lstat(dir, &st); err != nil {
		return err
	}
	if st.Mode&unix.S_IFMT != unix.S_IFDIR {
		return unix.ENOTDIR
	}
	if st.Mode&0o700 != 0o700 && int(st.Uid) == os.Geteuid() {
		return os.Chmod(dir, 0o755)
	}
	return nil
}

// Discard moves the whole layer into the trash, and says where.
func (k *Lock) Discard() (string, error) { return k.Layer.trash(k.Layer.Dir) }

// readSmall reads a small file of sbx's own, without the runtime's poller.
func readSmall(file string) ([]byte, error) {
	fd, err := unix.Open(file, unix.O_RDONLY|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, err
	}
	defer unix.Close(fd)
	buf := make([]byte, 8192)
	n, err := unix.Read(fd, buf)
	return buf[:max(n, 0)], err
}
