package toolconf

import "strings"

// npmKeys is what a key of npm's, or of pnpm's, may hold. A key of a registry
// (//registry.example.com/:_authToken) is never one.
func npmKeys(key string) kind {
	switch key {
	case "cache", "prefix", "store-dir", "virtual-store-dir":
		return directory
	case "registry", "node-mirror:release", "init-author-url", "init.author.url":
		return address
	case "cafile", "script-shell":
		return file
	case "replace-registry-host", "strict-ssl", "fetch-retries", "fetch-retry-factor", "fetch-retry-mintimeout", "fetch-retry-maxtimeout", "fetch-timeout",
		"maxsockets", "network-concurrency", "child-concurrency", "offline", "prefer-offline", "prefer-online", "before", "min-release-age",
		"minimum-release-age", "access", "audit", "audit-level", "bin-links", "color", "dedupe", "dev", "engine-strict", "foreground-scripts",
		"format-package-lock", "fund", "global-style", "ignore-scripts", "include", "install-links", "install-strategy", "legacy-bundling",
		"legacy-peer-deps", "lockfile-version", "loglevel", "long", "omit", "only", "optional", "package-lock", "production", "progress", "save",
		"save-bundle", "save-dev", "save-exact", "save-optional", "save-peer", "save-prefix", "save-prod", "strict-peer-deps", "tag", "tag-version-prefix",
		"timing", "umask", "unicode", "update-notifier", "workspaces", "workspaces-update", "init-type", "init-version", "init.version",
		"auto-install-peers", "dedupe-peer-dependents", "enable-pre-post-scripts", "hoist", "shamefully-hoist", "link-workspace-packages", "lockfile",
		"manage-package-manager-versions", "node-linker", "package-import-method", "prefer-frozen-lockfile", "prefer-workspace-packages", "resolution-mode",
		"save-workspace-protocol", "side-effects-cache", "strict-dep-builds", "strict-peer-dependencies", "symlink", "use-node-version",
		"verify-store-integrity":
		return word
	case "init-author-name", "init-author-email", "init-license", "init.author.name", "init.author.email", "init.license", "hoist-pattern",
		"public-hoist-pattern":
		return text
	}
	return none
}

// npmKind is what a key of npm may hold.
func npmKind(key string) kind {
	if scope, ok := strings.CutSuffix(key, ":registry"); ok && isScope(scope) {
		return address
	}
	return npmKeys(strings.TrimSuffix(key, "[]"))
}

// isScope: npm's scopes, "@corp".
func isScope(s string) bool {
	return len(s) > 1 && len(s) <= 214 && s[0] == '@' && only(s[1:], func(c byte) bool { return alnum(c) || strings.IndexByte("._-~", c) >= 0 })
}

// npmrc reads what npmrc(5) describes: "key = value" lines, of which "key" alone
// is true and "key[] = value" adds to a list. What follows a [section] is none of
// npm's keys.
func npmrc(w writer, text string) Result {
	for i, line := range lines(text) {
		line = strings.TrimSpace(line)
		if line == "" || line[0] == ';' || line[0] == '#' {
			continue
		}
		if line[0] == '[' {
			w.drop("what follows " + lineName(i+1))
			break
		}
		key, value, found := strings.Cut(line, "=")
		key = strings.TrimSpace(key)
		clean, ok := w.npmValue(key, strings.TrimSpace(value), found)
		if !ok {
			w.refuse(npmKind(key), key, i+1)
			continue
		}
		w.b.WriteString(key + "=" + clean + "\n")
	}
	return w.result()
}

func (w *writer) npmValue(key, value string, found bool) (string, bool) {
	if !found {
		return "true", npmKind(key) == word
	}
	if k := strings.TrimSuffix(key, "[]"); k == "ca" {
		return value, isCertificate(value)
	}
	// An unescaped ; or # begins a comment, also in the middle of a word (the
	// npm package ini); quotes take JSON's escapes.
	switch {
	case strings.ContainsRune(value, '\\'):
		return "", false
	case len(value) >= 2 && (value[0] == '"' || value[0] == '\'') && value[len(value)-1] == value[0]:
		value = value[1 : len(value)-1]
		if strings.ContainsAny(value, ";#") {
			return "", false
		}
	default:
		if i := strings.IndexAny(value, ";#"); i >= 0 {
			value = strings.TrimSpace(value[:i])
		}
	}
	if strings.ContainsAny(value, `"'`) {
		return "", false
	}
	return w.clean(npmKind(key), value)
}

// isCertificate says whether a value is a certificate in PEM, with \n for the ends
// of its lines. It is public; a private key is not.
func isCertificate(v string) bool {
	v = strings.Trim(v, `"`)
	return strings.HasPrefix(v, "-----BEGIN CERTIFICATE-----") && strings.Count(v, "BEGIN") == strings.Count(v, "BEGIN CERTIFICATE-----") &&
		only(v, func(c byte) bool { return alnum(c) || strings.IndexByte(`+/=\- `, c) >= 0 })
}

// yarnrc reads the file of Yarn 1: `key value`, either in quotes or not.
func yarnrc(w writer, text string) Result {
	for i, line := range lines(text) {
		line = strings.TrimSpace(line)
		if line == "" || line[0] == '#' {
			continue
		}
		j := strings.IndexAny(line, " \t")
		if j < 0 {
			w.dropKey("", i+1)
			continue
		}
		key, ok1 := unquoteSimple(line[:j])
		value, ok2 := unquoteSimple(strings.TrimSpace(line[j:]))
		clean, ok := w.clean(npmKind(key), value)
		if key == "yarn-offline-mirror" || key == "network-timeout" {
			clean, ok = file.clean(value)
		}
		if !ok || !ok1 || !ok2 || !isName(key) {
			w.refuse(npmKind(key), key, i+1)
			continue
		}
		w.b.WriteString(`"` + key + `" "` + clean + "\"\n")
	}
	return w.result()
}

// unquoteSimple takes quotes away from what has nothing in them that would need
// them.
func unquoteSimple(s string) (string, bool) {
	if len(s) >= 2 && (s[0] == '"' || s[0] == '\'') && s[len(s)-1] == s[0] {
		s = s[1 : len(s)-1]
	}
	return s, !strings.ContainsAny(s, "\"'\\")
}
