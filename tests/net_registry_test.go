package tests

import (
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"
)

// certificates are the variables by which clients find the machine's certificates, and
// the go command.
func certificates() (env, flags []string) {
	for _, name := range []string{"NODE_EXTRA_CA_CERTS", "SSL_CERT_FILE", "SSL_CERT_DIR", "PIP_CERT", "REQUESTS_CA_BUNDLE", "CARGO_HTTP_CAINFO", "GIT_SSL_CAINFO", "CURL_CA_BUNDLE"} {
		if v, ok := os.LookupEnv(name); ok {
			env, flags = append(env, name+"="+v), append(flags, "--env", name)
		}
	}
	if path, err := exec.LookPath("go"); err == nil {
		env = append(env, "PATH=/usr/local/bin:/usr/bin:/bin:"+filepath.Dir(path))
	}
	return env, flags
}

var fixes = regexp.MustCompile(`(?m)^sbx: denied: .*; (--net-allow) (\S+)$`)

// follow runs a command with an allow-list that is empty at first, and adds what sbx
// says would allow what it has denied, until the command works. So each client's hosts
// are found out by the machine's own configuration, and what sbx says is proven to help.
func follow(t *testing.T, a account, tree string, want string, args ...string) {
	t.Helper()
	env, flags := certificates()
	// The first run must deny something, by a relay.
	allow := []string{"--net-allow", "nobody.example.com"}
	for round := range 6 {
		all := slices.Concat([]string{"run", "--rm", "--net=none"}, allow, flags, args)
		began := time.Now()
		r := finish(t, a.command(tree, env, sbxPath, all...))
		took := time.Since(began)
		if r.Status == 0 && strings.Contains(r.Stdout+r.Stderr, want) {
			t.Logf("round %d: %d rules, %v", round, len(allow)/2-1, took)
			if round == 0 {
				t.Errorf("it works without a rule: %v", r)
			}
			return
		}
		n := len(allow)
		for _, m := range fixes.FindAllStringSubmatch(r.Stderr, -1) {
			// Ports are of connections, which come after names.
			if !slices.Contains(allow, m[2]) {
				allow = append(allow, m[1], m[2])
			}
		}
		if len(allow) == n {
			t.Fatalf("round %d: it fails, and sbx says nothing that would help: %v", round, r)
		}
		if took > 30*time.Second {
			t.Errorf("round %d takes %v to fail", round, took)
		}
	}
	t.Errorf("it still fails with %q", allow)
}

// needClient skips where a client gets nothing on the host itself. That is no failure
// under SBX_MUST_WORK: not every machine reaches every registry.
func needClient(t *testing.T, a account, args ...string) {
	t.Helper()
	needTool(t, args[0])
	env, _ := certificates()
	cmd := a.command(a.dir(t), env, "timeout", append([]string{"20"}, args...)...)
	if r := finish(t, cmd); r.Status != 0 {
		t.Skipf("without sbx it gets nothing on this machine either: %q: %v", args, r)
	}
}

// realNetwork is for tests that need more than the machine itself.
func realNetwork(t *testing.T) account {
	t.Parallel()
	needUserNS(t)
	if testing.Short() {
		t.Skip("it needs the real network; -short")
	}
	return newAccount(t)
}

func TestNetRegistryNpm(t *testing.T) {
	a := realNetwork(t)
	needClient(t, a, "npm", "view", "ms", "version", "--no-update-notifier")
	tree := a.tree(t, map[string]string{"package.json": `{"name": "x", "version": "1.0.0", "dependencies": {"ms": "2.1.3", "is-number": "7.0.0"}}`})
	follow(t, a, tree, "installed 2", "--", "sh", "-c", "npm install --no-audit --no-fund --no-update-notifier && ls node_modules && echo installed $(ls node_modules | wc -l)")
}

func TestNetRegistryNpmCI(t *testing.T) {
	a := realNetwork(t)
	needClient(t, a, "npm", "view", "ms", "version", "--no-update-notifier")
	e := newExample(t, "npm")
	follow(t, e.account, e.dir, "modules", "--", "sh", "-c", "npm ci --no-audit --no-fund --no-update-notifier && echo modules")
}

func TestNetRegistryGo(t *testing.T) {
	a := realNetwork(t)
	settings, err := exec.Command("go", "env", "GOPROXY", "GOSUMDB").Output()
	if err != nil {
		missing(t, "go is not installed")
	}
	values := strings.Split(string(settings), "\n")
	env := []string{"GOFLAGS=-modcacherw", "GOPROXY=" + values[0], "GOSUMDB=" + values[1], "GOTOOLCHAIN=local"}
	needClient(t, a, "env", env[0], env[1], env[2], "GOPATH="+a.Home+"/outside", "go", "mod", "download", "rsc.io/quote@v1.5.2")
	tree := a.tree(t, map[string]string{"go.mod": "module x\n\ngo 1.21\n\nrequire rsc.io/quote v1.5.2\n", "main.go": "package main\n\nimport \"rsc.io/quote\"\n\nfunc main() { println(quote.Go()) }\n"})
	var flags []string
	for _, e := range append(env, "GOPATH=/tmp/go", "GOCACHE=/tmp/cache") {
		flags = append(flags, "--env", e)
	}
	follow(t, a, tree, "communicat", append(flags, "--", "sh", "-c", "go mod tidy && go mod download && go run .")...)
}

