package main

import (
	"context"
	"crypto/tls"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"slices"
	"strings"
	"time"

	"golang.org/x/net/dns/dnsmessage"
)

// lookup NAME: its addresses.
func lookup(args []string) error {
	ctx, cancel := context.WithTimeout(context.Background(), 15*time.Second)
	defer cancel()
	addrs, err := net.DefaultResolver.LookupHost(ctx, args[0])
	var e *net.DNSError
	if errors.As(err, &e) && e.IsNotFound {
		return errors.New("NXDOMAIN")
	}
	slices.Sort(addrs)
	say("%s", strings.Join(addrs, " "))
	return err
}

var types = map[string]dnsmessage.Type{
	"A": dnsmessage.TypeA, "AAAA": dnsmessage.TypeAAAA, "CNAME": dnsmessage.TypeCNAME, "TXT": dnsmessage.TypeTXT, "SRV": dnsmessage.TypeSRV,
	"MX": dnsmessage.TypeMX, "NS": dnsmessage.TypeNS, "PTR": dnsmessage.TypePTR, "HTTPS": dnsmessage.TypeHTTPS, "ANY": dnsmessage.TypeALL, "NULL": 10,
}

// query NETWORK SERVER TYPE NAME: one question, by hand. It says the answers.
func query(args []string) error {
	n, err := dnsmessage.NewName(strings.TrimSuffix(args[3], ".") + ".")
	if err != nil {
		return err
	}
	m := dnsmessage.Message{Header: dnsmessage.Header{ID: 77, RecursionDesired: true}, Questions: []dnsmessage.Question{{Name: n, Type: types[args[2]], Class: dnsmessage.ClassINET}}}
	q, err := m.Pack()
	if err != nil {
		return err
	}
	c, err := net.DialTimeout(args[0], args[1], 3*time.Second)
	if err != nil {
		return err
	}
	defer c.Close()
	c.SetDeadline(time.Now().Add(8 * time.Second))
	tcp := args[0] == "tcp"
	if tcp {
		q = append(binary.BigEndian.AppendUint16(nil, uint16(len(q))), q...)
	}
	if _, err := c.Write(q); err != nil {
		return err
	}
	buf := make([]byte, 65536)
	size := 0
	if tcp {
		if _, err := io.ReadFull(c, buf[:2]); err != nil {
			return err
		}
		size = int(binary.BigEndian.Uint16(buf))
		_, err = io.ReadFull(c, buf[:size])
	} else {
		size, err = c.Read(buf)
	}
	if err != nil {
		return err
	}
	var r dnsmessage.Message
	if err := r.Unpack(buf[:size]); err != nil {
		return err
	}
	if r.ID != 77 || !r.Response {
		return fmt.Errorf("it is no answer: %v", r.GoString())
	}
	if r.Truncated {
		say("truncated")
	}
	say("%s", strings.TrimPrefix(r.RCode.String(), "RCode"))
	for _, a := range r.Answers {
		switch b := a.Body.(type) {
		case *dnsmessage.AResource:
			say("%v", net.IP(b.A[:]))
		case *dnsmessage.AAAAResource:
			say("%v", net.IP(b.AAAA[:]))
		case *dnsmessage.CNAMEResource:
			say("%v", b.CNAME)
		case *dnsmessage.TXTResource:
			say("%q", strings.Join(b.TXT, "")[:min(20, len(strings.Join(b.TXT, "")))])
		case *dnsmessage.SRVResource:
			say("%d:%d:%d:%v", b.Priority, b.Weight, b.Port, b.Target)
		case *dnsmessage.MXResource:
			say("%d:%v", b.Pref, b.MX)
		case *dnsmessage.PTRResource:
			say("%v", b.PTR)
		default:
			say("%v", a.Header.Type)
		}
	}
	return nil
}

// slow writes a piece at a time.
type slow struct {
	net.Conn
	piece int
}

func (s slow) Write(b []byte) (int, error) {
	for at := 0; at < len(b); at += s.piece {
		if at > 0 {
			time.Sleep(30 * time.Millisecond)
		}
		if n, err := s.Conn.Write(b[at:min(at+s.piece, len(b))]); err != nil {
			return at + n, err
		}
	}
	return len(b), nil
}

// tls ADDRESS SNI PIECE: a handshake, of which the first message is sent PIECE bytes at
// a time, 0 for all at once. The SNI may be "-" for none.
func handshake(args []string) error {
	c, err := net.DialTimeout("tcp", args[0], 5*time.Second)
	if err != nil {
		return err
	}
	defer c.Close()
	config := &tls.Config{InsecureSkipVerify: true, ServerName: args[1]}
	if args[1] == "-" {
		config.ServerName = ""
	}
	if n := number(args[2]); n > 0 {
		c = slow{c, n}
	}
	c.SetDeadline(time.Now().Add(15 * time.Second))
	s := tls.Client(c, config)
	if err := s.Handshake(); err != nil {
		return err
	}
	io.WriteString(s, "hi\n")
	b := make([]byte, 3)
	if _, err := io.ReadFull(s, b); err != nil {
		return err
	}
	return nil
}

// said ADDRESS TEXT: sends the text, and says what comes back.
func saidFirst(args []string) error {
	c, err := net.DialTimeout("tcp", args[0], 5*time.Second)
	if err != nil {
		return err
	}
	defer c.Close()
	text := strings.Join(args[1:], " ")
	if _, err := io.WriteString(c, text+"\n"); err != nil {
		return err
	}
	c.SetDeadline(time.Now().Add(5 * time.Second))
	b := make([]byte, 200)
	n, err := c.Read(b)
	say("%q", b[:n])
	return err
}
