package share

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"time"

	"golang.org/x/sys/unix"
)

// socketName is the socket in the directory of a run.
const socketName = "socket"

// timeout bounds how long one side waits for the other: making copies of mounts
// takes milliseconds, on a busy machine some hundred.
const timeout = 5 * time.Second

// maxMessage bounds a message, maxFDs what comes with it (the kernel's SCM_MAX_FD
// is 253).
const (
	maxMessage = 128 << 10
	maxFDs     = 128
)

// address is the address of the socket of a run. The path may be longer than a
// socket's may be, so it goes by a descriptor of the directory.
func address(dir int) *unix.SockaddrUnix {
	return &unix.SockaddrUnix{Name: "/proc/self/fd/" + strconv.Itoa(dir) + "/" + socketName}
}

func openDir(dir string) (int, error) {
	return unix.Open(dir, unix.O_PATH|unix.O_DIRECTORY|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
}

// listen makes the socket. It appears under its name when it can be connected to.
func listen(dir string) (int, error) {
	fd, err := unix.Socket(unix.AF_UNIX, unix.SOCK_SEQPACKET|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return -1, err
	}
	d, err := openDir(dir)
	if err == nil {
		defer unix.Close(d)
		err = unix.Bind(fd, address(d))
	}
	if err == nil {
		err = unix.Chmod(filepath.Join(dir, socketName), 0o600)
	}
	if err == nil {
		err = unix.Listen(fd, 64)
	}
	if err != nil {
		unix.Close(fd)
		return -1, err
	}
	return fd, nil
}

// errOther is a peer that belongs to another user.
var errOther = errors.New("it belongs to another user")

// checkPeer refuses another user's process.
func checkPeer(fd int) (pid int, err error) {
	cred, err := unix.GetsockoptUcred(fd, unix.SOL_SOCKET, unix.SO_PEERCRED)
	if err != nil {
		return 0, err
	}
	if int(cred.Uid) != os.Geteuid() {
		return 0, errOther
	}
	return int(cred.Pid), nil
}

func setTimeout(fd int) {
	tv := unix.NsecToTimeval(int64(timeout))
	unix.SetsockoptTimeval(fd, unix.SOL_SOCKET, unix.SO_RCVTIMEO, &tv)
	unix.SetsockoptTimeval(fd, unix.SOL_SOCKET, unix.SO_SNDTIMEO, &tv)
}

func send(fd int, v any, fds []int) error {
	data, err := json.Marshal(v)
	if err != nil {
		return err
	}
	if len(data) > maxMessage || len(fds) > maxFDs {
		return fmt.Errorf("internal error: a message of %d bytes with %d descriptors", len(data), len(fds))
	}
	var rights []byte
	if len(fds) > 0 {
		rights = unix.UnixRights(fds...)
	}
	for {
		err = unix.Sendmsg(fd, data, rights, nil, unix.MSG_NOSIGNAL)
		if err != unix.EINTR {
			return err
		}
	}
}

// receive reads one message. The descriptors are the caller's to close.
func receive(fd int, v any) (fds []int, err error) {
	data, control := make([]byte, maxMessage), make([]byte, unix.CmsgSpace(maxFDs*4))
	var n, m, flags int
	for {
		n, m, flags, _, err = unix.Recvmsg(fd, data, control, unix.MSG_CMSG_CLOEXEC)
		if err != unix.EINTR {
			break
		}
	}
	if err != nil {
		return nil, err
	}
	messages, err := unix.ParseSocketControlMessage(control[:m])
	for i := range messages {
		if list, e := unix.ParseUnixRights(&messages[i]); e == nil {
			fds = append(fds, list...)
		}
	}
	switch {
	case err != nil:
	case n == 0:
		err = errors.New("it has ended")
	case flags&(unix.MSG_TRUNC|unix.MSG_CTRUNC) != 0:
		err = errors.New("its message was too long, or too many descriptors are open")
	default:
		err = json.Unmarshal(data[:n], v)
	}
	if err != nil {
		closeAll(fds)
		return nil, err
	}
	return fds, nil
}

func closeAll(fds []int) {
	for _, fd := range fds {
		unix.Close(fd)
	}
}
