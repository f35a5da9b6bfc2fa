package tests

import (
	"fmt"
	"io"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"sort"
	"strings"
	"testing"
)

// changed are the files of a directory that differ from a snapshot.
func changed(t *testing.T, dir string, before map[string]string) []string {
	t.Helper()
	after, err := snapshot(dir)
	if err != nil {
		t.Fatal(err)
	}
	var list []string
	for name := range before {
		if _, ok := after[name]; !ok {
			list = append(list, name)
		}
	}
	for name, is := range after {
		if st, err := os.Lstat(filepath.Join(dir, name)); err == nil && st.IsDir() && before[name] != "" {
			continue // its time changes with what is in it
		}
		if before[name] != is {
			list = append(list, name)
		}
	}
	slices.Sort(list)
	return list
}

// TestBuildNpmStatus: thousands of new files are one line of status.
func TestBuildNpmStatus(t *testing.T) {
	t.Parallel()
	needTool(t, "npm", "node")
	e := newExample(t, "npm")
	npmCache(t, e.account)
	e.shell(t, "sbx -- npm ci --offline --no-audit --no-fund")
	n := strings.TrimSpace(e.shell(t, "sbx -- sh -c 'find node_modules -mindepth 1 | wc -l'").Stdout)
	r := e.shell(t, "sbx status")
	lines := strings.Split(r.Stdout, "\n")
	if want := regexp.MustCompile(`^A[ !] node_modules/  \(` + n + ` entries, [0-9.]+ [kM]B`); !want.MatchString(lines[0]) || lines[1] != "" {
		t.Errorf("status does not say that node_modules has %s entries: %v", n, r)
	}
	if !strings.Contains(r.Stdout, `the layer "default" has 1 change and occupies `) {
		t.Errorf("the last line: %v", r)
	}
	if r := e.shell(t, "sbx status --all"); strings.Count(r.Stdout, "A  node_modules/") < 50 {
		t.Errorf("--all does not list them: %v", r)
	}
}

// ofNpm are the variables by which the machine's npm finds its registry.
func ofNpm() (env, names []string) {
	for _, name := range []string{"HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY", "http_proxy", "https_proxy", "no_proxy", "NODE_EXTRA_CA_CERTS", "npm_config_registry"} {
		if v, ok := os.LookupEnv(name); ok {
			env, names = append(env, name+"="+v), append(names, "--env", name)
		}
	}
	return env, names
}

// TestBuildNpmInstall adds a package: its entries in both files are wanted on the
// host, and nothing else.
func TestBuildNpmInstall(t *testing.T) {
	t.Parallel()
	needTool(t, "npm", "node")
	e := newExample(t, "npm")
	env, names := ofNpm()
	if r := finish(t, e.command(e.Home, env, "npm", "view", "ms", "version", "--no-update-notifier")); r.Status != 0 {
		missing(t, "npm reaches no registry: %v", r)
	}
	before := e.snapshot(t)
	args := append([]string{"run", "--pull", "package*.json", "--net", "host"}, names...)
	r := must(t, e.command(e.dir, env, sbxPath, append(args, "--", "npm", "install", "--no-audit", "--no-fund", "--no-update-notifier", "ms")...))
	if got := changed(t, e.dir, before); fmt.Sprint(got) != "[package-lock.json package.json]" {
		t.Errorf("changed on the host: %q: %v", got, r)
	}
	for _, name := range []string{"package.json", "package-lock.json"} {
		if data, err := os.ReadFile(filepath.Join(e.dir, name)); err != nil || !strings.Contains(string(data), `"ms": "`) {
			t.Errorf("%s: %v\n%s", name, err, data)
		}
	}
	if r := e.shell(t, "sbx status"); !regexp.MustCompile(`^A[ !] node_modules/ .*\n\n`).MatchString(r.Stdout) {
		t.Errorf("what is left in the layer: %v", r)
	}
	if r := e.shell(t, "sbx -- node -p 'require(`ms`)(`2 days`)'"); r.Stdout != "172800000\n" {
		t.Errorf("the package: %v", r)
	}
}

// TestBuildComposerPull brings one generated file to a host that has the rest.
func TestBuildComposerPull(t *testing.T) {
	t.Parallel()
	needTool(t, "composer", "php")
	e := newExample(t, "composer")
	e.shell(t, "sbx -- composer install && sbx pull --all --unsafe vendor")
	e.mkTree(t, e.dir, map[string]string{"src/Late.php": "<?php\n\nnamespace App;\n\nfinal class Late\n{\n}\n"})
	before := e.snapshot(t)
	e.shell(t, "sbx -- composer dump-autoload --optimize")
	if r := e.shell(t, "sbx status vendor"); !strings.Contains(r.Stdout, "M  vendor/composer/autoload_classmap.php\n") {
		t.Errorf("status: %v", r)
	}
	if got := changed(t, e.dir, before); len(got) > 0 {
		t.Errorf("changed before the pull: %q", got)
	}
	e.shell(t, "sbx pull vendor/composer/autoload_classmap.php")
	if got := changed(t, e.dir, before); fmt.Sprint(got) != "[vendor/composer/autoload_classmap.php]" {
		t.Errorf("changed on the host: %q", got)
	}
	data, err := os.ReadFile(filepath.Join(e.dir, "vendor/composer/autoload_classmap.php"))
	if err != nil || !strings.Contains(string(data), `/src/Late.php'`) {
		t.Errorf("the class is not in the map: %v\n%s", err, data)
	}
	if r := e.shell(t, "sbx status vendor"); strings.Contains(r.Stdout, "autoload_classmap") {
		t.Errorf("status after the pull: %v", r)
	}
}

