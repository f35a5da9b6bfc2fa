package tests

import (
	"bufio"
	"encoding/base64"
	"fmt"
	"io"
	"net"
	"strings"
	"sync"
	"testing"
	"time"
)

// proxy is an HTTP proxy that knows CONNECT.
type proxy struct {
	addr string
	mu   sync.Mutex
	log  []string // targets, with the credentials
}

func (p *proxy) asked() []string {
	p.mu.Lock()
	defer p.mu.Unlock()
	defer func() { p.log = nil }()
	return p.log
}

// proxyAt serves one that sends every connection to a server, and answers as a test wants.
func (w *world) proxyAt(ns int, addr, server string, answer func(target, login string) string) *proxy {
	p := &proxy{}
	p.addr = w.listen(ns, addr, func(c net.Conn) {
		r := bufio.NewReader(c)
		line, err := r.ReadString('\n')
		login := ""
		for err == nil {
			var field string
			if field, err = r.ReadString('\n'); strings.TrimSpace(field) == "" {
				break
			}
			if v, ok := strings.CutPrefix(field, "Proxy-Authorization: Basic "); ok {
				b, _ := base64.StdEncoding.DecodeString(strings.TrimSpace(v))
				login = string(b)
			}
		}
		words := strings.Fields(line)
		if len(words) != 3 || words[0] != "CONNECT" {
			io.WriteString(c, "HTTP/1.1 405 No\r\n\r\n")
			return
		}
		p.mu.Lock()
		p.log = append(p.log, words[1]+" "+login)
		p.mu.Unlock()
		text := answer(words[1], login)
		io.WriteString(c, text)
		if !strings.Contains(text, " 200 ") || strings.HasPrefix(text, "HTTP/9") {
			return
		}
		var up net.Conn
		w.in(ns, func() { up, err = net.DialTimeout("tcp", server, time.Second) })
		if err != nil {
			return
		}
		defer up.Close()
		go func() {
			io.Copy(up, r)
			up.(*net.TCPConn).CloseWrite()
		}()
		io.Copy(c, up)
	})
	return p
}

func connected(string, string) string { return "HTTP/1.1 200 Connection established\r\nX: y\r\n\r\n" }

// TestNetProxy: where the host reaches the internet by a proxy, so does the sandbox,
// which learns nothing of it.
func TestNetProxy(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	// The host resolves nothing of the internet.
	s := w.nameserver(map[string][]string{"A direct.example.com": {"93.184.216.3"}})
	w.listen(w.wan, "93.184.216.1:443", serveTLS(t))
	w.listen(w.wan, "93.184.216.3:443", named("direct"))
	w.listen(w.wan, "10.77.0.9:9999", named("neighbour"))
	ask := func(target, login string) string {
		if login != "user:pa:ss" {
			return "HTTP/1.1 407 Proxy Authentication Required\r\nProxy-Authenticate: Basic\r\nContent-Length: 0\r\n\r\n"
		}
		if strings.HasPrefix(target, "busy.") {
			return "HTTP/1.1 503 Busy\r\n\r\n"
		}
		return connected(target, login)
	}
	p := w.proxyAt(w.wan, "10.77.0.9:3128", "93.184.216.1:443", ask)
	env := []string{"HTTPS_PROXY=http://user:pa%3Ass@10.77.0.9:3128", "http_proxy=http://user:pa%3Ass@10.77.0.9:3128", "NO_PROXY=direct.example.com,10.0.0.0/8"}
	w.devices(t, func(t *testing.T) {
		for _, flags := range [][]string{nil, {"--net=none", "--net-allow", "www.example.net", "--net-allow", "busy.example.net", "--net-allow", "direct.example.com"}} {
			calls := []string{"tls www.example.net:443 www.example.net 0", "said direct.example.com:443 x", "dial tcp busy.example.net:443"}
			r := w.sbxEnv(env, append(append([]string{}, flags...), append([]string{"--", "./caller"}, calls...)...)...)
			o := parse(t, r, calls)
			o.is(t, calls[0], "done")
			o.is(t, calls[1], `done "direct\n"`)
			if got := o[calls[2]]; !strings.HasPrefix(got, "E") {
				t.Errorf("503 is %q", got)
			}
			if got := fmt.Sprint(p.asked()); got != "[www.example.net:443 user:pa:ss busy.example.net:443 user:pa:ss]" {
				t.Errorf("the proxy was asked for %s", got)
			}
			if c := find(w.contacts(t), "busy.example.net", 443); c == nil || !strings.Contains(c.Denied, "503") {
				t.Errorf("the record says %+v", c)
			}
			if strings.Contains(fmt.Sprint(r, w.contacts(t)), "pa:ss") || strings.Contains(fmt.Sprint(r, w.contacts(t)), "pa%3Ass") {
				t.Errorf("the password is shown: %v", r)
			}
			// Nothing of it is inside, the proxy itself included.
			all := w.sbxEnv(env, append(append([]string{}, flags...), "--", "sh", "-c", "env; cat /proc/*/environ /proc/net/tcp; cat /etc/environment /etc/apt/apt.conf.d/* ~/.npmrc ~/.gitconfig 2>/dev/null; git config --list; npm config list 2>/dev/null; true")...)
			for _, word := range []string{"pa:ss", "pa%3A", "3128", "_PROXY", "_proxy", base64.StdEncoding.EncodeToString([]byte("user:pa:ss"))} {
				if strings.Contains(strings.ReplaceAll(all.Stdout, "no_proxy", ""), word) {
					t.Errorf("%q is inside:\n%s", word, all.Stdout)
				}
			}
			w.inside(t, flags, "said 10.77.0.9:3128 x").refused(t, "said 10.77.0.9:3128 x")
		}
		o := w.sbxEnv(env, "--net=none", "--net-allow", "www.example.net", "--", "./caller", "dial tcp evil.example.net:443")
		if !strings.Contains(o.Stderr, "denied: evil.example.net") || len(p.asked()) != 0 {
			t.Error(o)
		}
	})
	s.onlyAsked(t, "www.example.net", "busy.example.net", "direct.example.com")
	// A wrong password is an error, and said.
	bad := []string{"HTTPS_PROXY=http://user:no@10.77.0.9:3128"}
	r := w.sbxEnv(bad, "--", "./caller", "dial tcp www.example.net:443")
	if o := parse(t, r, []string{"dial tcp www.example.net:443"}); !strings.HasPrefix(o["dial tcp www.example.net:443"], "E") || !strings.Contains(r.Stderr, "407") {
		t.Errorf("a wrong password: %v", r)
	}
	if c := find(w.contacts(t), "www.example.net", 443); c == nil || !strings.Contains(c.Denied, "407") {
		t.Errorf("the record says %+v", c)
	}
	// UDP does not go round it.
	call := "datagram www.example.net:443 10"
	if got := parse(t, w.sbxEnv(env, "--", "./caller", call), []string{call})[call]; !strings.HasPrefix(got, "E") {
		t.Errorf("UDP: %s", got)
	}
}

