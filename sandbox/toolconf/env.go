package toolconf

import "strings"

// variableKind is what a variable may hold that has a name of its own.
func variableKind(name string) kind {
	switch name {
	case "UV_INDEX_URL", "UV_DEFAULT_INDEX", "UV_PYTHON_INSTALL_MIRROR", "UV_PYPY_INSTALL_MIRROR", "YARN_REGISTRY", "YARN_NPM_REGISTRY_SERVER", "RUSTUP_DIST_SERVER", "RUSTUP_UPDATE_ROOT", "COREPACK_NPM_REGISTRY":
		return address
	case "UV_INDEX", "UV_EXTRA_INDEX_URL":
		return indexes
	case "UV_FIND_LINKS":
		return places
	case "UV_INSECURE_HOST":
		return hosts
	case "UV_NO_INDEX", "UV_INDEX_STRATEGY", "UV_OFFLINE", "UV_NATIVE_TLS", "CARGO_REGISTRY_DEFAULT":
		return word
	}
	return none
}

// Variable cleans a variable of the environment; known is false for one that is
// none of a tool's routing, and ok where its value is not understood.
func Variable(name, value string) (clean string, known, ok bool) {
	if k := variableKind(name); k != none {
		clean, ok = k.clean(value)
		return clean, true, ok
	}
	upper := strings.ToUpper(name)
	switch {
	case strings.HasPrefix(name, "GO"):
		switch name {
		case "GOPROXY", "GOSUMDB", "GOPRIVATE", "GONOPROXY", "GONOSUMDB", "GONOSUMCHECK", "GOINSECURE", "GOVCS":
			clean, ok = goValue(name, value)
			return clean, true, ok
		}
	case strings.HasPrefix(upper, "NPM_CONFIG_"):
		// npm takes any case, and "_" for "-" (config(7) of npm).
		key := strings.ToLower(name[len("NPM_CONFIG_"):])
		if strings.HasPrefix(key, "@") && strings.HasSuffix(key, ":registry") || key == "registry" || key == "strict_ssl" || key == "cafile" || key == "ignore_scripts" || key == "replace_registry_host" {
			if !strings.HasPrefix(key, "@") {
				key = strings.ReplaceAll(key, "_", "-")
			}
			clean, ok = npmKind(key).clean(value)
			return clean, true, ok
		}
	case strings.HasPrefix(name, "PIP_"):
		if k := pipKind(name[len("PIP_"):]); k != none && name == upper {
			clean, ok = k.clean(value)
			return clean, true, ok
		}
	case strings.HasPrefix(name, "CARGO_"):
		if k := cargoVariable(name[len("CARGO_"):]); k != none {
			clean, ok = k.clean(value)
			return clean, true, ok
		}
	}
	return "", false, false
}

// cargoVariable is what a variable of cargo's may hold: CARGO_A_B_C is the key
// a.b-c or a.b.c, so only the ends of names tell them apart. The name of a
// registry may hold an underscore.
func cargoVariable(name string) kind {
	for _, v := range []struct {
		prefix, suffix string
		kind           kind
	}{
		{"REGISTRIES_", "_INDEX", address}, {"REGISTRIES_", "_PROTOCOL", word}, {"REGISTRY_", "INDEX", address},
		{"SOURCE_", "_REPLACE_WITH", word}, {"SOURCE_", "_REGISTRY", address}, {"SOURCE_", "_GIT", address}, {"SOURCE_", "_DIRECTORY", file}, {"SOURCE_", "_LOCAL_REGISTRY", file},
		{"NET_", "OFFLINE", word}, {"NET_", "RETRY", word}, {"NET_", "GIT_FETCH_WITH_CLI", word},
		{"HTTP_", "TIMEOUT", word}, {"HTTP_", "CAINFO", file}, {"HTTP_", "CHECK_REVOKE", word}, {"HTTP_", "MULTIPLEXING", word}, {"HTTP_", "SSL_VERSION", word}, {"HTTP_", "LOW_SPEED_LIMIT", word},
	} {
		rest, ok := strings.CutPrefix(name, v.prefix)
		if ok && strings.HasSuffix(rest, v.suffix) && (v.suffix[0] == '_' && len(rest) > len(v.suffix) || rest == v.suffix) {
			return v.kind
		}
	}
	return none
}
