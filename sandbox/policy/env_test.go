package policy

import (
	"slices"
	"strings"
	"testing"
)

// vars indexes what Environment returns, which must be sorted and without
// doubles.
func vars(t *testing.T, list []Var) map[string]Var {
	t.Helper()
	if !slices.IsSortedFunc(list, func(a, b Var) int { return strings.Compare(a.Name, b.Name) }) {
		t.Errorf("not sorted: %v", list)
	}
	m := map[string]Var{}
	for _, v := range list {
		if _, twice := m[v.Name]; twice {
			t.Errorf("%s is there twice", v.Name)
		}
		if v.Why == "" {
			t.Errorf("nothing says why %s passes or not", v.Name)
		}
		m[v.Name] = v
	}
	return m
}

func TestParseEnv(t *testing.T) {
	good := map[string]EnvRule{
		"FOO":     {Name: "FOO"},
		"MW_*":    {Name: "MW_*"},
		"A[bc]?":  {Name: "A[bc]?"},
		"FOO=":    {Name: "FOO", Set: true},
		"FOO=a=b": {Name: "FOO", Value: "a=b", Set: true},
		"F=*?[":   {Name: "F", Value: "*?[", Set: true},
	}
	for in, want := range good {
		if got, err := ParseEnv(in); got != want || err != nil {
			t.Errorf("ParseEnv(%q) = %+v, %v", in, got, err)
		}
	}
	bad := map[string]string{"": "name is empty", "=x": "name is empty", "A*=x": "takes no value", "A[": "malformed", "A\x00": "NUL", "A=\x00": "NUL"}
	for in, why := range bad {
		_, err := ParseEnv(in)
		if err == nil || !strings.Contains(err.Error(), why) {
			t.Errorf("ParseEnv(%q): %v, want %q", in, err, why)
		}
	}
	// What is secret about --env NAME=VALUE must not come back in an error.
	if _, err := ParseEnv("A*=hunter2"); strings.Contains(err.Error(), "hunter2") {
		t.Errorf("the error shows the value: %v", err)
	}
}

// TestEnvironmentSecrets holds the promise of the allow-list: what commonly
// carries a credential does not pass unless it is asked for by name.
func TestEnvironmentSecrets(t *testing.T) {
	secrets := []string{
		"AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN", "GITHUB_TOKEN", "GH_TOKEN", "GITLAB_TOKEN", "CI_JOB_TOKEN", "NPM_TOKEN", "NODE_AUTH_TOKEN",
		"npm_config__authToken", "NPM_CONFIG_REGISTRY", "npm_config_//registry.example.org/:_authToken", "CARGO_REGISTRY_TOKEN", "CARGO_REGISTRIES_CORP_TOKEN",
		"PIP_INDEX_URL", "UV_INDEX_URL", "TWINE_PASSWORD", "COMPOSER_AUTH", "HTTP_PROXY", "https_proxy", "GOPROXY", "GOAUTH", "NETRC", "VAULT_TOKEN", "DOCKER_AUTH_CONFIG",
		"KUBECONFIG", "SSH_AUTH_SOCK", "SSH_AGENT_PID", "GPG_AGENT_INFO", "GNUPGHOME", "DBUS_SESSION_BUS_ADDRESS", "XDG_RUNTIME_DIR", "DISPLAY", "WAYLAND_DISPLAY", "XAUTHORITY",
		"PGPASSWORD", "MYSQL_PWD", "DATABASE_URL", "OPENAI_API_KEY", "ANTHROPIC_API_KEY", "SENTRY_DSN", "GIT_ASKPASS", "SSH_ASKPASS", "GIT_SSH_COMMAND", "GIT_CONFIG_PARAMETERS",
		"GIT_CONFIG_COUNT", "LD_PRELOAD", "BASH_ENV", "ENV", "PROMPT_COMMAND", "BASH_FUNC_x%%", "MAVEN_GPG_PASSPHRASE", "BUNDLE_RUBYGEMS__PKG__GITHUB__COM", "HOMEBREW_GITHUB_API_TOKEN",
		"SBX_STATE", "SBX_SOURCE", "SUDO_ASKPASS", "OP_SESSION_me",
	}
	var environ []string
	for _, name := range secrets {
		environ = append(environ, name+"=hunter2")
	}
	for name, v := range vars(t, Environment(environ, nil, nil, "/tree")) {
		if v.Pass {
			t.Errorf("%s passes: %s", name, v.Why)
		}
	}
	var rules []EnvRule
	for _, name := range secrets {
		if r, err := ParseEnv(name); err == nil {
			rules = append(rules, r)
		}
	}
	for name, v := range vars(t, Environment(environ, rules, nil, "/tree")) {
		if !v.Pass || v.Value != "hunter2" || !strings.HasPrefix(v.Why, "--env ") {
			t.Errorf("--env %s: %+v", name, v)
		}
	}
}

