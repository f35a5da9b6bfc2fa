package toolconf

import "strings"

// URL removes user info, query and fragment from a URL (RFC 3986), all of which
// may authenticate; ok is false where it is not understood. Programs disagree
// about malformed URLs, so that only what all read alike passes: a scheme and
// "://", a host that is a name or an address, and no "@" that could be the end of
// user info. A name alone is kept for SSH, which needs it and takes no password
// there. ${NAME} is kept: it stands for a variable of the sandbox's environment.
func URL(s string) (clean string, ok bool) {
	scheme, rest, ok := strings.Cut(s, "://")
	if !ok || len(s) > 2048 || !isScheme(scheme) {
		if isReference(s) {
			return s, true
		}
		return "", false
	}
	end := strings.IndexAny(rest, `/?#\`)
	if end < 0 {
		end = len(rest)
	}
	host, path := rest[:end], rest[end:]
	user := ""
	if at := strings.LastIndexByte(host, '@'); at >= 0 {
		user, host = host[:at+1], host[at+1:]
	}
	if i := strings.IndexAny(path, "?#"); i >= 0 {
		// In "https://user:pass?word@host/" it is not a query.
		if strings.Contains(path[i:], "@") {
			return "", false
		}
		path = path[:i]
	}
	if !isPath(path) || !isHostPort(host) && (host != "" || scheme != "file") {
		return "", false
	}
	if !isSSH(scheme) || !isLogin(user) {
		user = ""
	}
	clean = scheme + "://" + user + host + path
	return clean, !Credential(host + path)
}

// remote is URL for git(1), which takes more: [user@]host:path, and, in
// insteadOf, any beginning of one.
func remote(s string) (clean string, ok bool) {
	if scheme, found := strings.CutSuffix(s, "://"); found {
		return s, isScheme(scheme)
	}
	if strings.Contains(s, "://") {
		return URL(s)
	}
	host, path, _ := strings.Cut(s, ":")
	if i := strings.IndexByte(host, '@'); i >= 0 {
		if !isLogin(host[:i+1]) {
			return "", false
		}
		host = host[i+1:]
	}
	return s, len(s) <= 2048 && only(host, func(c byte) bool { return alnum(c) || strings.IndexByte("._-/~", c) >= 0 }) && isPath(path) && !Credential(s)
}

func isScheme(s string) bool {
	return s != "" && len(s) <= 32 && (s[0] >= 'a' && s[0] <= 'z' || s[0] >= 'A' && s[0] <= 'Z') &&
		only(s, func(c byte) bool { return alnum(c) || c == '+' || c == '.' || c == '-' })
}

func isSSH(scheme string) bool { return scheme == "ssh" || strings.HasSuffix(scheme, "+ssh") }

// isLogin says whether user info is a plain login name and its "@".
func isLogin(user string) bool {
	name, ok := strings.CutSuffix(user, "@")
	return ok && name != "" && len(name) <= 32 && !Credential(name) && only(name, func(c byte) bool { return alnum(c) || c == '.' || c == '_' || c == '-' })
}

// isHostPort says whether s is HOST[:PORT].
func isHostPort(s string) bool {
	if len(s) > 300 {
		return false
	}
	if strings.HasPrefix(s, "[") { // an IPv6 address
		host, port, ok := strings.Cut(s[1:], "]")
		return ok && host != "" && only(host, func(c byte) bool { return alnum(c) || c == ':' || c == '.' }) &&
			(port == "" || port[0] == ':' && isPort(port[1:]))
	}
	host, port, found := strings.Cut(withoutReferences(s), ":")
	return host != "" && only(host, func(c byte) bool { return alnum(c) || strings.IndexByte("._-*", c) >= 0 }) && (!found || isPort(port))
}

// isPort: the letter stands for a reference.
func isPort(s string) bool {
	return s == "R" || s != "" && len(s) <= 5 && only(s, digit)
}

// isPath says whether s can be the path of a URL. An "@" begins a segment, as a
// scope of npm's does, or may end what was meant as user info.
func isPath(s string) bool {
	for i, c := range []byte(withoutReferences(s)) {
		switch {
		case alnum(c) || strings.IndexByte("/-._~%!&()*+,;=:$", c) >= 0:
		case c == '@' && i > 0 && s[i-1] == '/':
		default:
			return false
		}
	}
	return true
}

// isReference says whether s is a ${NAME} and nothing else.
func isReference(s string) bool {
	return s != "" && len(s) <= 110 && s[0] == '$' && withoutReferences(s) == "R"
}

// withoutReferences puts a letter in the place of each ${NAME}.
func withoutReferences(s string) string {
	for {
		before, after, ok := strings.Cut(s, "${")
		if !ok {
			return s
		}
		name, rest, ok := strings.Cut(after, "}")
		if !ok || !isVariable(strings.TrimSuffix(name, "?")) {
			return s // the brace is refused
		}
		s = before + "R" + rest
	}
}

func isVariable(s string) bool {
	return s != "" && len(s) <= 100 && only(s, func(c byte) bool { return alnum(c) || c == '_' || c == '.' })
}
