package policy

import (
	"maps"
	"path"
	"slices"
	"strings"

	"github.com/sbx-build/sbx/sandbox/toolconf"
)

// envAllowed are the environment variables that pass. It is an allow-list:
// every list of secrets' names has been one behind. A trailing * matches any
// rest. What a name on it may hold is a setting and never a credential. Names that
// hold URLs often carry user:password@ and are not here: those of proxies
// (http_proxy) do not pass, and those that route requests (PIP_INDEX_URL, GOPROXY,
// CARGO_REGISTRIES_*) are cleaned (package toolconf).
var envAllowed = []string{
	"PATH", "HOME", "USER", "LOGNAME", "SHELL", "PWD", "SHLVL", // login(1), sh(1)
	"TERM", "COLORTERM", "TERM_PROGRAM", "TERM_PROGRAM_VERSION", "COLUMNS", "LINES", "NO_COLOR", "FORCE_COLOR", "CLICOLOR", "CLICOLOR_FORCE", "LS_COLORS", "GCC_COLORS",
	"LANG", "LANGUAGE", "LC_*", "TZ", "EDITOR", "VISUAL", "PAGER", "LESS",
	"CI", "DEBIAN_FRONTEND", "SOURCE_DATE_EPOCH",
	"CC", "CXX", "CPP", "LD", "AR", "AS", "NM", "RANLIB", "STRIP", "OBJCOPY", "OBJDUMP", "FC", "F77", "HOSTCC", "CROSS_COMPILE", "ARCH",
	"CFLAGS", "CXXFLAGS", "CPPFLAGS", "LDFLAGS", "LIBS", "ASFLAGS", "FFLAGS", "FCFLAGS", "CPATH", "C_INCLUDE_PATH", "CPLUS_INCLUDE_PATH", "LIBRARY_PATH", "LD_LIBRARY_PATH", "PKG_CONFIG", "PKG_CONFIG_PATH", "PKG_CONFIG_LIBDIR", "PKG_CONFIG_SYSROOT_DIR", "ACLOCAL_PATH", "DESTDIR", "PREFIX",
	"MAKEFLAGS", "MAKELEVEL", "MFLAGS", "V", "VERBOSE", "NINJA_STATUS", "CMAKE_*", "CTEST_*", "MESON_*", "CCACHE_*", "SCCACHE_DIR", "DEB_*", "DEBEMAIL", "DEBFULLNAME",
	"GOROOT", "GOPATH", "GOOS", "GOARCH", "GOARM", "GOARM64", "GOAMD64", "GO386", "GOBIN", "GOCACHE", "GOMODCACHE", "GOFLAGS", "GO111MODULE", "GOTOOLCHAIN", "GOWORK", "GOEXPERIMENT", "GODEBUG", "GOGC", "GOMAXPROCS", "GOMEMLIMIT", "GOTRACEBACK", "CGO_*",
	"CARGO_HOME", "CARGO_TARGET_DIR", "CARGO_BUILD_*", "CARGO_INCREMENTAL", "CARGO_TERM_*", "CARGO_PROFILE_*", "RUSTC", "RUSTC_WRAPPER", "RUSTFLAGS", "RUSTDOCFLAGS", "RUSTUP_HOME", "RUSTUP_TOOLCHAIN", "RUST_BACKTRACE", "RUST_LOG",
	"NODE_ENV", "NODE_OPTIONS", "NODE_PATH", "NVM_DIR", "NVM_BIN", "NVM_INC", "VOLTA_HOME", "FNM_*", "COREPACK_HOME", "npm_config_cache", "NPM_CONFIG_CACHE", "npm_config_jobs", "npm_config_loglevel", "YARN_CACHE_FOLDER", "PNPM_HOME", "BUN_INSTALL", "DENO_DIR", "PLAYWRIGHT_BROWSERS_PATH",
	"PYTHONPATH", "PYTHONHASHSEED", "PYTHONUNBUFFERED", "PYTHONDONTWRITEBYTECODE", "PYTHONWARNINGS", "VIRTUAL_ENV", "CONDA_PREFIX", "CONDA_DEFAULT_ENV", "PYENV_ROOT", "PYENV_VERSION", "PIP_CACHE_DIR", "PIP_NO_CACHE_DIR", "UV_CACHE_DIR", "TOX_*", "PYTEST_ADDOPTS",
	"JAVA_HOME", "JAVA_OPTS", "JDK_HOME", "MAVEN_OPTS", "MAVEN_HOME", "M2_HOME", "GRADLE_OPTS", "GRADLE_HOME", "GRADLE_USER_HOME", "ANT_HOME", "ANT_OPTS", "SDKMAN_DIR", "ANDROID_HOME", "ANDROID_SDK_ROOT",
	"GEM_HOME", "GEM_PATH", "RBENV_ROOT", "RBENV_VERSION", "RUBYLIB", "RUBYOPT", "BUNDLE_PATH", "BUNDLE_GEMFILE", "RAILS_ENV", "RACK_ENV",
	"PERL5LIB", "PERL_MM_OPT", "PERL_MB_OPT", "PERL_LOCAL_LIB_ROOT", "LUA_PATH", "LUA_CPATH",
	"COMPOSER_HOME", "COMPOSER_CACHE_DIR", "COMPOSER_NO_INTERACTION", "COMPOSER_ALLOW_SUPERUSER", "COMPOSER_MEMORY_LIMIT", "PHP_INI_SCAN_DIR", "APP_ENV",
	"DOTNET_ROOT", "DOTNET_CLI_TELEMETRY_OPTOUT", "MIX_ENV", "HEX_HOME", "ERL_FLAGS", "JULIA_DEPOT_PATH", "GHCUP_*", "STACK_ROOT", "OPAM*", "OCAMLPATH", "ZIG_*",
	"GIT_AUTHOR_NAME", "GIT_AUTHOR_EMAIL", "GIT_AUTHOR_DATE", "GIT_COMMITTER_NAME", "GIT_COMMITTER_EMAIL", "GIT_COMMITTER_DATE", "GIT_PAGER", "GIT_EDITOR", "GIT_TRACE",
	"NIX_PATH", "NIX_PROFILES", "NIX_SSL_CERT_FILE", "SSL_CERT_FILE", "SSL_CERT_DIR", "CURL_CA_BUNDLE", "REQUESTS_CA_BUNDLE", "NODE_EXTRA_CA_CERTS", "LOCALE_ARCHIVE",
}