// TestBuildWatch: a watcher that waits for inotify(7), a shell and a build share
// one layer.
func TestBuildWatch(t *testing.T) {
	t.Parallel()
	needTool(t, "npm", "node", "make")
	a := newAccount(t)
	j := newJob(t, a, a.tree(t, map[string]string{
		"package.json": `{"name":"watched","version":"1.0.0","private":true,"scripts":{"watch":"node watch.js"}}`,
		"watch.js": `const fs = require('fs');
const build = () => { fs.writeFileSync('dist/out', fs.readFileSync('src/in', 'utf8').toUpperCase()); console.log('built'); };
fs.mkdirSync('dist', { recursive: true });
build();
fs.watch('src', build);
`,
		"src/in":   "one\n",
		"Makefile": "all: product\nproduct: dist/out\n\tcat dist/out dist/out >$@\n",
	}))
	watcher := a.background(t, j.dir, "--", "npm", "run", "watch", "--no-update-notifier")
	soon(t, "the watcher's first build", func() bool { return strings.Contains(watcher.out.String(), "built\n") })
	in, out := io.Pipe()
	shell := a.backgroundWith(t, j.dir, in, "--", "bash", "--norc")
	fmt.Fprintln(out, "echo two >src/in; while ! grep -q TWO dist/out; do sleep 0.05; done; echo seen")
	soon(t, "what the shell wrote, as the watcher has built it", func() bool { return strings.Contains(shell.out.String(), "seen\n") })
	if list := a.lives(t, j.dir, 2); list[0]["layer"] != list[1]["layer"] {
		t.Errorf("two layers: %v", list)
	}
	if r := j.run("--", "make"); !strings.Contains(r.Stdout, "cat dist/out") {
		t.Errorf("make: %v", r)
	}
	fmt.Fprintln(out, "cat product; exit 3")
	out.Close()
	shell.ends(t)
	if got := shell.out.String(); shell.ProcessState.ExitCode() != 3 || !strings.Contains(got, "TWO\nTWO\n") {
		t.Errorf("the shell: %v, %s", shell.ProcessState, got)
	}
	if r := a.sbx(t, j.dir, "status", "--porcelain"); r.Stdout != "A .. d 1 4 dist/\nA .. f 0 8 product\nM .. f 0 4 src/in\n" {
		t.Errorf("status: %v", r)
	}
	if r := a.sbx(t, j.dir, "stop", "last"); r.Status != 0 {
		t.Error(r)
	}
	watcher.ends(t)
}

// TestBuildJoinPostgres: a server in one run, its client in a command that joins
// it; stopping the server ends both.
func TestBuildJoinPostgres(t *testing.T) {
	t.Parallel()
	list, _ := filepath.Glob("/usr/lib/postgresql/*/bin/initdb")
	if len(list) == 0 {
		missing(t, "no PostgreSQL server is installed")
	}
	sort.Strings(list)
	a := newAccount(t)
	j := newJob(t, a, a.tree(t, nil), "PATH="+filepath.Dir(list[len(list)-1])+":/usr/bin:/bin")
	server := a.background(t, j.dir, "--", "sh", "-c", `PATH=$1:$PATH; initdb -D ~/db -A trust --no-sync >/dev/null && exec postgres -D ~/db`, "sh", filepath.Dir(list[len(list)-1]))
	soon(t, "the server", func() bool { return strings.Contains(server.out.String(), "ready to accept connections") })
	join := func(args ...string) result { return j.run(append([]string{"run", "--join", "last", "--"}, args...)...) }
	join("createdb", "app")
	join("psql", "-qAt", "app", "-c", "create table t (n int); insert into t select generate_series(1, 1000)")
	for _, host := range []string{"", "127.0.0.1"} {
		if r := join("psql", "-qAt", "-h", host, "app", "-c", "select sum(n) from t"); r.Stdout != "500500\n" {
			t.Errorf("psql by %q: %v", host, r)
		}
	}
	// Beside it, another run of the layer has a network of its own.
	if r := finish(t, j.command(j.dir, j.env, sbxPath, "--", "psql", "-qAt", "-h", "127.0.0.1", "app", "-c", "select 1")); r.Status == 0 {
		t.Errorf("the server can be reached from a run that has not joined: %v", r)
	}
	join("sh", "-c", "kill -INT $(head -1 ~/db/postmaster.pid)")
	if err := server.ends(t); err != nil {
		t.Errorf("the server: %v, %s", err, server.out.String())
	}
}

// TestBuildJoinGdb looks into a program of another run.
func TestBuildJoinGdb(t *testing.T) {
	t.Parallel()
	needTool(t, "gdb", "cc", "pgrep")
	a := newAccount(t)
	j := newJob(t, a, a.tree(t, map[string]string{
		"hangs.c": "#include <unistd.h>\nint waiting = 7;\nint main(void) { while (waiting) usleep(10000); return 5; }\n",
	}))
	j.run("--", "cc", "-g", "-o", "hangs", "hangs.c")
	run := a.background(t, j.dir, "--", "./hangs")
	a.lives(t, j.dir, 1)
	gdb := func(do string) result {
		return finish(t, j.command(j.dir, j.env, sbxPath, "run", "--join", "last", "--", "sh", "-c", "exec gdb -q -batch -nx -p $(pgrep -x hangs) -ex '"+do+"'"))
	}
	if r := gdb("print waiting"); r.Status != 0 || !strings.Contains(r.Stdout, "$1 = 7") {
		t.Errorf("gdb cannot attach: %v", r)
	}
	// With the program ends the run, and with that gdb.
	gdb("set var waiting = 0")
	run.ends(t)
	if run.ProcessState.ExitCode() != 5 {
		t.Errorf("the program: %v, %s", run.ProcessState, run.out.String())
	}
}
