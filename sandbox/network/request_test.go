package network

import (
	"bytes"
	"strings"
	"testing"
)

func TestRewriteRequest(t *testing.T) {
	p, _ := parseProxy("http://user:pass@proxy:3128")
	const login = "Proxy-Authorization: Basic dXNlcjpwYXNz\r\nConnection: close\r\n\r\n"
	tests := []struct {
		in, target, want string
		body             int64
		fault            string
	}{
		{"GET / HTTP/1.1\r\nHost: a.example.com\r\n\r\n", "a.example.com:80", "GET http://a.example.com/ HTTP/1.1\r\nHost: a.example.com\r\n" + login, 0, ""},
		{"GET /x?y=%20 HTTP/1.1\r\nhost:A.Example.com.:80\r\nConnection: keep-alive, X\r\nUser-Agent: z \r\nKeep-Alive: 1\r\nUpgrade: h2c\r\n\r\nrest", "a.example.com:80",
			"GET http://a.example.com/x?y=%20 HTTP/1.1\r\nHost: a.example.com\r\nUser-Agent: z \r\n" + login, 0, ""},
		{"GET / HTTP/1.0\r\n\r\n", "a.example.com:80", "GET http://a.example.com/ HTTP/1.0\r\nHost: a.example.com\r\n" + login, 0, ""},
		{"POST / HTTP/1.1\r\nHost: a.example.com:8080\r\nContent-Length: 5\r\nExpect: 100-continue\r\n\r\nhello", "a.example.com:8080",
			"POST http://a.example.com:8080/ HTTP/1.1\r\nHost: a.example.com:8080\r\nContent-Length: 5\r\nExpect: 100-continue\r\n" + login, 5, ""},
		{"GET / HTTP/1.1\r\nHost: [2600::1]\r\n\r\n", "[2600::1]:80", "GET http://[2600::1]/ HTTP/1.1\r\nHost: [2600::1]\r\n" + login, 0, ""},

		{"GET / HTTP/1.1\r\nHost: b.example.com\r\n\r\n", "a.example.com:80", "", 0, "Host is not"},
		{"GET / HTTP/1.1\r\nHost: a.example.com:81\r\n\r\n", "a.example.com:80", "", 0, "Host is not"},
		{"GET / HTTP/1.1\r\nHost: a.example.com\r\nHost: b.example.com\r\n\r\n", "a.example.com:80", "", 0, "Host is not"},
		{"GET / HTTP/1.1\r\nHost: b@a.example.com\r\n\r\n", "a.example.com:80", "", 0, "Host is not"},
		{"GET http://b.example.com/ HTTP/1.1\r\nHost: a.example.com\r\n\r\n", "a.example.com:80", "", 0, "not a path"},
		{"CONNECT b.example.com:443 HTTP/1.1\r\n\r\n", "a.example.com:80", "", 0, "by a proxy itself"},
		{"TRACE / HTTP/1.1\r\nHost: a.example.com\r\nMax-Forwards: 0\r\n\r\n", "a.example.com:80", "", 0, "what the proxy gets"},
		{"OPTIONS * HTTP/1.1\r\n\r\n", "a.example.com:80", "", 0, "not a path"},
		{"GET / HTTP/2\r\n\r\n", "a.example.com:80", "", 0, "no HTTP"},
		{"GET /  HTTP/1.1\r\n\r\n", "a.example.com:80", "", 0, "no HTTP"},
		{"GET /a b HTTP/1.1\r\n\r\n", "a.example.com:80", "", 0, "no HTTP"},
		{"GET /\n HTTP/1.1\r\n\r\n", "a.example.com:80", "", 0, "must be escaped"},
		{"GET /\xff HTTP/1.1\r\n\r\n", "a.example.com:80", "", 0, "must be escaped"},
		{"GET / HTTP/1.1\r\nX: y\nHost: b\r\n\r\n", "a.example.com:80", "", 0, "malformed"},
		{"GET / HTTP/1.1\r\nX: y\rHost: b\r\n\r\n", "a.example.com:80", "", 0, "malformed"},
		{"GET / HTTP/1.1\r\nX: y\r\n folded\r\n\r\n", "a.example.com:80", "", 0, "malformed"},
		{"GET / HTTP/1.1\r\nX : y\r\n\r\n", "a.example.com:80", "", 0, "malformed"},
		{"GET / HTTP/1.1\r\nX\r\n\r\n", "a.example.com:80", "", 0, "malformed"},
		{"POST / HTTP/1.1\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n", "a.example.com:80", "", 0, "Content-Length"},
		{"POST / HTTP/1.1\r\nContent-Length: +1\r\n\r\n", "a.example.com:80", "", 0, "Content-Length"},
		{"POST / HTTP/1.1\r\nContent-Length: 1,1\r\n\r\n", "a.example.com:80", "", 0, "Content-Length"},
		{"POST / HTTP/1.1\r\nContent-Length: 9999999999999999999\r\n\r\n", "a.example.com:80", "", 0, "Content-Length"},
		{"POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n", "a.example.com:80", "", 0, "not known in advance"},
		{"\r\nGET / HTTP/1.1\r\n\r\n", "a.example.com:80", "", 0, "no HTTP"},
		{"\x16\x03\x01", "a.example.com:80", "", 0, "no HTTP"},
		{"GET / HTTP/1.1\r\nX: " + strings.Repeat("x", maxRequest), "a.example.com:80", "", 0, "too long"},
		{"GET / HTTP/1.1\r\n\r\n", "a.example.com", "", 0, "HOST:PORT"},
	}
	for _, test := range tests {
		r, done, err := p.RewriteRequest([]byte(test.in), test.target)
		if test.fault != "" {
			if err == nil || done || r.Head != nil || !strings.Contains(err.Error(), test.fault) {
				t.Errorf("%.60q: %q, %v, %v; want %q", test.in, r.Head, done, err, test.fault)
			}
			continue
		}
		if string(r.Head) != test.want || !done || err != nil || r.Body != test.body || !strings.HasSuffix(test.in[:r.Read], "\r\n\r\n") {
			t.Errorf("%.60q: %q, %+v, %v, %v", test.in, r.Head, r, done, err)
		}
		for i := range r.Read {
			if r, done, err := p.RewriteRequest([]byte(test.in[:i]), test.target); done || err != nil || r.Head != nil {
				t.Errorf("%q: %v, %v", test.in[:i], done, err)
			}
		}
	}
}

