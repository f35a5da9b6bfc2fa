package toolconf

import (
	"encoding/json"
	"maps"
	"slices"
	"strings"
)

// composerKeys are the keys of "config" in composer's file that may pass, with
// anything in them that is plain. http-basic, bearer, the oauth tokens and
// certificates are not among them.
var composerKeys = []string{
	"allow-plugins", "apcu-autoloader", "archive-format", "autoloader-suffix", "cache-dir", "cache-files-dir", "cache-files-maxsize", "cache-files-ttl", "cache-read-only", "cache-repo-dir", "cache-ttl", "cache-vcs-dir", "cafile", "capath",
	"classmap-authoritative", "disable-tls", "discard-changes", "github-domains", "github-expose-hostname", "github-protocols", "gitlab-domains", "gitlab-protocol", "htaccess-protect", "lock", "notify-on-install", "optimize-autoloader",
	"platform", "platform-check", "preferred-install", "prepend-autoloader", "process-timeout", "secure-http", "sort-packages", "use-github-api", "use-include-path", "use-parent-dir", "vendor-dir", "bin-dir", "bin-compat", "audit",
}

// composerRepository is what a key of a repository may hold. Its options hold headers
// and keys.
func composerRepository(key string) kind {
	switch key {
	case "url":
		return address
	case "type", "canonical", "allow_ssl_downgrade", "no-api", "reference", "symlink":
		return word
	case "only", "exclude", "name":
		return text
	}
	return none
}

// composerConfig reads composer's JSON. Where a key stands twice in an object, the
// last counts, as for PHP.
func composerConfig(w writer, text string) Result {
	var root map[string]any
	if json.Unmarshal([]byte(text), &root) != nil || root == nil {
		return Result{Bad: "it is not a JSON object"}
	}
	out := map[string]any{}
	for _, key := range slices.Sorted(maps.Keys(root)) {
		switch v := root[key].(type) {
		case map[string]any:
			if key == "config" {
				out[key] = w.composerKeys(v)
				continue
			}
			if key == "repositories" {
				list := map[string]any{}
				for _, name := range slices.Sorted(maps.Keys(v)) {
					if r, ok := w.repository(v[name]); ok && isPlain(name) {
						list[name] = r
					}
				}
				out[key] = list
				continue
			}
		case []any:
			if key == "repositories" {
				list := []any{}
				for _, e := range v {
					if r, ok := w.repository(e); ok {
						list = append(list, r)
					}
				}
				out[key] = list
				continue
			}
		case string:
			if key == "minimum-stability" && isPlain(v) {
				out[key] = v
				continue
			}
		case bool:
			if key == "prefer-stable" {
				out[key] = v
				continue
			}
		}
		w.dropKey(key, 0)
	}
	data, err := json.MarshalIndent(out, "", "    ")
	if err != nil {
		return Result{Bad: "it cannot be written"}
	}
	w.b.Write(append(data, '\n'))
	return w.result()
}

func (w *writer) composerKeys(v map[string]any) map[string]any {
	out := map[string]any{}
	for _, key := range slices.Sorted(maps.Keys(v)) {
		dir, isDir := v[key].(string)
		isDir = isDir && strings.HasSuffix(key, "-dir")
		if !slices.Contains(composerKeys, key) || !plainJSON(v[key]) || isDir && !w.inHome(dir) {
			w.dropKey("config."+key, 0)
			continue
		}
		out[key] = v[key]
	}
	return out
}

// repository cleans one repository; false switches one off.
func (w *writer) repository(v any) (any, bool) {
	if off, ok := v.(bool); ok {
		return off, true
	}
	m, ok := v.(map[string]any)
	if !ok {
		w.drop("repositories")
		return nil, false
	}
	out := map[string]any{}
	for _, key := range slices.Sorted(maps.Keys(m)) {
		clean, ok := m[key], false
		switch e := m[key].(type) {
		case string:
			k := composerRepository(key)
			if key == "url" && m["type"] == "path" {
				k = file
			}
			clean, ok = k.clean(e)
			if !ok && key == "url" && m["type"] != "path" {
				clean, ok = remote(e)
			}
		default:
			// {"NAME": false} switches the repository NAME off.
			ok = (composerRepository(key) != none || e == false && isPlain(key)) && plainJSON(e)
		}
		if !ok {
			w.refuse(composerRepository(key), "repositories."+key, 0)
			continue
		}
		out[key] = clean
	}
	if _, url := m["url"]; url && out["url"] == nil {
		return nil, false // without it, it would be another repository
	}
	return out, true
}

// plainJSON says whether a value holds nothing that looks like a credential.
func plainJSON(v any) bool {
	switch v := v.(type) {
	case nil, bool, float64:
		return true
	case string:
		return isPlain(v) && !strings.Contains(v, "://")
	case []any:
		return !slices.ContainsFunc(v, func(e any) bool { return !plainJSON(e) })
	case map[string]any:
		for k, e := range v {
			if !isPlain(k) || !plainJSON(e) {
				return false
			}
		}
		return true
	}
	return false
}
