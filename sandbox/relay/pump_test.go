package relay

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// newRelay is a relay without a sandbox.
func newRelay(t testing.TB) *Relay {
	t.Helper()
	r, err := Start(Config{Getenv: func(string) string { return "" }, ResolvConf: "/dev/null", Hosts: "/dev/null"})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { r.Close() })
	return r
}

// do has the loop do something, and waits for it.
func (r *Relay) do(f func()) {
	done := make(chan struct{})
	r.post(func() { f(); close(done) })
	<-done
}

// tcpPair is a connection over loopback: two ends.
func tcpPair(t testing.TB) (a, b int) {
	t.Helper()
	l, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(l)
	if err = unix.Bind(l, &unix.SockaddrInet4{Addr: [4]byte{127, 0, 0, 1}}); err == nil {
		err = unix.Listen(l, 1)
	}
	var sa unix.Sockaddr
	if err == nil {
		sa, err = unix.Getsockname(l)
	}
	if err == nil {
		a, err = unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	}
	if err == nil {
		err = unix.Connect(a, sa)
	}
	if err == nil {
		b, _, err = unix.Accept4(l, unix.SOCK_CLOEXEC)
	}
	if err != nil {
		t.Fatal(err)
	}
	unix.SetNonblock(a, true)
	unix.SetNonblock(b, true)
	return a, b
}

// through joins two connections, and gives their outer ends: the program's and the
// host's.
func through(t testing.TB, r *Relay, look func([]byte, bool) (bool, bool)) (program, host *os.File, rec *Contact) {
	t.Helper()
	pa, pb := tcpPair(t)
	ha, hb := tcpPair(t)
	rec = &Contact{}
	r.do(func() {
		if r.watch(pb, edge, nil) != nil || r.watch(hb, edge, nil) != nil {
			t.Error("the sockets cannot be watched")
			return
		}
		c := r.join(pb, hb, rec, nil)
		c.look = look
		c.start()
	})
	program, host = os.NewFile(uintptr(pa), "program"), os.NewFile(uintptr(ha), "host")
	t.Cleanup(func() { program.Close(); host.Close() })
	for _, f := range []*os.File{program, host} {
		f.SetDeadline(time.Now().Add(time.Minute))
	}
	return program, host, rec
}

func shutdown(f *os.File) {
	c, err := f.SyscallConn()
	if err == nil {
		c.Control(func(fd uintptr) { unix.Shutdown(int(fd), unix.SHUT_WR) })
	}
}

// What goes in comes out, in both directions at once, in pieces of all sizes, and each
// end after the bytes before it.
func TestPumpBytes(t *testing.T) {
	r := newRelay(t)
	program, host, rec := through(t, r, nil)
	up, down := make([]byte, 40<<20+123), make([]byte, 20<<20+7)
	c := rand.NewChaCha8([32]byte{1})
	c.Read(up)
	c.Read(down)
	errs := make(chan error, 4)
	send := func(f *os.File, data []byte) {
		for len(data) > 0 {
			n := min(len(data), 1+rand.IntN(300<<10))
			if rand.IntN(20) == 0 {
				n = min(n, 10)
			}
			if _, err := f.Write(data[:n]); err != nil {
				errs <- err
				return
			}
			data = data[n:]
		}
		shutdown(f)
		errs <- nil
	}
	get := func(f *os.File, want []byte) {
		got, err := io.ReadAll(f)
		if err == nil && !bytes.Equal(got, want) {
			err = errors.New("other bytes come out")
		}
		errs <- err
	}
	go send(program, up)
	go send(host, down)
	go get(host, up)
	go get(program, down)
	for range 4 {
		if err := <-errs; err != nil {
			t.Error(err)
		}
	}
	r.do(func() {
		if rec.Up != uint64(len(up)) || rec.Down != uint64(len(down)) {
			t.Errorf("%d and %d bytes are counted, want %d and %d", rec.Up, rec.Down, len(up), len(down))
		}
		if len(r.conns) != 0 || r.heldBytes != 0 {
			t.Errorf("%d connections and %d bytes are left", len(r.conns), r.heldBytes)
		}
	})
}

