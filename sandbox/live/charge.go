package live

import (
	"bytes"
	"fmt"
	"os"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"
)

// takeOverAfter is how often those that wait look whether the one in charge is stopped.
const takeOverAfter = 500 * time.Millisecond

// charge is a Watcher's part in the choice of the one that is in charge of an overlay.
// The lock of the file by flock(2) says whose turn it is, and its content who it is:
// one that is stopped (SIGSTOP) keeps the lock, and another takes its place all the same.
// Bytes of it are locked for as long as the content is changed, and mirrors are made.
type charge struct {
	fd    int
	self  []byte
	event int // eventfd(2): the lock has come
	mu    sync.Mutex
	held  bool // the lock
	gone  bool // nobody waits for the lock any more
}

// charges tells those of one process apart.
var charges atomic.Int64

// The bytes that are locked.
const (
	contentByte = 0
	mirrorByte  = 1
)

func newCharge(file string) (*charge, error) {
	fd, err := unix.Open(file, unix.O_RDWR|unix.O_CREAT|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0o600)
	if err != nil {
		return nil, err
	}
	c := &charge{fd: fd, self: fmt.Appendf(nil, "%s %d", identity(os.Getpid()), charges.Add(1)), event: -1}
	if unix.Flock(fd, unix.LOCK_EX|unix.LOCK_NB) == nil {
		c.held = true
		return c, nil
	}
	if c.event, err = unix.Eventfd(0, unix.EFD_CLOEXEC|unix.EFD_NONBLOCK); err != nil {
		unix.Close(fd)
		return nil, err
	}
	// flock(2) cannot be told to give up: the goroutine outlives a Watcher that is
	// stopped, and ends with the process or when it gets the lock.
	go func() {
		for unix.Flock(fd, unix.LOCK_EX) == unix.EINTR {
		}
		c.mu.Lock()
		defer c.mu.Unlock()
		if c.gone {
			unix.Close(fd)
			return
		}
		c.held = true
		unix.Write(c.event, []byte{1, 0, 0, 0, 0, 0, 0, 0})
	}()
	return c, nil
}

// close ends it, and has the next one begin.
func (c *charge) close() {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.held && c.mine() {
		unix.Ftruncate(c.fd, 0)
	}
	if c.event >= 0 {
		unix.Close(c.event)
	}
	if c.gone = true; c.held {
		unix.Close(c.fd)
	}
}

func (c *charge) hasLock() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.held
}

// take takes charge, if nobody has who could do the work.
func (c *charge) take() bool {
	if !c.lock(contentByte) {
		return false
	}
	defer c.unlock(contentByte)
	if c.mine() {
		return true
	}
	who := c.content()
	if len(who) == 0 && !c.hasLock() || len(who) > 0 && !idle(string(who), c.hasLock()) {
		return false
	}
	if _, err := unix.Pwrite(c.fd, c.self, 0); err != nil {
		return false
	}
	return unix.Ftruncate(c.fd, int64(len(c.self))) == nil
}

// mine says whether this process is in charge: it is not, if it was stopped for a while.
func (c *charge) mine() bool { return bytes.Equal(c.content(), c.self) }

func (c *charge) content() []byte {
	buf := make([]byte, 128)
	n, _ := unix.Pread(c.fd, buf, 0)
	return buf[:max(n, 0)]
}

func (c *charge) lock(b int64) bool {
	return unix.FcntlFlock(uintptr(c.fd), unix.F_OFD_SETLK, &unix.Flock_t{Type: unix.F_WRLCK, Start: b, Len: 1}) == nil
}

func (c *charge) unlock(b int64) {
	unix.FcntlFlock(uintptr(c.fd), unix.F_OFD_SETLK, &unix.Flock_t{Type: unix.F_UNLCK, Start: b, Len: 1})
}

// identity is a process: its number, when it began, and where it has that number.
func identity(pid int) string {
	_, began := processState(pid)
	return fmt.Sprintf("%d %s %s", pid, began, pidSpace())
}

func pidSpace() string {
	space, _ := os.Readlink("/proc/self/ns/pid")
	return space
}

// idle says whether a process has ended or is stopped. Of one elsewhere that is not known:
// it has ended if nobody has the lock.
func idle(who string, locked bool) bool {
	pid, began, space := 0, "", ""
	if _, err := fmt.Sscan(who, &pid, &began, &space); err != nil || space != pidSpace() {
		return locked
	}
	state, now := processState(pid)
	return state == 'T' || state == 't' || state == 'Z' || state == 'X' || now != began
}

// processState is a process's state, 0 if there is none, and when it began (proc_pid_stat(5)).
func processState(pid int) (state byte, began string) {
	data, err := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/stat")
	if err != nil {
		return 0, ""
	}
	fields := strings.Fields(string(data[bytes.LastIndexByte(data, ')')+1:]))
	if len(fields) < 20 {
		return 0, ""
	}
	return fields[0][0], fields[19]
}
