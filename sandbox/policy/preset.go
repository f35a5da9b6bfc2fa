package policy

import (
	"path/filepath"
	"slices"
	"strings"
)

// System returns the rules for what lies outside $HOME: the programs of the
// system, read-only. /etc, /var, /dev, /proc and the other places that the
// sandbox generates are not rules; package plan knows them.
func System() []Rule {
	rules := make([]Rule, 0, 32)
	for _, p := range []string{
		"/usr", "/bin", "/sbin", "/lib", "/lib32", "/lib64", "/libx32", // merged-/usr: symlinks
		"/opt",                                                            // add-on packages, hier(7)
		"/nix",                                                            // Nix, NixOS
		"/gnu",                                                            // Guix
		"/snap",                                                           // snaps, and their mounts
		"/run/current-system", "/run/opengl-driver", "/run/booted-system", // NixOS: symlinks into /nix
		"/var/lib/dpkg",                                                                                                     // dpkg -S, dpkg-buildpackage's dependency check
		"/var/lib/texmf", "/var/lib/tex-common", "/var/lib/ghc", "/var/lib/gems", "/var/lib/xml-core", "/var/lib/sgml-base", // data of compilers that Debian generates there
		"/var/cache/fontconfig", // otherwise every font user scans /usr/share/fonts
	} {
		rules = append(rules, Rule{Access: ReadOnly, Source: p, Target: p, Optional: true, Literal: true, Origin: Origin{Builtin: "system"}})
	}
	// A read-only bind does not close a socket: connect(2) needs no write to
	// the mount. These are the daemons' sockets below the directories above.
	for _, p := range []string{"/nix/var/nix/daemon-socket", "/nix/var/nix/gc-socket", "/snap/core/current/run", "/opt/lampp/var/mysql", "/opt/containerd"} {
		rules = append(rules, Rule{Access: Hidden, Source: p, Target: p, Dir: true, Optional: true, Origin: Origin{Builtin: "system"}})
	}
	return rules
}

// homePrograms are places below $HOME where toolchains live. They hold
// programs and libraries and no credentials; a directory that mixes both is
// named by its harmless part.
var homePrograms = []string{
	"sdk", "go/bin", ".go", ".gvm", ".goenv", // Go
	".nvm", ".volta", ".fnm", ".nodenv", ".n", ".bun/bin", ".deno/bin", ".local/share/fnm", ".local/share/pnpm", ".yarn/bin", ".npm-global/bin", ".npm-global/lib", ".corepack", ".cache/node/corepack", // Node.js
	".rustup", ".cargo/bin", ".cargo/env", // Rust
	".pyenv", ".local/share/uv/python", ".local/share/uv/tools", ".local/share/pipx", ".virtualenvs", ".local/share/virtualenvs", ".poetry", ".local/share/pypoetry", "miniconda3", "anaconda3", "miniforge3", ".local/pipx", // Python
	".rbenv", ".rvm", ".gem/ruby", ".local/share/gem/ruby", // Ruby
	".sdkman", ".jenv", ".jdks", // JVM
	".asdf", ".local/share/mise", ".local/share/rtx", ".proto", // several languages
	".phpenv", ".phpbrew", ".config/composer/vendor", ".composer/vendor", // PHP
	".ghcup", ".stack/programs", ".cabal/bin", ".opam", ".elan", ".juliaup", ".julia/juliaup", ".dotnet/sdk", ".dotnet/shared", ".dotnet/host", ".dotnet/packs", ".dotnet/tools", ".dotnet/dotnet", ".dotnet/sdk-manifests", ".dotnet/templates", ".nimble/bin", ".zvm", ".zig", ".swiftly", ".foundry/bin", // others
	".nix-profile", ".local/state/nix/profiles", ".guix-profile",
	".local/bin", ".local/lib", "bin",
}

