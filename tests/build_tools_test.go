package tests

import (
	"path/filepath"
	"regexp"
	"sort"
	"strings"
	"testing"
)

// TestBuildPostgres starts a server inside, over its socket and over loopback,
// as test suites of web projects do.
func TestBuildPostgres(t *testing.T) {
	t.Parallel()
	list, _ := filepath.Glob("/usr/lib/postgresql/*/bin/initdb")
	if len(list) == 0 {
		missing(t, "no PostgreSQL server is installed")
	}
	sort.Strings(list)
	bin := filepath.Dir(list[len(list)-1])
	a := newAccount(t)
	j := newJob(t, a, a.tree(t, map[string]string{"test.sh": `#!/bin/sh
set -e
initdb -D ~/db -A trust --no-sync >/dev/null
pg_ctl -D ~/db -w -l ~/log start >/dev/null || { cat ~/log; exit 1; }
createdb app
psql -qAt app -c 'create table t (n int); insert into t select generate_series(1, 1000)'
psql -qAt app -c 'select sum(n) from t'
psql -qAt -h 127.0.0.1 app -c 'select count(*) from t'
psql -qAt -h localhost app -c 'select inet_server_addr()'
pg_ctl -D ~/db -w stop >/dev/null
`}), "PATH="+bin+":/usr/bin:/bin")
	for range 2 { // the second on the data of the first
		r := j.run("--rm", "--", "./test.sh")
		if !regexp.MustCompile(`^500500\n1000\n(::1|127\.0\.0\.1)\n$`).MatchString(r.Stdout) {
			t.Errorf("psql says: %v", r)
		}
	}
	// The server is gone with the command that started it, and data is kept.
	j.run("--", "sh", "-c", "initdb -D ~/db -A trust --no-sync >/dev/null && pg_ctl -D ~/db -w -l ~/log start >/dev/null && createdb kept")
	if r := j.run("--", "sh", "-c", "pg_ctl -D ~/db -w -l ~/log start >/dev/null && psql -qAt -l | cut -d'|' -f1"); !strings.Contains(r.Stdout, "kept\n") {
		t.Errorf("the database of the first run: %v", r)
	}
}

// TestBuildGdb debugs a program that the build has made: breakpoints, and no
// address space randomization, which gdb turns off by personality(2).
func TestBuildGdb(t *testing.T) {
	t.Parallel()
	needTool(t, "gdb", "cc")
	a := newAccount(t)
	j := newJob(t, a, a.tree(t, map[string]string{
		"main.c":  "#include <stdlib.h>\nint twice(int n) { return 2 * n; }\nint main(void) { return twice(21) == 42 ? 0 : abort(), 0; }\n",
		"sleep.c": "#include <unistd.h>\nint waiting = 7;\nint main(void) { for (;;) sleep(1); }\n",
	}))
	j.run("--", "sh", "-c", "cc -g -o main main.c && cc -g -o sleep sleep.c")
	r := j.run("--", "gdb", "-q", "-batch", "-nx", "-ex", "break twice", "-ex", "run", "-ex", "print n", "-ex", "bt", "-ex", "finish", "-ex", "continue", "./main")
	for _, want := range []string{"$1 = 21", "#1 ", "Value returned is $2 = 42", "exited normally"} {
		if !strings.Contains(r.Stdout, want) {
			t.Errorf("gdb does not say %q: %v", want, r)
		}
	}
	if strings.Contains(r.Stdout+r.Stderr, "disabling address space randomization") {
		t.Errorf("gdb cannot turn randomization off: %v", r)
	}
	r = j.run("--", "sh", "-c", "./sleep & gdb -q -batch -nx -p $! -ex 'print waiting'; kill $!")
	if !strings.Contains(r.Stdout, "$1 = 7") {
		t.Errorf("gdb cannot attach: %v", r)
	}
}

func TestBuildStrace(t *testing.T) {
	t.Parallel()
	needTool(t, "strace")
	a := newAccount(t)
	j := newJob(t, a, a.tree(t, map[string]string{"f": "text\n"}))
	r := j.run("--", "strace", "-f", "-e", "trace=openat", "sh", "-c", "cat f")
	if r.Stdout != "text\n" || !strings.Contains(r.Stderr, `"f", O_RDONLY`) {
		t.Errorf("strace: %v", r)
	}
}

// TestBuildExtension mounts an extension's tree into a core tree, as wikis and
// content systems want it.
func TestBuildExtension(t *testing.T) {
	t.Parallel()
	a := newAccount(t)
	top := a.dir(t)
	a.mkTree(t, top, map[string]string{
		"core/.git/HEAD":          "",
		"core/run.sh":             "#!/bin/sh\nfor e in extensions/*/ext.sh; do . ./$e; done\n",
		"core/extensions/.keep":   "",
		"ext/ext.sh":              "echo extension in $PWD/extensions; echo cache >extensions/Mine/cache\n",
		"ext/.git/HEAD":           "",
		"ext/sub/dir/with/a/file": "",
	})
	j := newJob(t, a, top)
	j.dir = filepath.Join(top, "core")
	r := j.run("--with", "../ext:extensions/Mine", "--", "./run.sh")
	if want := "extension in " + j.dir + "/extensions\n"; r.Stdout != want {
		t.Errorf("got %v, want %q", r, want)
	}
	if r := j.run("--with", "../ext:extensions/Mine", "--", "cat", "extensions/Mine/cache"); r.Stdout != "cache\n" {
		t.Errorf("the next run does not see it: %v", r)
	}
	if r := j.run("--", "ls", "extensions"); strings.Contains(r.Stdout, "Mine/") {
		t.Errorf("without --with: %v", r)
	}
}
