package tests

import (
	"bufio"
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"math/big"
	"net"
	"strconv"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// listen serves TCP in a namespace until the test ends.
func (w *world) listen(ns int, addr string, serve func(net.Conn)) string {
	w.t.Helper()
	var l net.Listener
	var err error
	w.in(ns, func() { l, err = net.Listen("tcp", addr) })
	if err != nil {
		w.t.Fatal(err)
	}
	w.t.Cleanup(func() { l.Close() })
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			go func() {
				defer c.Close()
				serve(c)
			}()
		}
	}()
	return l.Addr().String()
}

// plainListener listens where the calling thread is.
func (w *world) plainListener(addr string) net.Listener {
	l, err := net.Listen("tcp", addr)
	if err != nil {
		w.t.Fatal(err)
	}
	w.t.Cleanup(func() { l.Close() })
	return l
}

// packets serves UDP.
func (w *world) packets(ns int, addr string, serve func(c net.PacketConn, b []byte, from net.Addr)) string {
	w.t.Helper()
	var c net.PacketConn
	var err error
	w.in(ns, func() { c, err = net.ListenPacket("udp", addr) })
	if err != nil {
		w.t.Fatal(err)
	}
	w.t.Cleanup(func() { c.Close() })
	go func() {
		buf := make([]byte, 65536)
		for {
			n, from, err := c.ReadFrom(buf)
			if errors.Is(err, net.ErrClosed) {
				return
			}
			if err == nil {
				serve(c, bytes.Clone(buf[:n]), from)
			}
		}
	}()
	return c.LocalAddr().String()
}

func echoPacket(c net.PacketConn, b []byte, from net.Addr) { c.WriteTo(b, from) }

// pattern is the same as the caller's.
var pattern = func() []byte {
	b := make([]byte, 65521)
	x := uint32(1)
	for i := range b {
		x = x*1664525 + 1013904223
		b[i] = byte(x >> 24)
	}
	return b
}()

// receivePattern reads n bytes of it, and an end if that is to be there.
func receivePattern(r io.Reader, n int, end bool) error {
	buf := make([]byte, 256<<10)
	for at := 0; at < n || end; {
		m, err := r.Read(buf[:min(len(buf), max(n-at, 1))])
		if at+m > n {
			return fmt.Errorf("more than %d bytes", n)
		}
		for i := 0; i < m; {
			p := pattern[(at+i)%len(pattern):]
			k := min(m-i, len(p))
			if !bytes.Equal(buf[i:i+k], p[:k]) {
				return fmt.Errorf("wrong bytes after %d", at+i)
			}
			i += k
		}
		at += m
		if err == io.EOF && at == n {
			return nil
		}
		if err != nil {
			return fmt.Errorf("after %d of %d bytes: %w", at, n, err)
		}
	}
	return nil
}

func sendPattern(w io.Writer, n int) error {
	for n > 0 {
		m, err := w.Write(pattern[:min(n, len(pattern))])
		if err != nil {
			return err
		}
		n -= m
	}
	return nil
}

// serveProtocol does what the caller's first line says. What it cannot tell the caller
// it tells w.verdict.
func (w *world) serveProtocol(c net.Conn) {
	tcp := c.(*net.TCPConn)
	r := bufio.NewReaderSize(c, 256<<10)
	line, err := r.ReadString('\n')
	if err != nil {
		return
	}
	words := strings.Fields(line)
	n := 0
	if len(words) > 1 {
		n, _ = strconv.Atoi(words[1])
	}
	answer := func(err error) {
		text := "ok"
		if err != nil {
			text = err.Error()
		}
		io.WriteString(c, text)
	}
	switch words[0] {
	case "echo":
		io.Copy(c, r)
		tcp.CloseWrite()
	case "lines":
		for {
			line, err := r.ReadString('\n')
			if err != nil {
				return
			}
			io.WriteString(c, line)
		}
	case "stream":
		sent := make(chan error, 1)
		go func() { sent <- sendPattern(c, n) }()
		answer(errors.Join(receivePattern(r, n, true), <-sent))
	case "count":
		err := receivePattern(r, n, true)
		answer(err)
		w.tell(err)
	case "sink":
		m, err := io.Copy(io.Discard, r)
		if err == nil && m != int64(n) {
			err = fmt.Errorf("%d bytes", m)
		}
		answer(err)
	case "source":
		sendPattern(c, n)
	case "closed":
		answer(nil)
		tcp.CloseWrite()
		w.tell(receivePattern(r, n, true))
	case "reset":
		time.Sleep(20 * time.Millisecond)
		tcp.SetLinger(0)
	case "abort":
		io.WriteString(c, "x")
		_, err := r.ReadByte()
		if errors.Is(err, unix.ECONNRESET) {
			err = nil
		} else {
			err = fmt.Errorf("the program's reset is %v here", err)
		}
		w.tell(err)
	}
}

func (w *world) tell(err error) {
	text := "ok"
	if err != nil {
		text = err.Error()
	}
	select {
	case w.verdict <- text:
	default:
	}
}

// told demands that a server is content.
func (w *world) told(t *testing.T, what string) {
	t.Helper()
	select {
	case text := <-w.verdict:
		if text != "ok" {
			t.Errorf("%s: the server says %s", what, text)
		}
	case <-time.After(10 * time.Second):
		t.Errorf("%s: the server says nothing", what)
	}
}

func (w *world) forgetVerdicts() {
	for {
		select {
		case <-w.verdict:
		default:
			return
		}
	}
}

func greet(c net.Conn) {
	io.WriteString(c, "hello\n")
	io.Copy(io.Discard, c)
}

// named is a server that says who it is, after a line.
func named(name string) func(net.Conn) {
	return func(c net.Conn) {
		bufio.NewReader(c).ReadString('\n')
		io.WriteString(c, name+"\n")
	}
}

// serveTLS is an echo behind TLS, with a certificate for anything.
func serveTLS(t testing.TB) func(net.Conn) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(1), NotAfter: time.Now().Add(time.Hour)}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	if err != nil {
		t.Fatal(err)
	}
	config := &tls.Config{Certificates: []tls.Certificate{{Certificate: [][]byte{der}, PrivateKey: key}}}
	return func(c net.Conn) {
		s := tls.Server(c, config)
		io.Copy(s, s)
	}
}