// homeCaches are what tools write below $HOME and read again: copy-on-write
// over the host's, so that the first run is warm and no run can poison the
// host's.
var homeCaches = []string{
	"go/pkg", ".cache/go-build", ".cache/golangci-lint",
	".npm", ".cache/yarn", ".yarn/berry", ".cache/node-gyp", ".cache/pnpm", ".bun/install/cache", ".cache/deno",
	".cargo/registry", ".cargo/git", ".cache/sccache",
	".cache/pip", ".cache/uv", ".cache/pypoetry",
	".cache/composer", ".composer/cache",
	".cache/ccache", ".ccache",
	".m2/repository", ".m2/wrapper", ".gradle/caches", ".gradle/wrapper", ".gradle/native", ".ivy2/cache", ".cache/coursier",
	".cache/ms-playwright", ".cache/puppeteer", ".cache/Cypress", ".cache/electron", ".cache/electron-builder",
	".cabal/packages", ".cabal/store", ".stack/pantry", ".cache/bazel", ".cache/bazelisk", ".hex/packages", ".cache/rebar3", ".nuget/packages", ".pub-cache/hosted", ".pub-cache/git", ".cache/zig",
}

// Toolchains returns the rules for toolchains and caches below home: the known
// places, the directories of path (a split $PATH) and what the environment
// says in GOROOT, CARGO_HOME and the like. Most do not exist: those of which absent
// says so are left out, because to carry them along takes a start longer than all
// else about rules. nil leaves out none; what does not exist is dropped later, by
// the prober.
func Toolchains(home string, path []string, getenv func(string) string, absent func(path string) bool) []Rule {
	if home == "" {
		return nil
	}
	var rules []Rule
	known := func(access Access, p, set string) {
		if absent != nil && absent(p) || slices.ContainsFunc(rules, func(r Rule) bool { return r.Source == p }) {
			return
		}
		rules = append(rules, Rule{Access: access, Source: p, Target: p, Optional: true, Origin: Origin{Builtin: set}})
	}
	// add is for what the environment says.
	add := func(access Access, p, set string) {
		p = filepath.Clean(p)
		if Below(p, home) && secret(p, home) == "" {
			known(access, p, set)
		}
	}
	for _, p := range homeCaches {
		known(CopyOnWrite, home+"/"+p, "cache")
	}
	for _, name := range []string{"GOMODCACHE", "GOCACHE", "CCACHE_DIR", "SCCACHE_DIR", "npm_config_cache", "NPM_CONFIG_CACHE", "PIP_CACHE_DIR", "UV_CACHE_DIR", "COMPOSER_CACHE_DIR", "YARN_CACHE_FOLDER", "PLAYWRIGHT_BROWSERS_PATH"} {
		if v := getenv(name); filepath.IsAbs(v) {
			add(CopyOnWrite, v, "cache")
		}
	}
	for _, p := range homePrograms {
		known(ReadOnly, home+"/"+p, "toolchain")
	}
	for _, name := range []string{"GOROOT", "JAVA_HOME", "RUSTUP_HOME", "NVM_DIR", "PYENV_ROOT", "VOLTA_HOME"} {
		if v := getenv(name); filepath.IsAbs(v) {
			add(ReadOnly, v, "toolchain")
		}
	}
	for _, dir := range path {
		if !filepath.IsAbs(dir) {
			continue
		}
		dir = filepath.Clean(dir)
		add(ReadOnly, dir, "toolchain")
		// Programs find their libraries beside bin. A dot-directory of $HOME
		// may keep anything else there (~/.local/share/keyrings), so there
		// it is bin alone.
		prefix := filepath.Dir(dir)
		base := filepath.Base(dir)
		if base != "bin" && base != "sbin" || !Below(prefix, home) || strings.HasPrefix(prefix[len(home)+1:], ".") {
			continue
		}
		for _, s := range []string{"lib", "lib64", "libexec", "share", "include", "pkg", "src"} {
			add(ReadOnly, filepath.Join(prefix, s), "toolchain")
		}
	}
	return rules
}

