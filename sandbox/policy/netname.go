package policy

import (
	"fmt"
	"strconv"
	"strings"
)

// splitPort takes HOST[:PORT] apart, and the brackets off HOST. Without brackets
// more than one colon is an IPv6 address without a port.
func splitPort(value string) (host, port, reason string) {
	if value == "" {
		return "", "", "it is empty"
	}
	if scheme, rest, ok := strings.Cut(value, "://"); ok {
		return "", "", urlReason(scheme, rest)
	}
	if rest, ok := strings.CutPrefix(value, "["); ok {
		host, rest, ok = strings.Cut(rest, "]")
		port, colon := strings.CutPrefix(rest, ":")
		switch {
		case !ok:
			return "", "", "the bracket is not closed"
		case !strings.Contains(host, ":"):
			return "", "", "only an IPv6 address is in brackets"
		case rest != "" && (!colon || port == ""):
			return "", "", "only :PORT may follow the bracket"
		}
		return host, port, ""
	}
	host, port, colon := strings.Cut(value, ":")
	switch {
	case !colon || strings.Contains(port, ":"):
		return value, "", ""
	case host == "":
		return "", "", fmt.Sprintf("there is no name before the port; write NAME:%s, or localhost:%s for the host's own service", port, port)
	case port == "":
		return "", "", "there is no port after the colon"
	case strings.Contains(port, "/"):
		if strings.Trim(host, "0123456789abcdefABCDEF") == "" { // 2001:/16, say
			return value, "", ""
		}
		return "", "", "it has a path; write " + host + ":" + port[:strings.Index(port, "/")]
	}
	return host, port, ""
}

// urlReason says what to write instead of a URL.
func urlReason(scheme, rest string) string {
	authority := rest
	if i := strings.IndexAny(rest, "/?#"); i >= 0 {
		authority = rest[:i]
	}
	if i := strings.LastIndexByte(authority, '@'); i >= 0 {
		authority = authority[i+1:]
	}
	_, port, reason := splitPort(authority)
	if port == "" && reason == "" {
		switch strings.ToLower(scheme) {
		case "http":
			authority += ":80"
		case "https":
			authority += ":443"
		case "ssh", "git+ssh":
			authority += ":22"
		}
	}
	if _, err := ParseNetAllow(authority); err != nil {
		return "it is a URL; write NAME or NAME:PORT"
	}
	return "it is a URL; write " + authority
}

// parsePort reads a port that is not 0.
func parsePort(s string) (port uint16, reason string) {
	n, err := strconv.ParseUint(s, 10, 16)
	if err != nil || n == 0 {
		return 0, fmt.Sprintf("%q is no port; ports are 1 to 65535", s)
	}
	return uint16(n), ""
}

// parseName brings a typed name, or `*.` and a name, into the form that rules
// have.
func parseName(typed string) (name, reason string) {
	name = strings.TrimSuffix(typed, ".")
	suffix, wildcard := strings.CutPrefix(name, "*.")
	switch {
	case name == "*":
		return "", "it would allow every name; --net=internet does that"
	case name == "" || suffix == "":
		return "", "the name is empty"
	case strings.Contains(suffix, "*"):
		return "", "* stands for whole labels, and only in front: *.example.com"
	case wildcard && !strings.Contains(suffix, "."):
		return "", fmt.Sprintf("*.%s is everybody's; name a domain below it", suffix)
	case strings.HasPrefix(name, "."):
		return "", fmt.Sprintf("write *%s for the names below, and %s for the name itself", name, name[1:])
	}
	for i := 0; i < len(name); i++ {
		if name[i] >= 0x80 {
			return "", "write the name in its ASCII form, which starts with xn--"
		}
	}
	name = strings.ToLower(name)
	suffix = strings.TrimPrefix(name, "*.")
	switch {
	case NumericName(suffix):
		return "", "it is no address in the usual spelling, and no name, because it ends in a number"
	case !ValidName(suffix):
		return "", "it is no host name: letters, digits, - and _ between dots, at most 63 of them, and 253 in all"
	case strings.HasSuffix(suffix, ".localhost"):
		return "", "names below localhost are the sandbox's own; write localhost:PORT for the host's"
	case suffix != "localhost" && NoName(suffix):
		return "", "such names do not exist"
	case wildcard && PrivateName(suffix):
		return "", "a wildcard is for public addresses, and such names are of private networks; allow them one by one"
	}
	return name, ""
}

// ValidName says whether a name is a host name in the form of NetRule.Name: RFC
// 1123, section 2.1, and underscores, which names of services and of containers
// have.
func ValidName(name string) bool {
	if name == "" || len(name) > 253 {
		return false
	}
	label := 0
	for i := 0; i < len(name); i++ {
		switch c := name[i]; {
		case c == '.':
			if label == 0 || name[i-1] == '-' {
				return false
			}
			label = 0
			continue
		case c == '-' && label == 0:
			return false
		case c >= 'a' && c <= 'z', c >= '0' && c <= '9', c == '-', c == '_':
		default:
			return false
		}
		if label++; label > 63 {
			return false
		}
	}
	return label > 0 && name[len(name)-1] != '-'
}

// NumericName says whether a name ends in a number, by the WHATWG's URL standard
// ("ends in a number"): 2130706433, 0177.0.0.1 or 0x7f.1. inet_aton(3) makes an
// address of such a name, and there is no top-level domain like it.
func NumericName(name string) bool {
	last := name[strings.LastIndexByte(name, '.')+1:]
	if last == "" {
		return false
	}
	if hex, ok := strings.CutPrefix(strings.ToLower(last), "0x"); ok {
		return strings.Trim(hex, "0123456789abcdef") == ""
	}
	return strings.Trim(last, "0123456789") == ""
}

// NoName says whether a name is one that nobody may be asked for, rule or not: RFC
// 6761 (invalid, localhost) and RFC 7686 (onion).
func NoName(name string) bool {
	switch name[strings.LastIndexByte(name, '.')+1:] {
	case "invalid", "onion", "localhost":
		return true
	}
	return false
}

// PrivateName says whether a name means something on a network of the user's alone, so
// that only an exact rule can mean it: a single label, the names of RFC 6762 (local),
// RFC 6761 (test), RFC 8375 (home.arpa), and those that are reserved or in use for
// private networks, ICANN's internal among them.
func PrivateName(name string) bool {
	i := strings.LastIndexByte(name, '.')
	if i < 0 {
		return true
	}
	switch name[i+1:] {
	case "local", "test", "internal", "intranet", "private", "corp", "home", "lan", "localdomain", "alt":
		return true
	}
	return name == "home.arpa" || strings.HasSuffix(name, ".home.arpa")
}