// One direction may end long before the other.
func TestPumpHalfClose(t *testing.T) {
	r := newRelay(t)
	program, host, _ := through(t, r, nil)
	program.WriteString("request")
	shutdown(program)
	if b, err := io.ReadAll(host); string(b) != "request" || err != nil {
		t.Fatalf("the host gets %q, %v", b, err)
	}
	time.Sleep(50 * time.Millisecond)
	host.WriteString("answer")
	host.Close()
	if b, err := io.ReadAll(program); string(b) != "answer" || err != nil {
		t.Errorf("the program gets %q, %v", b, err)
	}
}

// A reset is one for the other side.
func TestPumpReset(t *testing.T) {
	for _, which := range []string{"program", "host"} {
		r := newRelay(t)
		program, host, _ := through(t, r, nil)
		first, other := program, host
		if which == "host" {
			first, other = host, program
		}
		first.WriteString("x")
		if _, err := io.ReadFull(other, make([]byte, 1)); err != nil {
			t.Fatal(err)
		}
		c, err := first.SyscallConn()
		if err != nil {
			t.Fatal(err)
		}
		c.Control(func(fd uintptr) {
			unix.SetsockoptLinger(int(fd), unix.SOL_SOCKET, unix.SO_LINGER, &unix.Linger{Onoff: 1})
		})
		first.Close()
		if _, err := other.Read(make([]byte, 1)); !errors.Is(err, unix.ECONNRESET) {
			t.Errorf("after a reset by the %s the other side reads %v", which, err)
		}
	}
}

// Who does not read makes the other side wait, and costs the relay little; and idle
// connections hold neither pipes nor bytes.
func TestPumpSlowReader(t *testing.T) {
	r := newRelay(t)
	type pair struct{ program, host *os.File }
	var pairs []pair
	const many = 40
	for range many {
		program, host, _ := through(t, r, nil)
		pairs = append(pairs, pair{program, host})
		go func() {
			b := make([]byte, 1<<20)
			for {
				if _, err := program.Write(b); err != nil {
					return
				}
			}
		}()
	}
	time.Sleep(500 * time.Millisecond)
	r.do(func() {
		// Each direction that waits has one chunk at most, and beyond heldLimit a small one.
		if bound := heldLimit + chunk + len(r.conns)*smallChunk; r.heldBytes > bound {
			t.Errorf("%d bytes are held, want at most %d", r.heldBytes, bound)
		}
		if r.pipes.made > maxPipes {
			t.Errorf("there are %d pipes", r.pipes.made)
		}
	})
	for _, p := range pairs {
		p.program.SetDeadline(time.Now())
		go io.Copy(io.Discard, p.host)
	}
	var text string
	for deadline := time.Now().Add(30 * time.Second); time.Now().Before(deadline); time.Sleep(20 * time.Millisecond) {
		r.do(func() {
			text = fmt.Sprintf("of %d pipes %d are free, %d bytes are held, there are %d connections", r.pipes.made, len(r.pipes.free), r.heldBytes, len(r.conns))
			if len(r.pipes.free) == r.pipes.made && r.heldBytes == 0 && len(r.conns) == many {
				text = ""
			}
		})
		if text == "" {
			return
		}
	}
	t.Error(text)
}

// What a program sends first waits until it has been agreed to, and what the server
// sends does not.
func TestPumpLook(t *testing.T) {
	r := newRelay(t)
	enough := func(first []byte, last bool) (agreed, wait bool) {
		switch {
		case bytes.HasPrefix(first, []byte("good")):
			return true, false
		case bytes.HasPrefix([]byte("good"), first) && !last:
			return false, true
		}
		return false, false
	}
	program, host, _ := through(t, r, enough)
	host.WriteString("banner")
	b := make([]byte, 6)
	if _, err := io.ReadFull(program, b); err != nil || string(b) != "banner" {
		t.Fatalf("the program gets %q, %v", b, err)
	}
	program.WriteString("go")
	host.SetReadDeadline(time.Now().Add(100 * time.Millisecond))
	if n, err := host.Read(b); n != 0 || !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Fatalf("the host gets %q, %v before it was agreed to", b[:n], err)
	}
	host.SetReadDeadline(time.Now().Add(10 * time.Second))
	program.WriteString("od!")
	if _, err := io.ReadFull(host, b[:5]); err != nil || string(b[:5]) != "good!" {
		t.Fatalf("the host gets %q, %v", b[:5], err)
	}

	for _, bad := range []string{"bad", "go"} {
		program, host, rec := through(t, r, enough)
		program.WriteString(bad)
		shutdown(program)
		if b, err := io.ReadAll(host); len(b) != 0 || !errors.Is(err, unix.ECONNRESET) {
			t.Errorf("after %q the host reads %q, %v", bad, b, err)
		}
		if rec.Up != 0 {
			t.Errorf("after %q, %d bytes are counted", bad, rec.Up)
		}
	}
}