// homeSecrets are places below $HOME that hold credentials, keys, mail or
// private data. They are not shown anyway, as nothing of $HOME is but what package
// toolconf leaves of some; the list serves to warn where a rule shows one, and to keep
// built-in rules and git directories away from them.
var homeSecrets = []string{
	".ssh", ".gnupg", ".pki", ".password-store", ".local/share/keyrings", ".kde/share/apps/kwallet", ".local/share/kwalletd", ".config/op", ".config/Bitwarden", ".config/keepassxc", ".vault-token",
	".netrc", ".git-credentials", ".config/git/credentials", ".config/gh", ".config/hub", ".config/glab-cli",
	".npmrc", ".yarnrc", ".yarnrc.yml", ".pypirc", ".config/pip", ".cargo/credentials", ".cargo/credentials.toml", ".gem/credentials", ".composer/auth.json", ".config/composer/auth.json", ".m2/settings.xml", ".m2/settings-security.xml", ".gradle/gradle.properties", ".nuget/NuGet", ".hex/hex.config",
	".aws", ".azure", ".config/gcloud", ".kube", ".docker", ".config/containers", ".terraform.d", ".terraformrc", ".config/doctl", ".oci", ".boto", ".s3cfg", ".config/rclone", ".ansible",
	".mozilla", ".thunderbird", ".config/google-chrome", ".config/chromium", ".config/BraveSoftware", ".config/microsoft-edge", ".cache/mozilla", "Mail", "Maildir", ".mail",
	".local/share/uv/credentials", ".local/share/gem/credentials", ".dotnet/corefx", ".pub-cache/credentials.json", ".npm-global/etc", ".config/dart",
	".bash_history", ".zsh_history", ".python_history", ".node_repl_history", ".psql_history", ".mysql_history", ".lesshst", ".viminfo",
	".Xauthority", ".ICEauthority", ".config/pulse", ".pgpass", ".my.cnf", ".dbshell",
	".bitcoin", ".ethereum", ".config/solana", ".electrum", ".claude", ".claude.json", ".codex", ".gemini", ".config/sbx", ".local/state/sbx",
}

// systemSecrets are the same outside $HOME.
var systemSecrets = []string{
	"/etc/shadow", "/etc/gshadow", "/etc/ssh", "/etc/ssl/private", "/etc/sudoers", "/etc/NetworkManager", "/etc/wireguard", "/root",
	"/tmp/.X11-unix", "/tmp/.ICE-unix", "/var/mail", "/var/spool/mail", "/var/spool/cron",
	"/run/user", "/run/docker.sock", "/run/containerd", "/run/podman", "/run/dbus", "/run/libvirt", "/run/systemd", "/var/run/docker.sock",
}

// secret returns the listed place that p is, lies in or contains, or "".
func secret(p, home string) string {
	for _, s := range systemSecrets {
		if s == home || Below(home, s) {
			continue // root's home is the caller's own
		}
		if p == s || Below(p, s) || Below(s, p) {
			return s
		}
	}
	switch {
	case home == "":
	case p == home || Below(home, p):
		return home
	case Below(p, home):
		rest := p[len(home)+1:]
		for _, s := range homeSecrets {
			if rest == s || Below(rest, s) || Below(s, rest) {
				return home + "/" + s
			}
		}
	}
	return ""
}

// Exposes returns the place with credentials, keys or sockets that a rule
// shows, or "". agent is $SSH_AUTH_SOCK and other socket paths of the caller's
// session.
func Exposes(source, home string, sockets []string) string {
	for _, s := range sockets {
		if s != "" && (source == s || Below(s, source)) {
			return s
		}
	}
	return secret(source, home)
}

// Secret says whether path is, or lies below, a place that holds credentials.
// Unlike Exposes it says nothing of the directories above such a place.
func Secret(path, home string) bool {
	s := secret(path, home)
	return s != "" && s != home && (s == path || Below(path, s))
}
