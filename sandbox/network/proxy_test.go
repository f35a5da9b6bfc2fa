package network

import (
	"errors"
	"fmt"
	"net/netip"
	"strings"
	"testing"
)

func env(vars ...string) func(string) string {
	return func(name string) string {
		for _, v := range vars {
			if value, ok := strings.CutPrefix(v, name+"="); ok {
				return value
			}
		}
		return ""
	}
}

func TestParseProxies(t *testing.T) {
	tests := []struct{ env, https, http, other, fault string }{
		{"", "", "", "", ""},
		{"HTTPS_PROXY=http://proxy.example.com:3128", "proxy.example.com:3128", "", "proxy.example.com:3128", ""},
		{"https_proxy=http://low.example.com:1 HTTPS_PROXY=http://up.example.com:2", "low.example.com:1", "", "low.example.com:1", ""},
		{"HTTP_PROXY=proxy:3128", "", "proxy:3128", "", ""},
		{"ALL_PROXY=proxy.example.com", "proxy.example.com:80", "proxy.example.com:80", "proxy.example.com:80", ""},
		{"all_proxy=HTTP://Proxy.Example.com./x?y HTTPS_PROXY=127.0.0.1:3128", "127.0.0.1:3128", "proxy.example.com:80", "127.0.0.1:3128", ""},
		{"HTTPS_PROXY=http://[::1]:3128/", "[::1]:3128", "", "[::1]:3128", ""},
		{"HTTPS_PROXY=http://user:secret@proxy.example.com:3128", "proxy.example.com:3128", "", "proxy.example.com:3128", ""},
		{"HTTPS_PROXY=https://user:secret@proxy.example.com", "", "", "", "$HTTPS_PROXY: only an HTTP proxy"},
		{"all_proxy=socks5h://user:secret@proxy.example.com", "", "", "", "not one of socks5h://"},
		{"http_proxy=ftp://user:secret@proxy.example.com", "", "", "", "$http_proxy: it is not of the form"},
		{"HTTP_PROXY=http://user:secret@", "", "", "", "no valid host"},
		{"HTTP_PROXY=http://user:secret%zz@proxy", "", "", "", "user name or password"},
		{"HTTP_PROXY=http://us%3aer:secret@proxy", "", "", "", "user name or password"},
		{"HTTP_PROXY=http://secret\r\nX:y@proxy:0", "", "", "", "no valid host"},
		{"HTTP_PROXY=http://secret\r\nx", "", "", "", "no valid host"},
		{"HTTP_PROXY=http://proxy:70000", "", "", "", "no valid host"},
		{"HTTP_PROXY=http://[::1", "", "", "", "no valid host"},
		{"HTTP_PROXY=http://[fe80::1%eth0]:3128", "", "", "", "no valid host"},
		{"HTTP_PROXY=http://[::1]x", "", "", "", "no valid host"},
		{"HTTP_PROXY=http://", "", "", "", "no valid host"},
	}
	for _, test := range tests {
		p, err := ParseProxies(env(strings.Split(test.env, " ")...))
		if test.fault != "" {
			var e *ProxyError
			if !errors.As(err, &e) || !strings.Contains(err.Error(), test.fault) || strings.Contains(err.Error(), "secret") || p.Any() {
				t.Errorf("%s: %v, want %q", test.env, err, test.fault)
			}
			continue
		}
		for port, want := range map[uint16]string{443: test.https, 80: test.http, 22: test.other} {
			got := ""
			if proxy := p.For("a.example.com", netip.Addr{}, port); proxy != nil {
				got = proxy.String()
			}
			if got != want || err != nil || p.Any() != (test.https+test.http != "") {
				t.Errorf("%s, port %d: %q, %v; want %q", test.env, port, got, err, want)
			}
		}
		s := fmt.Sprintf("%v %+v %#v", p, p, p)
		if p.https != nil {
			s += fmt.Sprintf("%v %+v %#v", p.https, p.https, p.https)
		}
		if strings.Contains(s, "secret") || strings.Contains(s, "dXNlcjpzZWNyZXQ=") {
			t.Errorf("the password is printed: %s", s)
		}
	}
}

