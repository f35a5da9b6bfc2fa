package main

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"strings"
	"sync"
	"time"

	"golang.org/x/sys/unix"
)

// pattern is what is sent: its length is a prime, so that a piece that is lost, sent
// twice or moved is seen.
var pattern = func() []byte {
	b := make([]byte, 65521)
	x := uint32(1)
	for i := range b {
		x = x*1664525 + 1013904223
		b[i] = byte(x >> 24)
	}
	return b
}()

func send(w io.Writer, n int) error {
	for n > 0 {
		m, err := w.Write(pattern[:min(n, len(pattern))])
		if err != nil {
			return err
		}
		n -= m
	}
	return nil
}

// receive reads n bytes of the pattern, in whatever pieces they come.
func receive(r io.Reader, n int) error {
	buf := make([]byte, 256<<10)
	for at := 0; at < n; {
		m, err := r.Read(buf[:min(len(buf), n-at)])
		for i := 0; i < m; {
			p := pattern[(at+i)%len(pattern):]
			k := min(m-i, len(p))
			if !bytes.Equal(buf[i:i+k], p[:k]) {
				return fmt.Errorf("wrong bytes between %d and %d", at+i, at+i+k)
			}
			i += k
		}
		at += m
		if err != nil && at < n {
			return fmt.Errorf("after %d of %d bytes: %w", at, n, err)
		}
	}
	return nil
}

// open connects and says what the server is to do.
func open(addr, command string) (*net.TCPConn, error) {
	c, err := net.DialTimeout("tcp", addr, 20*time.Second)
	if err != nil {
		return nil, err
	}
	_, err = io.WriteString(c, command+"\n")
	return c.(*net.TCPConn), err
}

// dial NETWORK ADDRESS
func dial(args []string) error {
	began := time.Now()
	c, err := net.DialTimeout(args[0], args[1], 5*time.Second)
	if d := time.Since(began); err != nil && d > 1500*time.Millisecond {
		return fmt.Errorf("only after %v: %w", d.Round(time.Millisecond), errors.New(name(err)))
	}
	if err != nil {
		return err
	}
	return c.Close()
}

// echo ADDRESS SIZE: sends while it receives.
func echo(args []string) error {
	c, err := open(args[0], "echo")
	if err != nil {
		return err
	}
	defer c.Close()
	n := number(args[1])
	sent := make(chan error, 1)
	go func() { sent <- errors.Join(send(c, n), c.CloseWrite()) }()
	if err := errors.Join(receive(c, n), <-sent); err != nil {
		return err
	}
	if _, err := c.Read(make([]byte, 1)); err != io.EOF {
		return fmt.Errorf("no end: %v", err)
	}
	return nil
}

// stream ADDRESS SIZE: both ways at once, and both sides check.
func stream(args []string) error {
	c, err := open(args[0], "stream "+args[1])
	if err != nil {
		return err
	}
	defer c.Close()
	n := number(args[1])
	sent := make(chan error, 1)
	go func() { sent <- send(c, n) }()
	if err := errors.Join(receive(c, n), <-sent); err != nil {
		return err
	}
	c.CloseWrite()
	return verdict(c)
}

// verdict is the server's: "ok", or what is wrong.
func verdict(r io.Reader) error {
	b, err := io.ReadAll(r)
	if err != nil {
		return err
	}
	if string(b) != "ok" {
		return fmt.Errorf("the server says %q", b)
	}
	return nil
}

// count ADDRESS SIZE: the server answers after the end of what it gets.
func count(args []string) error {
	c, err := open(args[0], "count "+args[1])
	if err != nil {
		return err
	}
	defer c.Close()
	if err := errors.Join(send(c, number(args[1])), c.CloseWrite()); err != nil {
		return err
	}
	return verdict(c)
}

// closed ADDRESS SIZE: the server closes its direction first.
func closed(args []string) error {
	c, err := open(args[0], "closed "+args[1])
	if err != nil {
		return err
	}
	defer c.Close()
	if err := verdict(c); err != nil {
		return err
	}
	time.Sleep(50 * time.Millisecond)
	return send(c, number(args[1]))
}

// reset ADDRESS: the server resets.
func reset(args []string) error {
	c, err := open(args[0], "reset")
	if err != nil {
		return err
	}
	defer c.Close()
	c.SetReadDeadline(time.Now().Add(5 * time.Second))
	_, err = c.Read(make([]byte, 1))
	return err
}

// abort ADDRESS: the program resets.
func abort(args []string) error {
	c, err := open(args[0], "abort")
	if err != nil {
		return err
	}
	if _, err := c.Read(make([]byte, 1)); err != nil {
		return err
	}
	c.SetLinger(0)
	return c.Close()
}

// small ADDRESS COUNT: writes of one byte.
func small(args []string) error {
	c, err := open(args[0], "count "+args[1])
	if err != nil {
		return err
	}
	defer c.Close()
	for i := range number(args[1]) {
		if _, err := c.Write(pattern[i%len(pattern):][:1]); err != nil {
			return err
		}
	}
	c.CloseWrite()
	return verdict(c)
}

// oob ADDRESS: an urgent byte; what comes after it arrives.
func oob(args []string) error {
	c, err := open(args[0], "lines")
	if err != nil {
		return err
	}
	defer c.Close()
	raw, _ := c.SyscallConn()
	raw.Write(func(fd uintptr) bool {
		err = unix.Sendto(int(fd), []byte("!"), unix.MSG_OOB, nil)
		return true
	})
	if err != nil {
		return err
	}
	io.WriteString(c, "after\n")
	c.SetReadDeadline(time.Now().Add(5 * time.Second))
	line, err := bufio.NewReader(c).ReadString('\n')
	if err == nil && !strings.HasSuffix(line, "after\n") {
		err = fmt.Errorf("the server got %q", line)
	}
	return err
}

