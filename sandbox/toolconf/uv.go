package toolconf

import "strings"

// uvKeys is what a key of uv's configuration may hold; those of [pip] are the same.
func uvKeys(key string) kind {
	switch strings.TrimPrefix(key, "pip.") {
	case "index-url", "extra-index-url", "index", "python-install-mirror", "pypy-install-mirror":
		return address
	case "find-links":
		return places
	case "allow-insecure-host":
		return hosts
	case "cache-dir":
		return directory
	case "no-index", "index-strategy", "offline", "native-tls", "system-certs", "no-cache", "preview", "python-preference", "python-downloads", "link-mode", "compile-bytecode", "prerelease", "resolution", "fork-strategy", "reinstall",
		"concurrent-downloads", "concurrent-builds", "concurrent-installs", "exclude-newer", "no-build", "no-binary", "no-build-isolation", "no-sources", "require-hashes", "verify-hashes", "torch-backend":
		return word
	case "required-version", "upgrade-package", "no-build-package", "no-binary-package":
		return text
	}
	return none
}

// uvIndex is what a key of an [[index]] may hold.
func uvIndex(key string) kind {
	switch key {
	case "url", "publish-url":
		return address
	case "name", "default", "explicit", "format", "authenticate", "ignore-error-codes":
		return word
	}
	return none
}

// uvConfig reads TOML. An index without an address would be another one, so it is
// left out as a whole.
func uvConfig(w writer, text string) Result {
	items, ok := parseTOML(text)
	if !ok {
		return Result{Bad: "it is not valid TOML"}
	}
	var tables []string // the lines of each [[index]]
	last := -1
	for _, it := range items {
		key := strings.Join(it.path, ".")
		name, index := strings.CutPrefix(key, "index.")
		index = index && it.array
		k := uvKeys(key)
		if index {
			k = uvIndex(name)
			if it.table != last {
				tables, last = append(tables, ""), it.table
			}
		}
		value, ok := w.tomlClean(k, it.value)
		switch {
		case !ok || it.array != index:
			w.refuse(k, key, 0)
		case index:
			tables[len(tables)-1] += tomlKey(it.path[1:]) + " = " + value + "\n"
		default:
			w.b.WriteString(tomlKey(it.path) + " = " + value + "\n")
		}
	}
	for _, t := range tables {
		if strings.HasPrefix(t, "url = ") || strings.Contains(t, "\nurl = ") {
			w.b.WriteString("[[index]]\n" + t)
		}
	}
	return w.result()
}
