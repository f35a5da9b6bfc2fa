package relay

import (
	"net/netip"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// Where there are no descriptors, not even the one that is kept, a connection waits, and
// the loop does so too.
func TestAcceptExhausted(t *testing.T) {
	fd, at := listenHost(t)
	fd, err := unix.FcntlInt(uintptr(fd), unix.F_DUPFD_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	unix.SetNonblock(fd, true)
	caller, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(caller)
	r := newRelay(t)
	taken := make(chan bool, 1)
	r.do(func() {
		unix.Close(r.spare)
		r.spare = -1
		err = r.accept(fd, func(fd int, _ netip.AddrPort) { unix.Close(fd); taken <- true })
	})
	var limit unix.Rlimit
	if err != nil || unix.Getrlimit(unix.RLIMIT_NOFILE, &limit) != nil {
		t.Fatal(err)
	}
	cpu := func() int64 {
		var u unix.Rusage
		unix.Getrusage(unix.RUSAGE_SELF, &u)
		return u.Utime.Nano() + u.Stime.Nano()
	}
	before := cpu()
	unix.Setrlimit(unix.RLIMIT_NOFILE, &unix.Rlimit{Cur: 3, Max: limit.Max})
	err = unix.Connect(caller, sockaddrOf(at))
	time.Sleep(500 * time.Millisecond)
	used := time.Duration(cpu() - before)
	unix.Setrlimit(unix.RLIMIT_NOFILE, &limit)
	if err != nil || used > 250*time.Millisecond {
		t.Errorf("%v; to wait takes %v of the processor", err, used)
	}
	select {
	case <-taken:
	case <-time.After(10 * time.Second):
		t.Error("the connection is never accepted")
	}
}