func TestNetRegistryPip(t *testing.T) {
	a := realNetwork(t)
	needClient(t, a, "python3", "-m", "pip", "download", "--no-deps", "-d", a.Home+"/outside", "six==1.16.0")
	follow(t, a, a.tree(t, nil), "six-1.16.0", "--", "sh", "-c", "python3 -m pip download --retries 0 --no-cache-dir --no-deps six==1.16.0 && ls")
}

func TestNetRegistryCargo(t *testing.T) {
	a := realNetwork(t)
	tree := a.tree(t, map[string]string{"Cargo.toml": "[package]\nname = \"x\"\nversion = \"0.1.0\"\nedition = \"2021\"\n\n[dependencies]\nitoa = \"=1.0.9\"\n", "src/main.rs": "fn main() {}\n"})
	needTool(t, "cargo")
	needClient(t, a, "sh", "-c", "cargo init -q --name x . && printf 'itoa = \"=1.0.9\"\\n' >> Cargo.toml && CARGO_HOME="+a.Home+"/outside CARGO_NET_RETRY=0 cargo fetch")
	follow(t, a, tree, "fetched", "--env", "CARGO_HOME=/tmp/cargo", "--", "sh", "-c", "cargo fetch && echo fetched")
}

func TestNetRegistryComposer(t *testing.T) {
	a := realNetwork(t)
	needTool(t, "composer")
	needClient(t, a, "sh", "-c", `echo '{"require": {"psr/log": "3.0.0"}}' > composer.json && composer install --no-interaction --no-progress`)
	tree := a.tree(t, map[string]string{"composer.json": `{"require": {"psr/log": "3.0.0"}}`})
	follow(t, a, tree, "installed", "--", "sh", "-c", "composer install --no-interaction --no-progress && test -f vendor/autoload.php && echo installed")
}

func TestNetRegistryApt(t *testing.T) {
	a := realNetwork(t)
	needClient(t, a, "apt-cache", "policy")
	// With state of its own, by the machine's sources.
	script := `d=$(mktemp -d) && mkdir -p $d/lists/partial $d/cache/archives/partial && cd $d &&
		o="-o APT::Sandbox::User= -o Dir::State=$d -o Dir::State::lists=$d/lists -o Dir::Cache=$d/cache -o Acquire::Retries=0 -o Acquire::Languages=none -o Dir::State::status=/var/lib/dpkg/status -o APT::Update::Error-Mode=any"
		apt-get $o update && apt-get $o download hello && ls`
	needClient(t, a, "sh", "-c", script)
	follow(t, a, a.tree(t, nil), "hello_", "--ro", "/var/lib/dpkg/status", "--", "sh", "-c", script)
}

// TestNetRegistryGit clones from a server of the test's.
func TestNetRegistryGit(t *testing.T) {
	t.Parallel()
	needTool(t, "git")
	w := newWorld(t)
	w.nameserver(zone())
	dir := w.a.dir(t)
	script := `git init -q src && cd src && git -c user.name=x -c user.email=x@example.com commit -q --allow-empty -m first && cd .. && git clone -q --bare src repo.git && git -C repo.git update-server-info`
	cmd := w.a.command(dir, nil, "sh", "-c", script)
	if r := finish(t, cmd); r.Status != 0 {
		t.Fatal(r)
	}
	ready := make(chan bool)
	w.in(w.wan, func() {
		l := w.plainListener("93.184.216.1:80")
		go http.Serve(l, http.FileServer(http.Dir(dir)))
		close(ready)
	})
	<-ready
	for _, flags := range [][]string{nil, {"--net=none", "--net-allow", "www.example.com:80"}} {
		r := w.sbx(append(append([]string{"run", "--rm"}, flags...), "--", "sh", "-c", "git clone http://www.example.com/repo.git && git -C repo log --oneline")...)
		if r.Status != 0 || !strings.Contains(r.Stdout, "first") {
			t.Error(r)
		}
	}
}

// TestNetRegistryDenied: an install that is not allowed fails in seconds, and sbx says
// why.
func TestNetRegistryDenied(t *testing.T) {
	t.Parallel()
	needUserNS(t)
	needTool(t, "npm", "node")
	a := newAccount(t)
	tree := a.tree(t, map[string]string{"package.json": `{"name": "x", "version": "1.0.0"}`})
	for _, flags := range [][]string{{"--net=none"}, {"--net=none", "--net-allow", "nobody.example.com"}} {
		began := time.Now()
		r := a.sbx(t, tree, append(append([]string{}, flags...), "--", "npm", "install", "ms")...)
		took := time.Since(began)
		if r.Status == 0 || took > 15*time.Second {
			t.Errorf("%v after %v: %v", flags, took, r)
		}
		if len(flags) > 1 && !fixes.MatchString(r.Stderr) {
			t.Errorf("sbx does not say what it has denied: %v", r)
		}
		t.Logf("%v: %v", flags, took)
	}
}