// exit ADDRESS SIZE: the process ends without closing anything.
func exitAtOnce(args []string) error {
	c, err := open(args[0], "count "+args[1])
	if err == nil {
		err = send(c, number(args[1]))
	}
	if err == nil {
		fmt.Printf("exit %s: done\n", strings.Join(args, " "))
		os.Exit(0)
	}
	return err
}

// greeting ADDRESS: the server speaks first, and the program says nothing.
func greeting(args []string) error {
	c, err := net.DialTimeout("tcp", args[0], 5*time.Second)
	if err != nil {
		return err
	}
	defer c.Close()
	c.SetReadDeadline(time.Now().Add(5 * time.Second))
	line, err := bufio.NewReader(c).ReadString('\n')
	if err == nil && line != "hello\n" {
		err = fmt.Errorf("it says %q", line)
	}
	return err
}

// local: a server and a client of the sandbox's own.
func local([]string) error {
	for _, addr := range []string{"127.0.0.1:0", "[::1]:0", "0.0.0.0:0"} {
		l, err := net.Listen("tcp", addr)
		if err != nil {
			return err
		}
		defer l.Close()
		go func() {
			if c, err := l.Accept(); err == nil {
				io.Copy(c, c)
				c.Close()
			}
		}()
		c, err := net.Dial("tcp", l.Addr().String())
		if err != nil {
			return err
		}
		go func() { send(c, 100000); c.(*net.TCPConn).CloseWrite() }()
		if err := receive(c, 100000); err != nil {
			return err
		}
		c.Close()
	}
	return nil
}

// many ADDRESS COUNT: connections that are all there at the same time.
func many(args []string) error {
	conns, err := openMany(args[0], number(args[1]))
	defer closeMany(conns)
	if err != nil {
		return err
	}
	return errors.Join(lineEach(conns), lineEach(conns))
}

func openMany(addr string, n int) ([]*net.TCPConn, error) {
	conns := make([]*net.TCPConn, n)
	var mu sync.Mutex
	var first error
	var group sync.WaitGroup
	turn := make(chan bool, 100)
	for i := range n {
		group.Go(func() {
			turn <- true
			c, err := open(addr, "lines")
			<-turn
			mu.Lock()
			defer mu.Unlock()
			conns[i] = c
			if err != nil && first == nil {
				first = fmt.Errorf("connection %d: %w", i, err)
			}
		})
	}
	group.Wait()
	return conns, first
}

func closeMany(conns []*net.TCPConn) {
	for _, c := range conns {
		if c != nil {
			c.Close()
		}
	}
}

func lineEach(conns []*net.TCPConn) error {
	for i, c := range conns {
		want := fmt.Sprintf("line %d\n", i)
		c.SetDeadline(time.Now().Add(10 * time.Second))
		if _, err := io.WriteString(c, want); err != nil {
			return err
		}
	}
	for i, c := range conns {
		want := fmt.Sprintf("line %d\n", i)
		got := make([]byte, len(want))
		if _, err := io.ReadFull(c, got); err != nil {
			return fmt.Errorf("connection %d: %w", i, err)
		}
		if string(got) != want {
			return fmt.Errorf("connection %d says %q", i, got)
		}
	}
	return nil
}

// sequence ADDRESS COUNT: one after the other.
func sequence(args []string) error {
	for i := range number(args[1]) {
		c, err := open(args[0], "lines")
		if err == nil {
			err = lineEach([]*net.TCPConn{c})
		}
		if err != nil {
			return fmt.Errorf("connection %d: %w", i, err)
		}
		c.Close()
	}
	return nil
}

// idle ADDRESS COUNT MILLISECONDS: says "ready" meanwhile.
func idle(args []string) error {
	conns, err := openMany(args[0], number(args[1]))
	defer closeMany(conns)
	if err == nil {
		err = lineEach(conns)
	}
	if err != nil {
		return err
	}
	fmt.Println("ready")
	sleep(args[2:])
	return lineEach(conns)
}

// told ADDRESS COUNT MILLISECONDS: connects, says ready, and says of how many connections it
// learns within that time that they have ended.
func told(args []string) error {
	conns, err := openMany(args[0], number(args[1]))
	defer closeMany(conns)
	if err != nil {
		return err
	}
	fmt.Println("ready")
	end := time.Now().Add(time.Duration(number(args[2])) * time.Millisecond)
	ended := 0
	for _, c := range conns {
		c.SetReadDeadline(end)
		if _, err := c.Read(make([]byte, 1)); !errors.Is(err, os.ErrDeadlineExceeded) {
			ended++
		}
	}
	say("%d", ended)
	return nil
}

// hoard ADDRESS COUNT: connects more than there can be, and says how many it got. None
// may take longer than some seconds.
func hoard(args []string) error {
	var conns []net.Conn
	failed := map[string]int{}
	for range number(args[1]) {
		c, err := net.DialTimeout("tcp", args[0], 100*time.Millisecond)
		if err != nil {
			failed[name(err)]++
			continue
		}
		conns = append(conns, c)
	}
	say("%d %v", len(conns), failed)
	for _, c := range conns {
		c.Close()
	}
	return nil
}
