package network

import (
	"encoding/base64"
	"net/netip"
	"strings"

	"github.com/sbx-build/sbx/sandbox/policy"
)

// parseProxy reads [http://][USER[:PASSWORD]@]HOST[:PORT][/]. The reason why it
// cannot has nothing of the value but its scheme.
func parseProxy(s string) (p *Proxy, reason string) {
	scheme, rest, ok := strings.Cut(s, "://")
	if !ok {
		scheme, rest = "http", s
	}
	switch lower(scheme) {
	case "http":
	case "https", "socks", "socks4", "socks4a", "socks5", "socks5h":
		return nil, "only an HTTP proxy, http://HOST:PORT, can be used, not one of " + lower(scheme) + "://"
	default:
		return nil, "it is not of the form http://HOST:PORT"
	}
	if i := strings.IndexAny(rest, "/?#"); i >= 0 {
		rest = rest[:i]
	}
	p = &Proxy{}
	if i := strings.LastIndexByte(rest, '@'); i >= 0 {
		if p.login, ok = login(rest[:i]); !ok {
			return nil, "its user name or password is not written as in a URL"
		}
		rest = rest[i+1:]
	}
	if p.Host, p.Port, ok = splitHostPort(lower(rest)); !ok {
		return nil, "it has no valid host and port"
	}
	if a, err := netip.ParseAddr(p.Host); err == nil && a.Zone() == "" {
		p.Host = a.String()
	} else if p.Host = strings.TrimSuffix(p.Host, "."); !policy.ValidName(p.Host) {
		return nil, "it has no valid host and port"
	}
	if p.Port == 0 {
		p.Port = 80
	}
	return p, ""
}

// login makes the value of Proxy-Authorization (RFC 7617) of the user's part of a
// URL.
func login(userinfo string) (value string, ok bool) {
	user, password, _ := strings.Cut(userinfo, ":")
	user, ok = unescape(user)
	password, ok1 := unescape(password)
	if !ok || !ok1 || strings.Contains(user, ":") {
		return "", false
	}
	if user == "" && password == "" {
		return "", true
	}
	return "Basic " + base64.StdEncoding.EncodeToString([]byte(user+":"+password)), true
}

// unescape decodes %XX (RFC 3986, section 2.1).
func unescape(s string) (string, bool) {
	if !strings.Contains(s, "%") {
		return s, true
	}
	b := make([]byte, 0, len(s))
	for i := 0; i < len(s); i++ {
		if s[i] != '%' {
			b = append(b, s[i])
			continue
		}
		if i+2 >= len(s) {
			return "", false
		}
		high, ok := unhex(s[i+1])
		low, ok1 := unhex(s[i+2])
		if !ok || !ok1 {
			return "", false
		}
		b = append(b, high<<4|low)
		i += 2
	}
	return string(b), true
}

func unhex(c byte) (byte, bool) {
	switch {
	case c >= '0' && c <= '9':
		return c - '0', true
	case c|0x20 >= 'a' && c|0x20 <= 'f':
		return c | 0x20 - 'a' + 10, true
	}
	return 0, false
}

// lower is strings.ToLower for ASCII alone: there are other letters whose lower case
// is an ASCII one, such as the Kelvin sign, and they must not become it.
func lower(s string) string {
	for i := 0; i < len(s); i++ {
		if s[i] >= 'A' && s[i] <= 'Z' {
			b := []byte(s)
			for ; i < len(b); i++ {
				if b[i] >= 'A' && b[i] <= 'Z' {
					b[i] += 'a' - 'A'
				}
			}
			return string(b)
		}
	}
	return s
}
