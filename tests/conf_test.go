package tests

import (
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// confSecret is each credential in confFiles.
const confSecret = "canary-conf"

// confFiles are a user's configuration of tools, with credentials in all the ways
// that they take.
var confFiles = map[string]string{
	".npmrc":                       "registry=https://me:canary-conf@registry.example.com/npm/\n@corp:registry=https://npm.example.com/\n//npm.example.com/:_authToken=canary-conf\n//registry.example.com/npm/:_password=canary-conf\n//registry.example.com/npm/:username=canary-conf\n_auth=canary-conf\n; canary-conf\nproxy=http://u:canary-conf@proxy.example.com/\nkey=\"canary-conf\"\n",
	".config/pnpm/rc":              "@corp:registry=https://canary-conf@npm.example.com/\n_authToken=canary-conf\n",
	".yarnrc":                      "registry \"https://canary-conf@registry.example.com/\"\n_authToken canary-conf\n",
	".yarnrc.yml":                  "npmRegistryServer: \"https://u:canary-conf@registry.example.com\"\nnpmScopes:\n  corp:\n    npmRegistryServer: https://npm.example.com\n    npmAuthToken: canary-conf\nnpmAuthIdent: canary-conf\n",
	".config/pip/pip.conf":         "[global]\nindex-url = https://me:canary-conf@pypi.example.com/simple\nextra-index-url =\n    https://canary-conf@one.example.com/simple\n    https://two.example.com/simple?token=canary-conf\ntrusted-host = pypi.example.com\nproxy = http://u:canary-conf@proxy\nclient-cert = /canary-conf\n",
	".config/uv/uv.toml":           "index-url = \"https://canary-conf@pypi.example.com/simple\"\n[[index]]\nname = \"corp\"\nurl = \"https://u:canary-conf@corp.example.com/\"\n",
	".config/go/env":               "GOPROXY=https://me:canary-conf@proxy.example.com|https://two.example.com,direct\nGOPRIVATE=*.corp.example.com\nGOAUTH=git canary-conf\nGOFLAGS=-ldflags=-X=main.token=canary-conf\nGOSUMDB=off\nGOTOOLCHAIN=local\n",
	".cargo/config.toml":           "[source.crates-io]\nreplace-with = \"corp\"\n[source.corp]\nregistry = \"sparse+https://me:canary-conf@crates.example.com/index/\"\n[registries.corp]\nindex = \"sparse+https://crates.example.com/index/\"\ntoken = \"canary-conf\"\n[http]\nproxy = \"u:canary-conf@proxy\"\n[env]\nX = \"canary-conf\"\n[net]\nretry = 7\n",
	".cargo/credentials.toml":      "[registry]\ntoken = \"canary-conf\"\n",
	".gitconfig":                   "[user]\n\tname = Tester\n\temail = tester@example.com\n[url \"https://oauth2:canary-conf@git.example.com/\"]\n\tinsteadOf = gh:\n[url \"git@git.example.com:\"]\n\tinsteadOf = https://old.example.com/\n[credential]\n\thelper = store --file=canary-conf\n[http \"https://git.example.com/\"]\n\textraHeader = Authorization: canary-conf\n\tsslVerify = false\n[alias]\n\tx = !curl canary-conf\n[include]\n\tpath = ~/canary-conf\n",
	".config/git/config":           "[init]\n\tdefaultBranch = trunk\n[sendemail]\n\tsmtpPass = canary-conf\n",
	".m2/settings.xml":             "<settings><!-- canary-conf --><servers><server><id>corp</id><username>me</username><password>canary-conf</password></server></servers><proxies><proxy><host>p</host><password>canary-conf</password></proxy></proxies><mirrors><mirror><id>corp</id><url>https://me:canary-conf@maven.example.com/repo</url><mirrorOf>*</mirrorOf></mirror></mirrors></settings>\n",
	".config/composer/config.json": `{"repositories": {"corp": {"type": "composer", "url": "https://me:canary-conf@composer.example.com"}}, "config": {"http-basic": {"x": {"username": "me", "password": "canary-conf"}}, "github-oauth": {"github.com": "canary-conf"}}}`,
	".config/composer/auth.json":   `{"github-oauth": {"github.com": "canary-conf"}}`,
	".gradle/gradle.properties":    "x=canary-conf\n",
	".netrc":                       "machine x login y password canary-conf\n",
	".pypirc":                      "[pypi]\npassword = canary-conf\n",
}

// confEnv are variables that route requests.
var confEnv = []string{
	"npm_config_@other:registry=https://me:canary-conf@other.example.com/", "npm_config_//npm.example.com/:_authToken=canary-conf", "PIP_EXTRA_INDEX_URL=https://canary-conf@three.example.com/simple",
	"GONOSUMDB=*.corp.example.com", "GOINSECURE=canary-conf@x", "UV_DEFAULT_INDEX=https://u:canary-conf@pypi.example.com/simple", "CARGO_REGISTRIES_TWO_INDEX=sparse+https://canary-conf@two.example.com/", "CARGO_REGISTRIES_TWO_TOKEN=canary-conf", "NPM_CONFIG__AUTH=canary-conf",
}

// confAccount is an account with all of that, and a tree.
func confAccount(t *testing.T) (a account, tree string) {
	t.Helper()
	needUserNS(t)
	a = newAccount(t)
	a.mkTree(t, a.Home, confFiles)
	tree = filepath.Join(a.Home, "src/project")
	a.mkTree(t, tree, map[string]string{".git/HEAD": "ref: refs/heads/main\n", ".git/objects/": "", ".git/refs/": "", "go.mod": "module x\n", "pom.xml": "<project><modelVersion>4.0.0</modelVersion><groupId>g</groupId><artifactId>a</artifactId><version>1</version><packaging>pom</packaging></project>\n"})
	return a, tree
}

// Tools themselves report the routing of the user's configuration, inside.
func TestConfTools(t *testing.T) {
	t.Parallel()
	a, tree := confAccount(t)
	// Go is often where only the caller's PATH leads.
	goroot, err := exec.Command("go", "env", "GOROOT").Output()
	if err != nil {
		t.Fatal(err)
	}
	env := append(slices.Clone(confEnv), "PATH="+filepath.Dir(sbxPath)+":/usr/local/bin:/usr/bin:/bin:"+strings.TrimSpace(string(goroot))+"/bin")
	for _, tool := range []struct {
		name, script string
		want         []string
		optional     bool
	}{
		{"npm", "npm config get registry; npm config get @corp:registry; npm config ls -l >/dev/null", []string{"https://registry.example.com/npm/\n", "https://npm.example.com/\n"}, false},
		{"git", "git config --global --get-urlmatch http.sslVerify https://git.example.com/x; git config user.email; git config init.defaultBranch; git ls-remote --get-url gh:a/b; git ls-remote --get-url https://old.example.com/a/b", []string{"false\n", "tester@example.com\n", "trunk\n", "https://git.example.com/a/b\n", "git@git.example.com:a/b\n"}, false},
		{"go", "go env GOPROXY GOPRIVATE GOSUMDB GONOSUMDB GOTOOLCHAIN GOFLAGS", []string{"https://proxy.example.com|https://two.example.com,direct\n", "*.corp.example.com\noff\n*.corp.example.com\nlocal\n\n"}, false},
		{"pip", "pip config list; pip config debug >/dev/null", []string{"global.index-url='https://pypi.example.com/simple'\n", "global.extra-index-url='https://one.example.com/simple https://two.example.com/simple'\n", ":env:.extra-index-url='https://three.example.com/simple'\n", "global.trusted-host='pypi.example.com'\n"}, true},
		{"cargo", "RUSTC_BOOTSTRAP=1 cargo -Z unstable-options config get", []string{`source.corp.registry = "sparse+https://crates.example.com/index/"`, `source.crates-io.replace-with = "corp"`, `registries.corp.index = "sparse+https://crates.example.com/index/"`, "net.retry = 7", "CARGO_REGISTRIES_TWO_INDEX='sparse+https://two.example.com/'"}, false},
		{"composer", "composer config -g repositories", []string{`"url":"https://composer.example.com"`}, false},
		{"mvn", "mvn -o -B -ntp validate", []string{"BUILD SUCCESS"}, true},
	} {
		t.Run(tool.name, func(t *testing.T) {
			cmd := a.command(tree, env, "sh", "-c", "command -v "+tool.name)
			if finish(t, cmd).Status != 0 {
				if tool.optional {
					t.Skipf("%s is not installed where every user can reach it", tool.name)
				}
				missing(t, "%s is not installed where every user can reach it", tool.name)
			}
			r := finish(t, a.command(tree, env, sbxPath, "--layer", tool.name, "--", "sh", "-c", tool.script))
			if r.Status != 0 || strings.Contains(r.Stdout+r.Stderr, confSecret) || strings.Contains(r.Stdout, "problems were encountered") {
				t.Fatalf("%s: %v", tool.script, r)
			}
			if tool.name == "npm" {
				// A shell would drop a variable with such a name.
				r := finish(t, a.command(tree, env, sbxPath, "--", "npm", "config", "get", "@other:registry"))
				if r.Stdout != "https://other.example.com/\n" {
					t.Errorf("npm's variable: %v", r)
				}
			}
			for _, w := range tool.want {
				if !strings.Contains(r.Stdout, w) {
					t.Errorf("%s does not report %q: %v", tool.name, w, r)
				}
			}
		})
	}
}

// Scripts that change the configuration of tools go on working, and nothing of that
// reaches the host's.
func TestConfChange(t *testing.T) {
	t.Parallel()
	a, tree := confAccount(t)
	needTool(t, "npm", "git")
	same := unchanged(t, filepath.Join(a.Home, ".config"))
	before, err := os.ReadFile(a.Home + "/.npmrc")
	if err != nil {
		t.Fatal(err)
	}
	r := a.sbx(t, tree, "--", "sh", "-ec", "git config --global --add safe.directory '*'; npm config set save-exact true; git config --global safe.directory; npm config get save-exact; npm config get @corp:registry")
	if r.Stdout != "*\ntrue\nhttps://npm.example.com/\n" {
		t.Errorf("the configuration cannot be changed: %v", r)
	}
	if r := a.sbx(t, tree, "--", "sh", "-c", "git config --global safe.directory; npm config get save-exact"); r.Stdout != "*\ntrue\n" || r.Stderr != "" {
		t.Errorf("the change has not stayed: %v", r)
	}
	same()
	if after, _ := os.ReadFile(a.Home + "/.npmrc"); string(after) != string(before) {
		t.Errorf("the host's .npmrc has changed: %q", after)
	}
}
