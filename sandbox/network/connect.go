package network

import (
	"bytes"
	"errors"
	"fmt"
	"net/netip"

	"github.com/sbx-build/sbx/sandbox/policy"
)

// MaxConnectReply bounds what a proxy says before the connection is the target's.
const MaxConnectReply = 8 << 10

// Connect writes the request for a connection (RFC 9110, section 9.3.6) to
// HOST:PORT, with an IPv6 address in brackets.
func (p *Proxy) Connect(target string) ([]byte, error) {
	host, port, ok := splitHostPort(target)
	if a, err := netip.ParseAddr(host); err != nil || a.Zone() != "" {
		ok = ok && policy.ValidName(lower(host))
	}
	if !ok || port == 0 {
		return nil, fmt.Errorf("cannot ask a proxy for %q: it is not of the form HOST:PORT", target)
	}
	b := fmt.Appendf(nil, "CONNECT %s HTTP/1.1\r\nHost: %s\r\n", target, target)
	if p.login != "" {
		b = fmt.Appendf(b, "Proxy-Authorization: %s\r\n", p.login)
	}
	return append(b, "\r\n"...), nil
}

var errConnectReply = errors.New("the proxy's answer is no HTTP")

// ConnectReply reads what a proxy answers. It is called again with more bytes until
// it is done: then the status is known, and after n bytes follows, if the status is
// 2xx, what the target sends.
func ConnectReply(b []byte) (n, status int, done bool, err error) {
	for rest := b[:min(len(b), MaxConnectReply)]; ; {
		size, status, err := parseHead(rest)
		if err != nil {
			return 0, 0, false, err
		}
		if size == 0 {
			if len(b) >= MaxConnectReply {
				return 0, 0, false, errors.New("the proxy's answer is too long")
			}
			return 0, 0, false, nil
		}
		n += size
		if status >= 200 {
			return n, status, true, nil
		}
		rest = rest[size:] // 1xx: the answer comes after it
	}
}

// parseHead reads a status line and the fields after it, of which none matters. The
// size is 0 for as long as they are not complete.
func parseHead(b []byte) (size, status int, err error) {
	const form = "HTTP/1.x NNN"
	line := b[:min(len(b), len(form)+1)]
	for i, c := range line {
		digit := c >= '0' && c <= '9'
		switch {
		case i < 7 && c != form[i], (i == 7 || i > 8 && i < 12) && !digit, i == 8 && c != ' ':
			return 0, 0, errConnectReply
		case i == 12 && c != ' ' && c != '\r' && c != '\n':
			return 0, 0, errConnectReply
		case i > 8 && i < 12:
			status = 10*status + int(c-'0')
		}
	}
	if len(line) > 9 && line[9] == '0' || len(line) > 9 && line[9] > '5' {
		return 0, 0, errConnectReply
	}
	for at := 0; ; {
		i := bytes.IndexByte(b[at:], '\n')
		if i < 0 {
			return 0, 0, nil
		}
		if field := b[at : at+i]; at > 0 && (len(field) == 0 || len(field) == 1 && field[0] == '\r') {
			return at + i + 1, status, nil
		}
		at += i + 1
	}
}

// ConnectError is a proxy that refuses a connection.
type ConnectError struct {
	Proxy, Target string
	Status        int
}

func (e *ConnectError) Error() string {
	why := ""
	switch e.Status {
	case 403:
		why = ", it does not allow that"
	case 407:
		why = ", it wants a user name and a password"
	case 502, 503, 504:
		why = ", it cannot connect there"
	}
	return fmt.Sprintf("cannot connect to %s: the proxy %s answers %d%s", e.Target, e.Proxy, e.Status, why)
}
