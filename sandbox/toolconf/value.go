package toolconf

import (
	"strings"
	"unicode"
	"unicode/utf8"
)

// kind is what the value of a key may be.
type kind uint8

const (
	none      kind = iota
	word           // a switch, a number, one word of a fixed set
	text           // one line of anything that looks harmless
	file           // a path
	directory      // a path of a directory that is written to
	address        // a URL
	places         // URLs and paths, separated by white space
	hosts          // HOST[:PORT], separated by white space
	proxies        // $GOPROXY
	patterns       // a comma-separated list of path globs, as $GOPRIVATE
	indexes        // [NAME=]URL, separated by white space
)

// routes says whether a value says where requests go.
func (k kind) routes() bool {
	switch k {
	case address, places, proxies, patterns, indexes:
		return true
	}
	return false
}

// clean returns the value without credentials; ok is false where it is not
// understood.
func (k kind) clean(v string) (clean string, ok bool) {
	if v == "" {
		return "", k != none
	}
	switch k {
	case word:
		return v, len(v) <= 64 && only(v, func(c byte) bool { return alnum(c) || strings.IndexByte("._+-~^:/,", c) >= 0 }) && !Credential(v)
	case text:
		return v, isPlain(v)
	case file, directory:
		return v, isPlain(v) && !strings.Contains(v, "://")
	case address:
		return URL(v)
	case places, hosts, indexes:
		return cleanWords(k, v)
	case proxies:
		return cleanProxies(v)
	case patterns:
		return v, len(v) <= 4096 && only(v, func(c byte) bool { return alnum(c) || strings.IndexByte("._+-~/*?[]!,", c) >= 0 }) && !Credential(v)
	}
	return "", false
}

func cleanWords(k kind, v string) (string, bool) {
	words := strings.Fields(v)
	for i, w := range words {
		ok := false
		switch {
		case k == hosts:
			ok = isHostPort(w)
		case k == indexes:
			name, url, named := strings.Cut(w, "=")
			if !named || strings.Contains(name, ":") {
				name, url = "", w
			}
			if url, ok = URL(url); ok && name != "" {
				ok = only(name, func(c byte) bool { return alnum(c) || c == '-' || c == '_' || c == '.' })
				url = name + "=" + url
			}
			words[i] = url
		case strings.Contains(w, "://"):
			words[i], ok = URL(w)
		default:
			ok = (w[0] == '/' || w[0] == '~' || w[0] == '.') && isPlain(w) && !strings.Contains(w, "@")
		}
		if !ok {
			return "", false
		}
	}
	return strings.Join(words, " "), true
}

// cleanProxies cleans $GOPROXY: URLs, "direct" and "off", separated by commas or
// bars (go help goproxy).
func cleanProxies(v string) (string, bool) {
	var b strings.Builder
	for v != "" {
		i := strings.IndexAny(v, ",|")
		one, sep := v, ""
		if i >= 0 {
			one, sep, v = v[:i], v[i:i+1], v[i+1:]
		} else {
			v = ""
		}
		if one = strings.TrimSpace(one); one != "" && one != "direct" && one != "off" {
			ok := false
			if one, ok = URL(one); !ok {
				return "", false
			}
		}
		b.WriteString(one + sep)
	}
	return b.String(), true
}

// isPlain says whether v is one line of text that does not look like a
// credential.
func isPlain(v string) bool {
	if len(v) > 2048 || !utf8.ValidString(v) || Credential(v) {
		return false
	}
	return !strings.ContainsFunc(v, func(r rune) bool { return !unicode.IsPrint(r) && r != '\t' || r == utf8.RuneError })
}

// Credential says whether a value holds a user:password@ in a URL, sets a
// password or token, as JVM options do (-Dhttp.proxyPassword=…), or has the form
// of a well-known token. It is a second line behind lists of names.
func Credential(value string) bool {
	for rest := value; ; {
		_, after, ok := strings.Cut(rest, "://")
		if !ok {
			break
		}
		host, _, _ := strings.Cut(after, "/")
		if strings.Contains(host, "@") {
			return true
		}
		rest = after
	}
	lower := strings.ToLower(value)
	for _, w := range []string{"password=", "passwd=", "token=", "secret=", "_auth=", "apikey=", "api_key=", "passphrase=", "secretkey=", "accesskey=", "authorization:", "private key-----"} {
		if strings.Contains(lower, w) {
			return true
		}
	}
	for _, p := range tokens {
		for rest := value; ; {
			_, after, ok := strings.Cut(rest, p)
			if !ok {
				break
			}
			n := 0
			for n < len(after) && alnum(after[n]) {
				n++
			}
			if n >= 16 {
				return true
			}
			rest = after
		}
	}
	return false
}

// tokens is how well-known tokens begin; sixteen letters or digits follow.
var tokens = []string{"npm_", "ghp_", "gho_", "ghs_", "ghu_", "github_pat_", "glpat-", "pypi-", "AKIA", "ASIA", "dckr_pat_", "eyJ"}

func alnum(c byte) bool { return c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || digit(c) }

func digit(c byte) bool { return c >= '0' && c <= '9' }

// only says whether each byte of s is of a set.
func only(s string, set func(byte) bool) bool {
	for i := range len(s) {
		if !set(s[i]) {
			return false
		}
	}
	return true
}
