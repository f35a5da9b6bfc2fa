package policy

import (
	"slices"
	"strings"
	"testing"
)

func noEnv(string) string { return "" }

// builtin are all the rules that stand without any flag.
func builtin(home string, path []string, getenv func(string) string) []Rule {
	return slices.Concat(System(), Toolchains(home, path, getenv, nil))
}

// TestBuiltinShowsNoSecret holds, for every built-in rule, that it neither is,
// nor lies in, nor contains a place that the lists call secret.
func TestBuiltinShowsNoSecret(t *testing.T) {
	const home = "/home/me"
	for _, r := range builtin(home, nil, noEnv) {
		if r.Access == Hidden {
			continue
		}
		if p := Exposes(r.Source, home, nil); p != "" {
			t.Errorf("%s of the set %q shows %s", r, r.Origin.Builtin, p)
		}
	}
}

// TestEnvironmentShowsNoSecret holds the same where $PATH and the tools'
// variables point at secrets: a build that can edit ~/.profile of its private
// home cannot, but a careless user can.
func TestEnvironmentShowsNoSecret(t *testing.T) {
	const home = "/home/me"
	var places []string
	for _, s := range homeSecrets {
		places = append(places, home+"/"+s, home+"/"+s+"/bin", home+"/"+s+"/x/bin")
	}
	places = append(places, systemSecrets...)
	places = append(places, home, home+"/", "/", "/home", ".", "", "bin", home+"/.config", home+"/.local/share", home+"/.cargo", home+"/.ssh/../.ssh", home+"/x/../.aws/bin")
	names := []string{"GOMODCACHE", "GOCACHE", "CCACHE_DIR", "npm_config_cache", "PIP_CACHE_DIR", "GOROOT", "JAVA_HOME", "RUSTUP_HOME", "NVM_DIR", "PYENV_ROOT", "VOLTA_HOME"}
	for _, place := range places {
		for i := range len(names) + 1 {
			getenv, path := noEnv, []string(nil)
			if i < len(names) {
				getenv = func(name string) string {
					if name == names[i] {
						return place
					}
					return ""
				}
			} else {
				path = []string{place}
			}
			for _, r := range Toolchains(home, path, getenv, nil) {
				if p := Exposes(r.Source, home, nil); p != "" {
					t.Errorf("%q in the environment: %s shows %s", place, r, p)
				}
			}
		}
	}
}

// TestAbsent: what is known to be absent is left out, whoever named it.
func TestAbsent(t *testing.T) {
	const home = "/home/me"
	env := map[string]string{"GOROOT": home + "/sdk/go1", "CARGO_HOME": home + "/c"}
	absent := func(p string) bool { return !Below(p, home+"/.cargo") && p != home+"/sdk" }
	var got []string
	for _, r := range Toolchains(home, []string{home + "/tools/bin"}, func(n string) string { return env[n] }, absent) {
		got = append(got, r.Source[len(home)+1:])
	}
	if want := []string{".cargo/registry", ".cargo/git", "sdk", ".cargo/bin", ".cargo/env"}; !slices.Equal(got, want) {
		t.Errorf("rules for %q, want %q", got, want)
	}
}

func TestToolchains(t *testing.T) {
	const home = "/home/me"
	env := map[string]string{"GOMODCACHE": "/home/me/mod", "GOROOT": "/home/me/go1.26/", "JAVA_HOME": "/opt/java", "NVM_DIR": "relative", "PIP_CACHE_DIR": "/home/me/.npm"}
	rules := Toolchains(home, []string{"/usr/bin", "/home/me/tools/bin", "/home/me/.x/bin", "/home/me/.x/../y/sbin", "rel/bin", "", "/home/me/bin", "/home/me/.ssh/bin"}, func(n string) string { return env[n] }, nil)
	got := map[string]Access{}
	for _, r := range rules {
		if _, twice := got[r.Target]; twice {
			t.Errorf("%s stands twice", r.Target)
		}
		got[r.Target] = r.Access
		if r.Source != r.Target || !r.Optional || r.Device || r.Literal || r.Origin.Flag != "" || r.Origin.Builtin == "" {
			t.Errorf("not the shape of a built-in rule: %+v", r)
		}
		if !Below(r.Target, home) {
			t.Errorf("%s is not below the home", r)
		}
		if r.Access != ReadOnly && r.Access != CopyOnWrite {
			t.Errorf("%s would write to the host or hide", r)
		}
	}
	want := map[string]Access{
		"/home/me/mod": CopyOnWrite, "/home/me/.npm": CopyOnWrite, "/home/me/go/pkg": CopyOnWrite, "/home/me/.m2/repository": CopyOnWrite,
		"/home/me/go1.26": ReadOnly, "/home/me/tools/bin": ReadOnly, "/home/me/tools/lib": ReadOnly, "/home/me/tools/share": ReadOnly,
		"/home/me/.x/bin": ReadOnly, "/home/me/y/sbin": ReadOnly, "/home/me/y/libexec": ReadOnly, "/home/me/bin": ReadOnly, "/home/me/.cargo/bin": ReadOnly, "/home/me/.nvm": ReadOnly,
	}
	for p, a := range want {
		if b, ok := got[p]; !ok || b != a {
			t.Errorf("%s: %v, %v; want %v", p, b, ok, a)
		}
	}
	for _, p := range []string{"/home/me/.x/lib", "/home/me/.x/share", "/home/me/lib", "/home/me/share", "/opt/java", "/home/me/.ssh/bin"} {
		if a, ok := got[p]; ok {
			t.Errorf("%s is shown: %v", p, a)
		}
	}
	if rules := Toolchains("", []string{"/home/me/bin"}, noEnv, nil); rules != nil {
		t.Errorf("without a home there are rules: %v", rules)
	}
}

