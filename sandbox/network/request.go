package network

import (
	"bytes"
	"errors"
	"fmt"
	"net/netip"
	"strconv"
	"strings"
)

// maxRequest bounds the head of a request.
const maxRequest = 16 << 10

// Request is an HTTP request that goes to a proxy instead of its server.
type Request struct {
	// Head is what to send instead of the head of the request.
	Head []byte
	// Read is how many bytes that was.
	Read int
	// Body is how many bytes belong to the request after that. The proxy must not get
	// more: it would take them for another request, to whatever server they name.
	Body int64
}

// RewriteRequest reads the first request that a program sends to HOST:PORT, the target,
// and writes it as one for the proxy (RFC 9112, section 3.2.2), which is the last of its
// connection. Many proxies make connections to port 443 alone, and want the requests
// for port 80 so. It is called again with more bytes until it is done.
//
// A request that proxies might understand in two ways is an error, and so is one for
// another host.
func (p *Proxy) RewriteRequest(b []byte, target string) (r Request, done bool, err error) {
	host, port, ok := splitHostPort(target)
	if !ok || port == 0 {
		return Request{}, false, fmt.Errorf("cannot ask a proxy for %q: it is not of the form HOST:PORT", target)
	}
	end := bytes.Index(b[:min(len(b), maxRequest)], []byte("\r\n\r\n"))
	switch {
	case len(b) > 0 && !token(b[0]):
		return Request{}, false, errRequest("it is no HTTP")
	case end < 0 && len(b) >= maxRequest:
		return Request{}, false, errRequest("it is too long")
	case end < 0:
		return Request{}, false, nil
	}
	lines := strings.Split(string(b[:end]), "\r\n")
	h := head{host: host, port: port}
	if err := h.line(lines[0]); err != nil {
		return Request{}, false, err
	}
	for _, line := range lines[1:] {
		if err := h.field(line); err != nil {
			return Request{}, false, err
		}
	}
	return Request{Head: h.write(p.login), Read: end + 4, Body: h.length}, true, nil
}

func errRequest(why string) error {
	return errors.New("cannot send the request to the proxy: " + why)
}

// head is the head of a request.
type head struct {
	host string
	port uint16

	method, path, version string
	fields                []string
	named, sized          bool
	length                int64
}

// line reads the request line.
func (h *head) line(s string) error {
	method, rest, ok := strings.Cut(s, " ")
	path, version, ok1 := strings.Cut(rest, " ")
	switch {
	case !ok || !ok1 || version != "HTTP/1.1" && version != "HTTP/1.0" || !tokens(method):
		return errRequest("it is no HTTP")
	case method == "CONNECT":
		return errRequest("it asks for a connection by a proxy itself")
	case method == "TRACE": // is answered with what came, the proxy's password included
		return errRequest("it asks for what the proxy gets")
	case !strings.HasPrefix(path, "/"):
		return errRequest("its target is not a path")
	}
	for i := 0; i < len(path); i++ {
		if path[i] <= ' ' || path[i] >= 0x7f || path[i] == '#' {
			return errRequest("its target has a character that must be escaped")
		}
	}
	h.method, h.path, h.version = method, path, version
	return nil
}

// field reads a field. What is between a program and the next server alone is left
// out; it may say how long the connection lives, which is for us to say.
func (h *head) field(s string) error {
	name, value, ok := strings.Cut(s, ":")
	if !ok || !tokens(name) || strings.ContainsAny(value, "\r\n\x00") {
		return errRequest("one of its fields is malformed")
	}
	value = strings.Trim(value, " \t")
	switch lower(name) {
	case "host":
		if h.named || !h.isHost(value) {
			return errRequest("its Host is not the one that was connected to")
		}
		h.named = true
	case "content-length":
		n, err := strconv.ParseUint(value, 10, 62)
		if h.sized || err != nil {
			return errRequest("its Content-Length is malformed")
		}
		h.sized, h.length = true, int64(n)
		h.fields = append(h.fields, s)
	case "transfer-encoding":
		return errRequest("the length of its body is not known in advance")
	case "connection", "proxy-connection", "keep-alive", "proxy-authorization", "proxy-authenticate", "te", "trailer", "upgrade", "http2-settings":
	default:
		h.fields = append(h.fields, s)
	}
	return nil
}

// isHost says whether the value of Host is the target.
func (h *head) isHost(value string) bool {
	host, port, ok := splitHostPort(value)
	if port == 0 {
		port = 80
	}
	if a, err := netip.ParseAddr(host); ok && err == nil {
		b, err := netip.ParseAddr(h.host)
		return err == nil && a == b && port == h.port
	}
	return ok && canonical(host) == canonical(h.host) && port == h.port
}

// write writes the head anew.
func (h *head) write(login string) []byte {
	authority := h.host
	if strings.Contains(authority, ":") {
		authority = "[" + authority + "]"
	}
	if h.port != 80 {
		authority += ":" + strconv.Itoa(int(h.port))
	}
	b := fmt.Appendf(nil, "%s http://%s%s %s\r\nHost: %s\r\n", h.method, authority, h.path, h.version, authority)
	for _, f := range h.fields {
		b = append(append(b, f...), "\r\n"...)
	}
	if login != "" {
		b = fmt.Appendf(b, "Proxy-Authorization: %s\r\n", login)
	}
	return append(b, "Connection: close\r\n\r\n"...)
}

// tokens says whether s is a token (RFC 9110, section 5.6.2).
func tokens(s string) bool {
	for i := 0; i < len(s); i++ {
		if !token(s[i]) {
			return false
		}
	}
	return s != ""
}

func token(c byte) bool {
	return c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9' || strings.IndexByte("!#$%&'*+-.^_`|~", c) >= 0
}
