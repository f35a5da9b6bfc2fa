package state

import (
	"runtime"

	"golang.org/x/sys/unix"
)

// asThread calls f with the file permissions of another user. The thread keeps
// them and so must not be used again: the goroutine ends with it locked.
func asThread(uid int, f func() error) error {
	runtime.LockOSThread()
	// setfsuid(2) drops the capabilities that pass file permissions.
	if err := unix.Setfsgid(uid); err != nil {
		return err
	}
	if err := unix.Setfsuid(uid); err != nil {
		return err
	}
	return f()
}