func TestEnvironmentAllowed(t *testing.T) {
	environ := []string{
		"PATH=/bin", "LC_ALL=C", "LC_=x", "CFLAGS=-O2", "CMAKE_GENERATOR=Ninja", "V=1", "TERM=a", "TERM=b",
		"=odd", "noequals", "GIT_AUTHOR_NAME=Me", "LCX=1", "PATHX=1", "XPATH=1", "MW_DB=x", "MW_USER=y",
		"SBX=forged", "HOME=/root",
	}
	got := vars(t, Environment(environ, []EnvRule{{Name: "MW_*"}, {Name: "NEW", Value: "v", Set: true}, {Name: "PATH", Value: "/own", Set: true}},
		map[string]string{"SBX": "1", "HOME": "/home/me"}, "/tree"))
	want := map[string]struct {
		pass  bool
		value string
	}{
		"PATH": {true, "/own"}, "LC_ALL": {true, "C"}, "LC_": {true, "x"}, "CFLAGS": {true, "-O2"}, "CMAKE_GENERATOR": {true, "Ninja"}, "V": {true, "1"},
		"TERM": {true, "b"}, "GIT_AUTHOR_NAME": {true, "Me"}, "LCX": {false, "1"}, "PATHX": {false, "1"}, "XPATH": {false, "1"},
		"MW_DB": {true, "x"}, "MW_USER": {true, "y"}, "SBX": {true, "1"}, "HOME": {true, "/home/me"}, "NEW": {true, "v"},
	}
	for name, w := range want {
		if v := got[name]; v.Pass != w.pass || v.Value != w.value {
			t.Errorf("%s: %+v, want %+v", name, v, w)
		}
		delete(got, name)
	}
	if len(got) != 0 {
		t.Errorf("also there: %v", got)
	}
}

// TestEnvironmentCredentialValue is the second line of defence: a variable that
// may pass by its name does not with a credential in its value.
func TestEnvironmentCredentialValue(t *testing.T) {
	tests := []struct {
		kv   string
		pass bool
	}{
		{"CCACHE_REMOTE_STORAGE=http://cache.example.org/x", true},
		{"CCACHE_REMOTE_STORAGE=http://me:pw@cache.example.org/x", false},
		{"CCACHE_REMOTE_STORAGE=redis://:pw@cache/0", false},
		{"GOFLAGS=-mod=mod http://a/ https://u:p@b/", false},
		{"CFLAGS=-DURL=\"http://x/y@z\"", true},
		{"JAVA_OPTS=-Dhttp.proxyPassword=x", false},
		{"MAVEN_OPTS=-Dtoken=abc", false},
		{"GRADLE_OPTS=-Dorg.gradle.project.APIKEY=abc", false},
		{"MAVEN_OPTS=-Dgpg.passphrase=abc", false},
		{"GRADLE_OPTS=-Daws.secretKey=abc", false},
		{"MAVEN_OPTS=-Xmx2g -Dfile.encoding=UTF-8", true},
		{"CFLAGS=-DHAVE_TOKENS", true},
		{"DEBEMAIL=me@example.org", true},
		{"GIT_AUTHOR_EMAIL=me@example.org", true},
		{"npm_config_cache=/home/me/_auth=x", false},
	}
	for _, test := range tests {
		name, value, _ := strings.Cut(test.kv, "=")
		v := vars(t, Environment([]string{test.kv}, nil, nil, "/tree"))[name]
		if v.Pass != test.pass {
			t.Errorf("%s: pass is %v (%s)", test.kv, v.Pass, v.Why)
		}
		v = vars(t, Environment([]string{test.kv}, []EnvRule{{Name: name}}, nil, "/tree"))[name]
		if !v.Pass || v.Value != value {
			t.Errorf("--env %s does not overrule: %+v", name, v)
		}
	}
}