// TestNetProxyHostile: what a proxy answers harms nobody.
func TestNetProxyHostile(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.nameserver(nil)
	w.listen(w.wan, "93.184.216.1:443", serveTLS(t))
	answers := map[string]string{
		"garbage": "\x00\xff\x16\x03 what", "endless": "HTTP/1.1 200 OK\r\nX: " + strings.Repeat("x", 100_000), "empty": "", "short": "HTTP/1.1 2",
		"version": "HTTP/9.9 200 OK\r\n\r\n", "redirect": "HTTP/1.1 302 Found\r\nLocation: http://x/\r\n\r\n", "ssh": "SSH-2.0-x\r\n", "code": "HTTP/1.1 999 x\r\n\r\n",
		"lines": "HTTP/1.1 " + strings.Repeat("\n", 9000),
	}
	w.proxyAt(w.wan, "10.77.0.9:3128", "93.184.216.1:443", func(target, _ string) string {
		name, _, _ := strings.Cut(target, ".")
		if text, ok := answers[name]; ok {
			return text
		}
		if name == "continued" {
			return "HTTP/1.1 100 Continue\r\n\r\nHTTP/1.0 200 OK\n\n"
		}
		return connected(target, "")
	})
	env := []string{"HTTPS_PROXY=http://10.77.0.9:3128"}
	var calls []string
	for name := range answers {
		calls = append(calls, "dial tcp "+name+".example.net:443")
	}
	good := []string{"tls www.example.net:443 x 0", "tls continued.example.net:443 x 0"}
	o := parse(t, w.sbxEnv(env, append(append([]string{"--", "./caller"}, calls...), good...)...), append(append([]string{}, calls...), good...))
	for _, call := range calls {
		if got := o[call]; !strings.HasPrefix(got, "E") || got == "ETIMEDOUT" {
			t.Errorf("%q ends with %q", call, got)
		}
	}
	for _, call := range good {
		o.is(t, call, "done")
	}
	// The proxy is not there: an error of the program's, and not a wait.
	r := w.sbxEnv([]string{"HTTPS_PROXY=http://10.77.0.9:3129"}, "--", "./caller", "dial tcp www.example.net:443")
	if o := parse(t, r, []string{"dial tcp www.example.net:443"}); !strings.HasPrefix(o["dial tcp www.example.net:443"], "E") {
		t.Error(r)
	}
	// Variables that cannot be used are an error that says so, without what is in them.
	for _, value := range []string{"socks5://user:pa55@10.77.0.9:1080", "http://user:pa55@[::1", "http://user:pa55@10.77.0.9:99999", "ftp://user:pa55@x"} {
		r := w.sbxEnv([]string{"HTTPS_PROXY=" + value}, "--", "sleep", "0.3")
		if !strings.Contains(r.Stderr, "HTTPS_PROXY") || strings.Contains(r.Stderr+r.Stdout, "pa55") {
			t.Errorf("%s: %v", value, r)
		}
	}
}
