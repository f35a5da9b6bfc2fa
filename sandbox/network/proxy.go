package network

import (
	"fmt"
	"net/netip"
	"strconv"
	"strings"
)

// Proxy is an HTTP proxy of the host's. Who prints it does not see the password.
type Proxy struct {
	// Host is a name or an address.
	Host string
	Port uint16
	// login is the value of Proxy-Authorization, empty for none.
	login string
}

// String is HOST:PORT.
func (p *Proxy) String() string {
	if strings.Contains(p.Host, ":") {
		return "[" + p.Host + "]:" + strconv.Itoa(int(p.Port))
	}
	return p.Host + ":" + strconv.Itoa(int(p.Port))
}

// GoString is for %#v, which would print the password.
func (p *Proxy) GoString() string { return p.String() }

// Proxies are the proxies that the environment names, as curl(1) and Go's net/http
// understand it: HTTPS_PROXY, HTTP_PROXY, ALL_PROXY and NO_PROXY, of each in lower
// case too, which counts more. The zero value has none.
type Proxies struct {
	http, https, all *Proxy
	direct           []direct
}

// direct is an entry of NO_PROXY.
type direct struct {
	everything bool
	prefix     netip.Prefix
	name       string
	// below means that name itself is not meant.
	below bool
	port  uint16
}

// ProxyError is a variable that cannot be used.
type ProxyError struct {
	Variable, Reason string
}

func (e *ProxyError) Error() string {
	return fmt.Sprintf("cannot use the proxy in $%s: %s", e.Variable, e.Reason)
}

// ParseProxies reads the environment. Variables that cannot be used are left out, and
// the error is about the first of them: a *ProxyError, without the value, which may have
// a password in it.
func ParseProxies(getenv func(string) string) (Proxies, error) {
	var p Proxies
	var first error
	for _, v := range []struct {
		name  string
		proxy **Proxy
	}{{"HTTPS_PROXY", &p.https}, {"HTTP_PROXY", &p.http}, {"ALL_PROXY", &p.all}} {
		name, value := lookupEither(getenv, v.name)
		if value == "" {
			continue
		}
		proxy, reason := parseProxy(value)
		if reason != "" {
			if first == nil {
				first = &ProxyError{Variable: name, Reason: reason}
			}
			continue
		}
		*v.proxy = proxy
	}
	_, value := lookupEither(getenv, "NO_PROXY")
	for _, s := range strings.FieldsFunc(value, func(r rune) bool { return r == ',' || r == ' ' || r == '\t' }) {
		if d, ok := parseDirect(lower(s)); ok {
			p.direct = append(p.direct, d)
		}
	}
	return p, first
}

// lookupEither prefers the variable in lower case.
func lookupEither(getenv func(string) string, name string) (found, value string) {
	if value := strings.TrimSpace(getenv(strings.ToLower(name))); value != "" {
		return strings.ToLower(name), value
	}
	return name, strings.TrimSpace(getenv(name))
}

// parseDirect reads an entry of NO_PROXY: *, an address or a range of them, or a
// name, which means the names below too; with a dot or *. in front, those alone. All
// but ranges may have a port. What is none of that is left out, as others do.
func parseDirect(s string) (d direct, ok bool) {
	if s == "*" {
		return direct{everything: true}, true
	}
	if p, err := netip.ParsePrefix(s); err == nil {
		return direct{prefix: p.Masked()}, true
	}
	host, port, ok := splitHostPort(s)
	if !ok {
		return direct{}, false
	}
	if a, err := netip.ParseAddr(host); err == nil {
		return direct{prefix: netip.PrefixFrom(a.Unmap(), a.Unmap().BitLen()), port: port}, a.Zone() == ""
	}
	host = strings.TrimPrefix(strings.TrimSuffix(host, "."), "*")
	name, below := strings.CutPrefix(host, ".")
	return direct{name: name, below: below, port: port}, name != ""
}

// splitHostPort takes HOST[:PORT] apart, with brackets around IPv6 addresses or, if
// there is no port, without. The port is 0 if there is none.
func splitHostPort(s string) (host string, port uint16, ok bool) {
	host, rest := s, ""
	if inner, bracket := strings.CutPrefix(s, "["); bracket {
		if host, rest, ok = strings.Cut(inner, "]"); !ok || rest != "" && rest[0] != ':' {
			return "", 0, false
		}
		rest = strings.TrimPrefix(rest, ":")
	} else if strings.Count(s, ":") == 1 {
		host, rest, _ = strings.Cut(s, ":")
	}
	if rest == "" {
		return host, 0, host != ""
	}
	n, err := strconv.ParseUint(rest, 10, 16)
	return host, uint16(n), err == nil && n != 0 && host != ""
}

// Any says whether there is a proxy at all.
func (p *Proxies) Any() bool { return p.http != nil || p.https != nil || p.all != nil }

// For gives the proxy for connections to a name or, where that is empty, an address;
// nil for none. Port 80 is for HTTP_PROXY, every other for HTTPS_PROXY, as only CONNECT
// goes through. The host itself is never behind a proxy.
func (p *Proxies) For(name string, addr netip.Addr, port uint16) *Proxy {
	proxy := p.https
	if port == 80 {
		proxy = p.http
	}
	if proxy == nil {
		proxy = p.all
	}
	name = canonical(name)
	if name == "" && addr.IsLoopback() || name == "localhost" {
		return nil
	}
	for i := range p.direct {
		if p.direct[i].matches(name, addr.Unmap(), port) {
			return nil
		}
	}
	return proxy
}

func (d *direct) matches(name string, addr netip.Addr, port uint16) bool {
	switch {
	case d.port != 0 && d.port != port:
		return false
	case d.everything:
		return true
	case d.prefix.IsValid():
		return addr.IsValid() && d.prefix.Contains(addr)
	}
	return name == d.name && !d.below || below(name, d.name)
}
