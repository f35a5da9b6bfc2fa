package toolconf

import (
	"slices"
	"strings"
)

// cargoKeys is what a key of cargo's configuration may hold; "*" is any name.
// Not among them are registry tokens, credential providers, proxies, [env] and
// [alias], which may hold anything.
func cargoKeys(key string) kind {
	switch key {
	case "build.target-dir", "build.build-dir", "install.root":
		return directory
	case "source.*.registry", "source.*.git", "registries.*.index", "registry.index", "patch.*.*.git", "patch.*.*.registry-index":
		return address
	case "source.*.directory", "source.*.local-registry", "patch.*.*.path", "http.cainfo", "build.dep-info-basedir",
		"build.rustc", "build.rustc-wrapper", "build.rustc-workspace-wrapper", "build.rustdoc", "target.*.linker", "target.*.ar", "paths":
		return file
	case "source.*.replace-with", "source.*.rev", "registries.*.protocol", "registry.default", "patch.*.*.rev", "patch.*.*.package", "patch.*.*.registry",
		"net.retry", "net.git-fetch-with-cli", "net.offline", "http.timeout", "http.check-revoke", "http.low-speed-limit", "http.multiplexing",
		"http.ssl-version", "http.ssl-version.min", "http.ssl-version.max", "http.debug", "build.jobs", "build.incremental", "build.pipelining",
		"profile.*.*", "profile.*.build-override.*", "profile.*.package.*.*", "term.quiet", "term.verbose", "term.color", "term.hyperlinks", "term.unicode",
		"term.progress.when", "term.progress.width", "resolver.incompatible-rust-versions", "cargo-new.vcs", "future-incompat-report.frequency":
		return word
	case "source.*.branch", "source.*.tag", "patch.*.*.branch", "patch.*.*.tag", "patch.*.*.version", "net.ssh.known-hosts", "build.target",
		"build.rustflags", "build.rustdocflags", "target.*.runner", "target.*.rustflags", "target.*.rustdocflags", "cache.auto-clean-frequency":
		return text
	}
	return none
}

// cargoKind is what a key may hold.
func cargoKind(path []string) kind {
	for _, p := range path {
		if strings.ContainsRune(p, '*') {
			return none
		}
	}
	// The names that a pattern leaves open, by their places.
	for _, open := range [][]int{{}, {1}, {1, 2}, {1, 3, 4}, {1, 3}} {
		try := slices.Clone(path)
		for _, i := range open {
			if i < len(try) {
				try[i] = "*"
			}
		}
		if k := cargoKeys(strings.Join(try, ".")); k != none {
			return k
		}
	}
	return none
}

// cargoConfig reads TOML. What is kept is written as dotted keys, so that no table
// stands twice.
func cargoConfig(w writer, text string) Result {
	items, ok := parseTOML(text)
	if !ok {
		return Result{Bad: "it is not valid TOML"}
	}
	for _, it := range items {
		k := cargoKind(it.path)
		value, ok := w.tomlClean(k, it.value)
		if !ok || it.array || !plainKeys(it.path) {
			w.refuse(k, strings.Join(it.path, "."), 0)
			continue
		}
		w.b.WriteString(tomlKey(it.path) + " = " + value + "\n")
	}
	return w.result()
}

// plainKeys says whether each name is harmless, a target's cfg(…) among them.
func plainKeys(path []string) bool {
	for _, k := range path {
		if k == "" || len(k) > 200 {
			return false
		}
		if strings.Contains(k, "://") {
			if clean, ok := URL(k); !ok || clean != k {
				return false
			}
		} else if !isPlain(k) || strings.Contains(k, "@") {
			return false
		}
	}
	return true
}

// tomlClean writes a value without credentials.
func (w *writer) tomlClean(k kind, v tomlValue) (string, bool) {
	if v.array {
		list := make([]string, 0, len(v.list))
		for _, e := range v.list {
			s, ok := w.tomlClean(k, e)
			if !ok || e.array {
				return "", false
			}
			list = append(list, s)
		}
		return "[" + strings.Join(list, ", ") + "]", k != none
	}
	clean, ok := w.clean(k, v.text)
	if !ok {
		return "", false
	}
	if v.bare {
		return v.text, k == word && v.text != "{"
	}
	return tomlString(clean), true
}

// tomlKey writes a dotted key.
func tomlKey(path []string) string {
	list := make([]string, len(path))
	for i, k := range path {
		list[i] = k
		if k == "" || !only(k, func(c byte) bool { return alnum(c) || c == '_' || c == '-' }) {
			list[i] = tomlString(k)
		}
	}
	return strings.Join(list, ".")
}