func BenchmarkPump(b *testing.B) {
	r := newRelay(b)
	program, host, _ := through(b, r, nil)
	program.SetDeadline(time.Time{})
	host.SetDeadline(time.Time{})
	buf := make([]byte, 128<<10)
	b.SetBytes(int64(len(buf)))
	go io.Copy(io.Discard, host)
	for b.Loop() {
		if _, err := program.Write(buf); err != nil {
			b.Fatal(err)
		}
	}
}

// A side that may send so many bytes is read on, so that its end is noticed.
func TestPumpLimited(t *testing.T) {
	r := newRelay(t)
	program, host, rec := through(t, r, nil)
	r.do(func() {
		for c := range r.conns {
			c.side[0].limited, c.side[0].limit = true, 5
		}
	})
	program.WriteString("hello, and more")
	got := make([]byte, 5)
	if _, err := io.ReadFull(host, got); err != nil || string(got) != "hello" {
		t.Errorf("%q comes out, %v", got, err)
	}
	program.WriteString("still more")
	shutdown(program)
	host.WriteString("answer")
	shutdown(host)
	if b, err := io.ReadAll(program); err != nil || string(b) != "answer" {
		t.Errorf("the answer is %q, %v", b, err)
	}
	if b, err := io.ReadAll(host); err != nil || len(b) > 0 {
		t.Errorf("%q comes out after the limit, %v", b, err)
	}
	r.do(func() {
		if len(r.conns) != 0 || rec.Up != 5 {
			t.Errorf("%d connections are left, %d bytes are counted", len(r.conns), rec.Up)
		}
	})
}

// A program that has closed its socket, and not only its half, is noticed by the reset
// with which its system answers.
func TestPumpForgotten(t *testing.T) {
	r := newRelay(t)
	program, host, _ := through(t, r, nil)
	shutdown(program)
	if b, err := io.ReadAll(host); err != nil || len(b) > 0 {
		t.Errorf("%q, %v", b, err)
	}
	c, err := program.SyscallConn()
	if err != nil {
		t.Fatal(err)
	}
	c.Control(func(fd uintptr) {
		unix.SetsockoptLinger(int(fd), unix.SOL_SOCKET, unix.SO_LINGER, &unix.Linger{Onoff: 1})
	})
	program.Close()
	for deadline := time.Now().Add(10 * time.Second); ; time.Sleep(time.Millisecond) {
		n := 0
		r.do(func() { n = len(r.conns) })
		if n == 0 {
			return
		}
		if time.Now().After(deadline) {
			t.Fatal("the connection is left")
		}
	}
}

// A read ends before an urgent byte (MSG_OOB in send(2)), which is lost, and what comes
// after it is not forgotten.
func TestPumpUrgent(t *testing.T) {
	r := newRelay(t)
	for _, size := range []int{1, 5 << 20} {
		program, host, _ := through(t, r, nil)
		c, err := program.SyscallConn()
		if err != nil {
			t.Fatal(err)
		}
		const times = 20
		go func() {
			for range times {
				program.Write(make([]byte, size))
				c.Write(func(fd uintptr) bool { return unix.Sendto(int(fd), []byte("!"), unix.MSG_OOB, nil) != unix.EAGAIN })
				program.Write(make([]byte, size))
			}
			shutdown(program)
		}()
		// Of several that wait, only the last is urgent.
		if n, err := io.Copy(io.Discard, host); err != nil || n < int64(2*times*size) || n >= int64(2*times*size+times) {
			t.Errorf("%d bytes come out, %v; want %d", n, err, 2*times*size)
		}
	}
}
