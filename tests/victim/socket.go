package main

import (
	"fmt"
	"net"
	"time"

	"golang.org/x/sys/unix"
)

// connect NETWORK ADDRESS: a stream; @NAME is an abstract address.
func connect(args []string) error {
	c, err := net.DialTimeout(args[0], args[1], 2*time.Second)
	if err != nil {
		return err
	}
	return c.Close()
}

// listen NETWORK ADDRESS: says "ready" and waits.
func listen(args []string) error {
	l, err := net.Listen(args[0], args[1])
	if err != nil {
		return err
	}
	defer l.Close()
	fmt.Println("ready")
	time.Sleep(time.Minute)
	return nil
}

// socket FAMILY TYPE PROTOCOL
func socket(args []string) error {
	fd, err := unix.Socket(number(args[0]), number(args[1]), number(args[2]))
	if err == nil {
		unix.Close(fd)
	}
	return err
}

// ioctl FD REQUEST BYTE: the request as 64 bits, its argument a pointer to
// BYTE.
func ioctl(args []string) error {
	b := []byte{byte(number(args[2])), 0, 0, 0, 0, 0, 0, 0}
	return call(unix.SYS_IOCTL, uintptr(number(args[0])), uintptr(number(args[1])), pointer(b))
}
