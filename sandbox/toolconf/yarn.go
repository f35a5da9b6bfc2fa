package toolconf

import (
	"maps"
	"slices"
	"strconv"
	"strings"
)

// yarnKeys is what a key of Yarn 2 or later may hold.
func yarnKeys(key string) kind {
	switch key {
	case "cacheFolder", "globalFolder":
		return directory
	case "npmRegistryServer", "npmPublishRegistry", "npmAuditRegistry":
		return address
	case "httpsCaFilePath":
		return file
	case "checksumBehavior", "compressionLevel", "defaultSemverRangePrefix", "enableGlobalCache", "enableHardenedMode", "enableImmutableInstalls",
		"enableInlineHunks", "enableMessageNames", "enableMirror", "enableNetwork", "enableOfflineMode", "enableProgressBars", "enableScripts",
		"enableStrictSsl", "enableTelemetry", "enableTimers", "enableTransparentWorkspaces", "httpRetry", "httpTimeout", "networkConcurrency",
		"nmHoistingLimits", "nmMode", "nodeLinker", "npmMinimalAgeGate", "npmPublishAccess", "pnpEnableEsmLoader", "pnpFallbackMode", "pnpMode",
		"preferInteractive", "preferReuse":
		return word
	}
	return none
}

// yarnrcYML reads the part of YAML that yarn(1) itself writes: mappings, a key and
// a plain or quoted value a line. Anything else is left out, with all that is
// indented below it.
func yarnrcYML(w writer, text string) Result {
	scopes := yarnScopes{}
	scope := false       // in npmScopes
	under, name := 0, "" // the indentation of the scopes, and the scope that is being read
	skip := -1           // what is indented deeper is left out
	for i, line := range lines(text) {
		body := strings.TrimLeft(line, " ")
		indent := len(line) - len(body)
		body = strings.TrimRight(body, " ")
		if body == "" || body[0] == '#' {
			continue
		}
		if skip >= 0 && indent > skip {
			continue
		}
		skip = -1
		key, value, ok := yamlPair(body)
		keys := ""
		switch {
		case !ok:
		case indent == 0:
			scope, under, name = key == "npmScopes" && value == "", 0, ""
			if scope {
				continue
			}
		case scope && (under == 0 || indent == under) && value == "" && isScope("@"+key):
			under, name = indent, key
			continue
		case scope && indent > under && name != "":
			keys = "npmScopes." + name + "."
		default:
			ok = false
		}
		k := yarnKeys(key)
		if keys != "" && k != address {
			k = none
		}
		clean, good := w.clean(k, value)
		if !ok || !good || value == "" {
			w.refuse(k, keys+key, i+1)
			skip = indent
			continue
		}
		if keys == "" {
			w.b.WriteString(key + ": " + strconv.Quote(clean) + "\n")
		} else {
			scopes[name] += "    " + key + ": " + strconv.Quote(clean) + "\n"
		}
	}
	w.b.WriteString(scopes.String())
	return w.result()
}

// yarnScopes has the lines of each scope.
type yarnScopes map[string]string

// String is the mapping npmScopes.
func (s yarnScopes) String() string {
	if len(s) == 0 {
		return ""
	}
	text := "npmScopes:\n"
	for _, name := range slices.Sorted(maps.Keys(s)) {
		text += "  " + name + ":\n" + s[name]
	}
	return text
}

// yamlPair takes "key: value" apart. The value has no structure of its own.
func yamlPair(s string) (key, value string, ok bool) {
	key, value, found := strings.Cut(s, ":")
	if !found || value != "" && value[0] != ' ' {
		return "", "", false
	}
	value = strings.TrimSpace(value)
	key, ok = unquoteSimple(key)
	if value == "" {
		return key, "", ok
	}
	switch value[0] {
	case '"', '\'':
		end := strings.IndexByte(value[1:], value[0])
		if end < 0 {
			return key, "", false
		}
		if rest := strings.TrimSpace(value[end+2:]); rest != "" && rest[0] != '#' {
			return key, "", false
		}
		value = value[1 : end+1]
	case '|', '>', '{', '[', '&', '*', '!', '%', '@', '`', '-', '?':
		return key, "", false
	default:
		if i := strings.Index(value, " #"); i >= 0 {
			value = strings.TrimSpace(value[:i])
		}
	}
	return key, value, ok && !strings.ContainsAny(value, "\"'\\")
}
