package toolconf

import "strings"

// goKeys is what a variable of `go help environment` may hold. GOAUTH is not here: a
// list of commands and of files with credentials.
func goKeys(key string) kind {
	switch key {
	case "GOBIN", "GOPATH", "GOCACHE", "GOMODCACHE":
		return directory
	case "GOPROXY":
		return proxies
	case "GOPRIVATE", "GONOPROXY", "GONOSUMDB", "GONOSUMCHECK", "GOINSECURE":
		return patterns
	case "GOWORK":
		return file
	case "GOSUMDB", "GOVCS", "GOTOOLCHAIN", "GO111MODULE", "GOOS", "GOARCH", "GOAMD64", "GOARM", "GOARM64", "GO386", "GOEXPERIMENT", "GOTELEMETRY",
		"CGO_ENABLED", "GOFIPS140", "GCCGO":
		return word
	case "GOFLAGS", "GODEBUG", "CC", "CXX", "AR", "FC", "PKG_CONFIG", "CGO_CFLAGS", "CGO_CPPFLAGS", "CGO_CXXFLAGS", "CGO_FFLAGS", "CGO_LDFLAGS":
		return text
	}
	return none
}

// goValue cleans the value of a variable of go's.
func goValue(key, value string) (string, bool) {
	switch {
	case key == "GOSUMDB":
		return goSumDB(value)
	case key == "GOVCS":
		return value, isPlain(value)
	}
	return goKeys(key).clean(value)
}

// goSumDB cleans "off", NAME, NAME+HASH+KEY, and each with a URL behind it. The
// key is a verifier's and public (golang.org/x/mod/sumdb/note).
func goSumDB(value string) (string, bool) {
	name, url, found := strings.Cut(value, " ")
	if len(name) > 300 || !only(name, func(c byte) bool { return alnum(c) || strings.IndexByte(".-_+/=", c) >= 0 }) || Credential(name) {
		return "", false
	}
	if !found {
		return name, true
	}
	url, ok := URL(strings.TrimSpace(url))
	return name + " " + url, ok
}

// goEnv reads the file that `go env -w` writes: NAME=VALUE lines, without quotes.
func goEnv(w writer, text string) Result {
	for i, line := range lines(text) {
		if trimmed := strings.TrimSpace(line); trimmed == "" || trimmed[0] == '#' {
			continue
		}
		key, value, found := strings.Cut(line, "=")
		clean, ok := goValue(key, value)
		ok = ok && (goKeys(key) != directory || w.inHome(clean))
		if !found || !ok {
			w.refuse(goKeys(key), key, i+1)
			continue
		}
		w.b.WriteString(key + "=" + clean + "\n")
	}
	return w.result()
}