// gitPaths pass where they name something in the tree: a git hook that calls
// sbx sets them, and outside the tree they would send git to what is not there.
var gitPaths = []string{"GIT_DIR", "GIT_WORK_TREE", "GIT_INDEX_FILE", "GIT_PREFIX", "GIT_OBJECT_DIRECTORY"}

// EnvRule is one --env: a name, a pattern of names, or a name with its value.
type EnvRule struct {
	Name  string
	Value string
	Set   bool
}

// ParseEnv reads the value of --env: NAME, a pattern such as MW_*, or
// NAME=VALUE.
func ParseEnv(s string) (EnvRule, error) {
	name, value, set := strings.Cut(s, "=")
	bad := func(reason string) (EnvRule, error) {
		return EnvRule{}, &RuleError{Flag: "--env " + name, Reason: reason}
	}
	switch {
	case name == "":
		return bad("the name is empty")
	case strings.ContainsRune(s, 0):
		return bad("it contains a NUL byte")
	case set && strings.ContainsAny(name, "*?["):
		return bad("a pattern takes no value")
	}
	if _, err := path.Match(name, "x"); err != nil {
		return bad("the pattern is malformed")
	}
	return EnvRule{Name: name, Value: value, Set: set}, nil
}

// Matches says whether the rule is about a variable.
func (r EnvRule) Matches(name string) bool {
	ok, _ := path.Match(r.Name, name)
	return ok
}