func TestNoProxy(t *testing.T) {
	tests := []struct {
		no, host string
		port     uint16
		direct   bool
	}{
		{"", "a.example.com", 443, false},
		{"*", "a.example.com", 443, true},
		{"example.com", "example.com", 443, true},
		{"example.com", "a.Example.com.", 443, true},
		{"example.com", "aexample.com", 443, false},
		{"example.com", "example.com.evil.example", 443, false},
		{".example.com", "a.example.com", 443, true},
		{".example.com", "example.com", 443, false},
		{"*.example.com", "a.b.example.com", 443, true},
		{"*.example.com", "example.com", 443, false},
		{"EXAMPLE.com:8443", "a.example.com", 8443, true},
		{"example.com:8443", "a.example.com", 443, false},
		{"x, ,example.com\tother.example", "example.com", 443, true},
		{"x, ,example.com\tother.example", "other.example", 443, true},
		{"10.0.0.0/8", "10.1.2.3", 443, true},
		{"10.0.0.0/8", "11.1.2.3", 443, false},
		{"10.0.0.0/8", "a.example.com", 443, false},
		{"10.1.2.3", "10.1.2.3", 443, true},
		{"10.1.2.3:80", "10.1.2.3", 443, false},
		{"fd00::/8", "fd00::1", 443, true},
		{"fd00::1", "fd00::1", 443, true},
		{"[fd00::1]:443", "fd00::1", 443, true},
		{"10.0.0.0/8", "::ffff:10.1.2.3", 443, true},
		{"", "127.0.0.1", 443, true},
		{"", "::1", 443, true},
		{"", "localhost", 443, true},
		{":,:1,[,[x,a:b:c,.,*.,/,%", "a.example.com", 443, false},
	}
	for _, test := range tests {
		p, err := ParseProxies(env("ALL_PROXY=http://proxy", "NO_PROXY="+test.no))
		if err != nil {
			t.Fatal(err)
		}
		addr, err := netip.ParseAddr(test.host)
		name := test.host
		if err == nil {
			name = ""
		}
		if got := p.For(name, addr, test.port) == nil; got != test.direct {
			t.Errorf("NO_PROXY=%s, %s:%d is direct: %v", test.no, test.host, test.port, got)
		}
	}
}

func TestConnect(t *testing.T) {
	for url, want := range map[string]string{
		"http://proxy:3128":               "",
		"http://@proxy:3128":              "",
		"http://user:pass@proxy:3128":     "Proxy-Authorization: Basic dXNlcjpwYXNz\r\n",
		"http://user@proxy:3128":          "Proxy-Authorization: Basic dXNlcjo=\r\n",
		"http://u%40x:p%3A%0a%2F@proxy:1": "Proxy-Authorization: Basic dUB4OnA6Ci8=\r\n",
	} {
		p, reason := parseProxy(url)
		if reason != "" {
			t.Fatal(reason)
		}
		for target, ok := range map[string]bool{
			"a.example.com:443": true, "[2600::1]:443": true, "192.0.2.1:80": true, "A.example.com:443": true,
			"a.example.com": false, "a.example.com:0": false, ":443": false, "": false, "a b:443": false, "a\r\nb:443": false,
			"a.example.com:443\r\nX: y": false, "a.example.com:443 ": false, "[fe80::1%25eth0]:443": false, "user@a.example.com:443": false, "a/b:443": false,
		} {
			b, err := p.Connect(target)
			if !ok {
				if b != nil || err == nil {
					t.Errorf("%q: %q, %v", target, b, err)
				}
				continue
			}
			if full := "CONNECT " + target + " HTTP/1.1\r\nHost: " + target + "\r\n" + want + "\r\n"; string(b) != full || err != nil {
				t.Errorf("%s, %s: %q, %v", url, target, b, err)
			}
		}
	}
}