func FuzzRewriteRequest(f *testing.F) {
	f.Add([]byte("GET / HTTP/1.1\r\nHost: a.example.com\r\nContent-Length: 1\r\n\r\nx"))
	f.Add([]byte("POST /x HTTP/1.0\r\nConnection: y\r\n\r\n"))
	p, _ := parseProxy("http://user:pass@proxy:3128")
	f.Fuzz(func(t *testing.T, b []byte) {
		r, done, err := p.RewriteRequest(b, "a.example.com:80")
		if !done {
			if err == nil && len(b) >= maxRequest {
				t.Errorf("%d bytes are not enough", len(b))
			}
			return
		}
		lines := bytes.Split(r.Head, []byte("\r\n"))
		_, target, _ := bytes.Cut(lines[0], []byte(" "))
		hosts := 0
		for _, line := range lines[1:] {
			if bytes.HasPrefix(bytes.ToLower(line), []byte("host:")) {
				hosts++
			}
			if bytes.ContainsAny(line, "\r\n") {
				t.Errorf("%q has half an end of line", line)
			}
		}
		if !bytes.HasPrefix(target, []byte("http://a.example.com/")) || hosts != 1 || bytes.Count(r.Head, []byte("\r\n\r\n")) != 1 || err != nil {
			t.Errorf("%q has become %q", b, r.Head)
		}
		// What was written is a request that is read as the same one.
		path := bytes.Replace(r.Head, []byte(" http://a.example.com/"), []byte(" /"), 1)
		if again, done, err := p.RewriteRequest(path, "a.example.com:80"); !done || err != nil || again.Body != r.Body || !bytes.Equal(again.Head, r.Head) {
			t.Errorf("%q is read as %q, %v", path, again.Head, err)
		}
	})
}