// Var is one variable of the caller's environment, or one that sbx adds, and
// what became of it.
type Var struct {
	Name, Value string
	// Pass says that the command gets it.
	Pass bool
	// Why names the rule: "allowed", "--env X", "set by sbx", "not on the
	// allow-list" …
	Why string
}

// NotUnderstood is why a variable that routes requests does not pass.
const NotUnderstood = "its value is not understood, and may hold a credential"

// Environment decides over every variable of environ (as of os.Environ), then
// adds set. The result is sorted by name; the last of two equal names counts.
func Environment(environ []string, rules []EnvRule, set map[string]string, tree string) []Var {
	vars := make(map[string]Var, len(environ)+len(set))
	for _, kv := range environ {
		name, value, ok := strings.Cut(kv, "=")
		if !ok || name == "" {
			continue
		}
		value, pass, why := decide(name, value, rules, tree)
		if pass && (name == "MAKEFLAGS" || name == "MFLAGS") {
			value = dropJobserver(value)
		}
		vars[name] = Var{name, value, pass, why}
	}
	for name, value := range set {
		vars[name] = Var{name, value, true, "set by sbx"}
	}
	for _, r := range rules {
		if r.Set {
			vars[r.Name] = Var{r.Name, r.Value, true, "--env " + r.Name + "=…"}
		}
	}
	return slices.SortedFunc(maps.Values(vars), func(a, b Var) int { return strings.Compare(a.Name, b.Name) })
}

// decide says whether a variable passes, with which value, and why.
func decide(name, value string, rules []EnvRule, tree string) (passed string, pass bool, why string) {
	for i := len(rules) - 1; i >= 0; i-- {
		if rules[i].Matches(name) && !rules[i].Set {
			return value, true, "--env " + rules[i].Name
		}
	}
	for _, g := range gitPaths {
		if name == g {
			// A relative path is relative to the working directory, which
			// is in the tree.
			if !path.IsAbs(value) && !strings.HasPrefix(path.Clean(value), "..") {
				return value, true, "it points into the tree"
			}
			if v := path.Clean(value); v == tree || Below(v, tree) {
				return value, true, "it points into the tree"
			}
			return value, false, "it points outside the tree"
		}
	}
	if clean, known, ok := toolconf.Variable(name, value); known {
		switch {
		case !ok:
			return value, false, NotUnderstood
		case clean != value:
			return clean, true, "allowed, credentials removed"
		}
		return value, true, "allowed"
	}
	if !allowed(name) {
		return value, false, "not on the allow-list"
	}
	if toolconf.Credential(value) {
		return value, false, "its value looks like a credential"
	}
	return value, true, "allowed"
}

func allowed(name string) bool {
	for _, a := range envAllowed {
		// The first byte decides nearly always.
		if a[0] != name[0] {
			continue
		}
		if a == name || a[len(a)-1] == '*' && strings.HasPrefix(name, a[:len(a)-1]) {
			return true
		}
	}
	return false
}

// dropJobserver removes the jobserver's words: its descriptors or fifo are not
// inside, and make(1) warns and falls back to -j1 at each level. -jN stands
// beside them and belongs to them. After `--` come variables, which may hold
// anything.
func dropJobserver(flags string) string {
	options, variables, found := strings.Cut(flags, " -- ")
	words := strings.Fields(options)
	jobserver := func(w string) bool {
		return strings.HasPrefix(w, "--jobserver-auth=") || strings.HasPrefix(w, "--jobserver-fds=")
	}
	if !slices.ContainsFunc(words, jobserver) {
		return flags
	}
	words = slices.DeleteFunc(words, func(w string) bool { return jobserver(w) || strings.HasPrefix(w, "-j") })
	if found {
		words = append(words, "--", variables)
	}
	return strings.Join(words, " ")
}