func TestConnectReply(t *testing.T) {
	long := "HTTP/1.1 200 OK\r\nX: " + strings.Repeat("x", MaxConnectReply)
	tests := []struct {
		in, rest string
		status   int
		fault    bool
	}{
		{"HTTP/1.1 200 Connection established\r\n\r\n", "", 200, false},
		{"HTTP/1.0 200 OK\r\nA: b\r\nC: d\r\n\r\nSSH-2.0-x", "SSH-2.0-x", 200, false},
		{"HTTP/1.1 200\r\n\r\n\r\n", "\r\n", 200, false},
		{"HTTP/1.1 200\n\nrest", "rest", 200, false},
		{"HTTP/1.1 407 Proxy Authentication Required\r\nContent-Length: 5\r\n\r\nlogin", "login", 407, false},
		{"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 x\r\nA: b\r\n\r\nHTTP/1.1 204 x\r\n\r\n", "", 204, false},
		{"HTTP/2 200\r\n\r\n", "", 0, true},
		{"HTTP/1.1 2000 OK\r\n\r\n", "", 0, true},
		{"HTTP/1.1 020 OK\r\n\r\n", "", 0, true},
		{"HTTP/1.1 600 OK\r\n\r\n", "", 0, true},
		{"HTTP/1.1 20x OK\r\n\r\n", "", 0, true},
		{"HTTP/1.1  200 OK\r\n\r\n", "", 0, true},
		{"http/1.1 200 OK\r\n\r\n", "", 0, true},
		{"SSH-2.0-x\r\n", "", 0, true},
		{"\r\n\r\n", "", 0, true},
		{"HTTP/1.1 \r\n\r\n", "", 0, true},
		{"HTTP/1.1 200 OK\r\n\r\nHTTP/1.1 500 x\r\n\r\n", "HTTP/1.1 500 x\r\n\r\n", 200, false},
		{"HTTP/1.1 100 x\r\n\r\nnonsense", "", 0, true},
		{long, "", 0, true},
		{strings.Repeat("HTTP/1.1 100 x\r\n\r\n", 600) + "HTTP/1.1 200 x\r\n\r\n", "", 0, true},
	}
	for _, test := range tests {
		n, status, done, err := ConnectReply([]byte(test.in))
		if test.fault {
			if err == nil || done || n != 0 {
				t.Errorf("%.40q: %d, %d, %v, %v", test.in, n, status, done, err)
			}
			continue
		}
		if err != nil || !done || status != test.status || test.in[n:] != test.rest {
			t.Errorf("%.40q: %d, %d, %v, %v", test.in, n, status, done, err)
		}
		for i := range n {
			if got, s, done, err := ConnectReply([]byte(test.in[:i])); done || err != nil || got != 0 || s != 0 {
				t.Errorf("%d bytes of %.40q: %d, %d, %v, %v", i, test.in, got, s, done, err)
			}
		}
	}
}

func TestConnectError(t *testing.T) {
	p, _ := parseProxy("http://user:secret@proxy.example.com:3128")
	for status, want := range map[int]string{403: "does not allow", 407: "a user name", 502: "cannot connect there", 418: "answers 418"} {
		err := &ConnectError{Proxy: p.String(), Target: "a.example.com:443", Status: status}
		if s := err.Error(); !strings.HasPrefix(s, "cannot connect to a.example.com:443: the proxy proxy.example.com:3128 answers") || !strings.Contains(s, want) {
			t.Errorf("%d: %s", status, s)
		}
	}
}

func FuzzConnectReply(f *testing.F) {
	for _, s := range []string{"HTTP/1.1 200 OK\r\n\r\n", "HTTP/1.0 407 x\r\nA: b\r\n\r\nbody", "HTTP/1.1 100 x\n\nHTTP/1.1 200\n\n"} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		n, status, done, err := ConnectReply(b)
		switch {
		case done != (n > 0) || done != (status >= 200) || done && err != nil || n > len(b) || n > MaxConnectReply:
			t.Errorf("%q: %d, %d, %v, %v", b, n, status, done, err)
		case !done && err == nil && len(b) >= MaxConnectReply:
			t.Errorf("%d bytes are not enough", len(b))
		case done:
			if again, s, _, _ := ConnectReply(b[:n]); again != n || s != status {
				t.Errorf("%q: %d, %d; without what is behind: %d, %d", b, n, status, again, s)
			}
		}
	})
}

func FuzzParseProxies(f *testing.F) {
	f.Add("http://u:p@proxy:1", "a,.b,*.c,10.0.0.0/8,[::1]:2,*")
	f.Fuzz(func(t *testing.T, url, no string) {
		p, err := ParseProxies(env("ALL_PROXY="+url, "NO_PROXY="+no))
		if err != nil || !p.Any() {
			return
		}
		if b, err := p.all.Connect(p.all.String()); err != nil || strings.Count(string(b), "\n") > 4 {
			t.Errorf("%q: %q, %v", url, b, err)
		}
		p.For("a.example.com", netip.Addr{}, 443)
	})
}
