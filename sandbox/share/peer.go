package share

import (
	"errors"
	"fmt"
	"os"
	"strings"

	"golang.org/x/sys/unix"
)

// errInside is a peer in a sandbox.
var errInside = errors.New("it is in another pid namespace")

// checkOutside refuses a client in a sandbox: a read-only bind does not close a
// socket (unix(7)), so that a rule which shows the directory of the socket lets a
// build connect to it, which has the user's uid.
func checkOutside(fd int) error {
	peer, err := unix.GetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_PEERPIDFD)
	if err != nil {
		if err != unix.ENOPROTOOPT {
			return err
		}
		// Before Linux 6.5 a number: it may have become another process's, if the
		// client has ended meanwhile.
		cred, err := unix.GetsockoptUcred(fd, unix.SOL_SOCKET, unix.SO_PEERCRED)
		if err != nil {
			return err
		}
		if peer, err = unix.PidfdOpen(int(cred.Pid), 0); err != nil {
			return err
		}
	}
	defer unix.Close(peer)
	self, err := unix.PidfdOpen(os.Getpid(), 0)
	if err != nil {
		return err
	}
	defer unix.Close(self)
	theirs, err := depth(peer)
	if err != nil {
		return err
	}
	ours, err := depth(self)
	if err != nil {
		return err
	}
	if theirs != ours {
		return errInside
	}
	return nil
}

// depth is how many pid namespaces a process is in, from the one of /proc on: NSpid
// in fdinfo of a pidfd, as in proc_pid_status(5).
func depth(pidfd int) (int, error) {
	data, err := os.ReadFile(fmt.Sprintf("/proc/self/fdinfo/%d", pidfd))
	if err != nil {
		return 0, err
	}
	for line := range strings.Lines(string(data)) {
		if list, ok := strings.CutPrefix(line, "NSpid:"); ok {
			// One that is dead, or not in sight of /proc, has -1 or 0.
			if pids := strings.Fields(list); len(pids) > 0 && pids[0] > "0" {
				return len(pids), nil
			}
		}
	}
	return 0, errors.New("it has ended")
}