// TestToolchainsOfRoot: for a caller whose home is /root, which is secret to
// everybody else, the directories of $PATH count as for everybody else.
func TestToolchainsOfRoot(t *testing.T) {
	rules := Toolchains("/root", []string{"/root/tools/bin", "/root/.ssh/bin"}, noEnv, nil)
	has := func(p string) bool { return slices.ContainsFunc(rules, func(r Rule) bool { return r.Target == p }) }
	if !has("/root/tools/bin") {
		t.Error("/root/tools/bin of $PATH is not shown")
	}
	if has("/root/.ssh/bin") {
		t.Error("/root/.ssh/bin is shown")
	}
	if p := Exposes("/root/project", "/root", nil); p != "" {
		t.Errorf("a directory of root's own is said to expose %s", p)
	}
	if p := Exposes("/root/project", "/home/me", nil); p != "/root" {
		t.Errorf("a directory of root's exposes %q to others", p)
	}
}

func TestExposes(t *testing.T) {
	const home = "/home/me"
	sockets := []string{"", "/tmp/ssh-x/agent.1"}
	tests := []struct{ source, want string }{
		{"/home/me/.ssh", "/home/me/.ssh"},
		{"/home/me/.ssh/id", "/home/me/.ssh"},
		{"/home/me/.config", "/home/me/"},
		{"/home/me", "/home/me"},
		{"/home", "/home/me"},
		{"/home/me/src", ""},
		{"/home/me/.sshx", ""},
		{"/home/you", ""},
		{"/tmp/ssh-x/agent.1", "/tmp/ssh-x/agent.1"},
		{"/tmp/ssh-x", "/tmp/ssh-x/agent.1"},
		{"/tmp", "/tmp/"},
		{"/run/user/1000/bus", "/run/user"},
		{"/run", "/run/"},
		{"/etc", "/etc/"},
		{"/etc/ssl/certs", ""},
		{"/etc/ssl", "/etc/ssl/private"},
		{"/usr", ""},
	}
	for _, test := range tests {
		got := Exposes(test.source, home, sockets)
		if got != test.want && !(strings.HasSuffix(test.want, "/") && (strings.HasPrefix(got, test.want))) {
			t.Errorf("Exposes(%q) = %q, want %q", test.source, got, test.want)
		}
	}
}

// TestSecret: unlike Exposes, a directory that merely holds a secret is none.
func TestSecret(t *testing.T) {
	const home = "/home/me"
	for p, want := range map[string]bool{
		"/home/me/.ssh": true, "/home/me/.ssh/x": true, "/home/me/.config": false, "/home/me/.config/gh": true, "/home/me": false, "/home": false, "/": false,
		"/home/me/src": false, "/run/user/1000": true, "/run": false, "/root/x": true, "/etc/shadow": true, "/etc": false,
	} {
		if Secret(p, home) != want {
			t.Errorf("Secret(%q) = %v", p, !want)
		}
	}
}

func TestSystem(t *testing.T) {
	for _, r := range System() {
		if !r.Optional || r.Origin.Builtin != "system" || !strings.HasPrefix(r.Target, "/") {
			t.Errorf("not the shape of a system rule: %+v", r)
		}
		if r.Access != ReadOnly && r.Access != Hidden {
			t.Errorf("%s would let the build change the system", r)
		}
		if err := checkTarget(r); r.Access != Hidden && err != nil {
			t.Errorf("a user could not type %s: %v", r, err)
		}
	}
}