// TestEnvironmentJobserver: the words of make's jobserver go, and nothing else;
// without a jobserver MAKEFLAGS is untouched (GNU make manual, "Job Slots").
func TestEnvironmentJobserver(t *testing.T) {
	tests := []struct{ in, want string }{
		{"", ""},
		{"ks", "ks"},
		{" -j4", " -j4"},
		{"ks -j4 --jobserver-auth=3,4", "ks"},
		{" -j4 --jobserver-auth=fifo:/tmp/GMfifo12", ""},
		{"k --jobserver-fds=3,4 -j", "k"},
		{" -j4 --jobserver-auth=3,4 -- A=1 B=2", "-- A=1 B=2"},
		{" -- A=a\\ \\ b", " -- A=a\\ \\ b"},
		{" -j4 --jobserver-auth=3,4 -- A=a\\ \\ b", "-- A=a\\ \\ b"},
		{" -j4 --jobserver-auth=3,4 -- SUB=make\\ -j8 X=1", "-- SUB=make\\ -j8 X=1"},
	}
	for _, test := range tests {
		for _, name := range []string{"MAKEFLAGS", "MFLAGS"} {
			v := vars(t, Environment([]string{name + "=" + test.in}, nil, nil, "/tree"))[name]
			if !v.Pass || v.Value != test.want {
				t.Errorf("%s=%q becomes %q, want %q", name, test.in, v.Value, test.want)
			}
		}
	}
	// It goes from what is asked for by name too: it cannot work inside.
	v := vars(t, Environment([]string{"MAKEFLAGS=-j2 --jobserver-auth=3,4"}, []EnvRule{{Name: "MAKE*"}}, nil, "/tree"))["MAKEFLAGS"]
	if v.Value != "" {
		t.Errorf("--env 'MAKE*' keeps the jobserver: %q", v.Value)
	}
}

// TestEnvironmentGit: a hook's variables pass where they point into the tree.
func TestEnvironmentGit(t *testing.T) {
	tests := []struct {
		kv   string
		pass bool
	}{
		{"GIT_DIR=.git", true},
		{"GIT_DIR=/src/tree/.git", true},
		{"GIT_DIR=/src/tree", true},
		{"GIT_DIR=/src/tree/../other/.git", false},
		{"GIT_DIR=/src/tree2/.git", false},
		{"GIT_DIR=../../x/.git", false},
		{"GIT_DIR=a/../../../x", false},
		{"GIT_INDEX_FILE=.git/index.lock", true},
		{"GIT_INDEX_FILE=/tmp/index", false},
		{"GIT_WORK_TREE=.", true},
		{"GIT_PREFIX=", true},
		{"GIT_PREFIX=sub/", true},
		{"GIT_OBJECT_DIRECTORY=/src/tree/.git/objects", true},
		{"GIT_OBJECT_DIRECTORY=/", false},
		{"GIT_ALTERNATE_OBJECT_DIRECTORIES=/src/tree/x", false},
		{"GIT_EXEC_PATH=/src/tree/x", false},
	}
	for _, test := range tests {
		name, _, _ := strings.Cut(test.kv, "=")
		if v := vars(t, Environment([]string{test.kv}, nil, nil, "/src/tree"))[name]; v.Pass != test.pass {
			t.Errorf("%s: pass is %v (%s)", test.kv, v.Pass, v.Why)
		}
	}
}

// TestEnvironmentRouting: variables that say where requests go pass without user
// info, or not at all; --env passes them as they are.
func TestEnvironmentRouting(t *testing.T) {
	for kv, want := range map[string]Var{
		"GOPROXY=https://me:hunter2@proxy.example.com,direct":       {Value: "https://proxy.example.com,direct", Pass: true, Why: "allowed, credentials removed"},
		"GOPRIVATE=*.example.com":                                   {Value: "*.example.com", Pass: true, Why: "allowed"},
		"npm_config_registry=https://hunter2@npm.example.com/":      {Value: "https://npm.example.com/", Pass: true, Why: "allowed, credentials removed"},
		"npm_config_@corp:registry=https://npm.example.com/":        {Value: "https://npm.example.com/", Pass: true, Why: "allowed"},
		"npm_config_cache=/home/me/.npm":                            {Value: "/home/me/.npm", Pass: true, Why: "allowed"},
		"PIP_INDEX_URL=hunter2":                                     {Value: "hunter2", Why: NotUnderstood},
		"CARGO_REGISTRIES_CORP_INDEX=https://hunter2@c.example.com": {Value: "https://c.example.com", Pass: true, Why: "allowed, credentials removed"},
		"CARGO_REGISTRIES_CORP_TOKEN=hunter2":                       {Value: "hunter2", Why: "not on the allow-list"},
	} {
		name, raw, _ := strings.Cut(kv, "=")
		want.Name = name
		if got := vars(t, Environment([]string{kv}, nil, nil, "/tree"))[name]; got != want {
			t.Errorf("%s: %+v, want %+v", kv, got, want)
		}
		if got := vars(t, Environment([]string{kv}, []EnvRule{{Name: name}}, nil, "/tree"))[name]; got.Value != raw || !got.Pass {
			t.Errorf("--env %s: %+v", name, got)
		}
	}
}
