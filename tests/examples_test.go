package tests

import (
	"encoding/json"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// example is a copy of a directory of examples/, as a clean checkout has it, and
// an account that works there.
type example struct {
	account
	dir    string
	readme string
}

func newExample(t *testing.T, name string) example {
	t.Helper()
	from := filepath.Join("..", "examples", name)
	readme, err := os.ReadFile(filepath.Join(from, "README.md"))
	if err != nil {
		t.Fatal(err)
	}
	a := newAccount(t)
	e := example{a, a.tree(t, nil), string(readme)}
	if err := os.CopyFS(e.dir, os.DirFS(from)); err != nil {
		t.Fatal(err)
	}
	a.mkTree(t, e.dir, nil)
	return e
}

// documented runs a line that stands in the README, as it stands there.
func (e example) documented(t *testing.T, line string) result {
	t.Helper()
	if !strings.Contains(e.readme, "\n    "+line+"\n") && !strings.Contains(e.readme, "\n    $ "+line+"\n") {
		t.Errorf("the README does not have the line %q", line)
	}
	return e.shell(t, line)
}

// shell runs a line and expects success.
func (e example) shell(t *testing.T, line string) result {
	t.Helper()
	r := finish(t, e.command(e.dir, nil, "bash", "-c", line))
	if r.Status != 0 {
		t.Fatalf("%s: %v", line, r)
	}
	return r
}

// unchanged compares the example's directory with a snapshot.
func (e example) unchanged(t *testing.T, before map[string]string) {
	t.Helper()
	after, err := snapshot(e.dir)
	if err != nil {
		t.Fatal(err)
	}
	if diff := compareSnapshots(before, after); diff != "" {
		t.Errorf("the host's files have changed:\n%s", diff)
	}
}

func (e example) snapshot(t *testing.T) map[string]string {
	t.Helper()
	shot, err := snapshot(e.dir)
	if err != nil {
		t.Fatal(err)
	}
	return shot
}

func TestExampleCMake(t *testing.T) {
	t.Parallel()
	needTool(t, "make", "cc")
	e := newExample(t, "c-make")
	before := e.snapshot(t)
	if r := e.documented(t, "sbx -- make -j2 check"); strings.Count(r.Stdout, "ok: ") != 4 {
		t.Errorf("the tests did not run: %v", r)
	}
	e.documented(t, "sbx -- ls build")
	e.documented(t, `sbx -- make install DESTDIR="$PWD/stage"`)
	e.documented(t, `ls "$(sbx path stage)"`)
	e.unchanged(t, before)
	e.documented(t, `mv "$(sbx path build/wrap)" .`)
	if r := e.shell(t, "echo a b c | ./wrap 3"); r.Stdout != "a b\nc\n" {
		t.Errorf("the program does not work on the host: %v", r)
	}
	e.documented(t, "sbx reset")
	if r := e.shell(t, "sbx -- ls"); strings.Contains(r.Stdout, "build") {
		t.Errorf("the build is still there: %v", r)
	}
}

func TestExampleNpm(t *testing.T) {
	t.Parallel()
	needTool(t, "npm", "node")
	e := newExample(t, "npm")
	npmCache(t, e.account)
	before := e.snapshot(t)
	cache, err := snapshot(filepath.Join(e.Home, ".npm"))
	if err != nil {
		t.Fatal(err)
	}
	r := e.shell(t, "sbx -- npm ci --offline")
	if !strings.Contains(r.Stdout, "added ") {
		t.Errorf("npm says: %v", r)
	}
	if r := e.documented(t, "sbx -- npm test"); !strings.Contains(r.Stdout, "Passed:    3") {
		t.Errorf("the tests did not run: %v", r)
	}
	if r := e.shell(t, "sbx -- node greet.js ann"); r.Stdout != "hello, ann\n" {
		t.Errorf("the program says: %v", r)
	}
	e.unchanged(t, before)
	after, err := snapshot(filepath.Join(e.Home, ".npm"))
	if err != nil {
		t.Fatal(err)
	}
	if diff := compareSnapshots(cache, after); diff != "" {
		t.Errorf("the host's cache has changed:\n%s", diff)
	}
}

func TestExampleComposer(t *testing.T) {
	t.Parallel()
	needTool(t, "composer", "php")
	e := newExample(t, "composer")
	before := e.snapshot(t)
	e.documented(t, "sbx -- composer install")
	if r := e.documented(t, "sbx -- composer test"); strings.Count(r.Stdout, "ok: ") != 2 {
		t.Errorf("the tests did not run: %v", r)
	}
	if r := e.documented(t, "sbx -- ls vendor"); !strings.Contains(r.Stdout, "installed\n") {
		t.Errorf("the script after the installation did not run: %v", r)
	}
	e.unchanged(t, before)
	e.documented(t, `cp -r "$(sbx path vendor)" .`)
	e.shell(t, "php test.php")
}

// TestExampleVSCode runs the tasks as VS Code does: a command and arguments.
func TestExampleVSCode(t *testing.T) {
	t.Parallel()
	needTool(t, "make", "cc")
	e := newExample(t, "editor")
	data, err := fs.ReadFile(os.DirFS(e.dir), ".vscode/tasks.json")
	if err != nil {
		t.Fatal(err)
	}
	var file struct {
		Version string
		Tasks   []struct {
			Label, Type, Command string
			Args                 []string
			Options              struct{ Cwd string }
			ProblemMatcher       string
			Group                any
		}
	}
	// VS Code allows comments.
	plain := regexp.MustCompile(`(?m)^\s*//.*$`).ReplaceAll(data, nil)
	if err := json.Unmarshal(plain, &file); err != nil {
		t.Fatal(err)
	}
	if len(file.Tasks) != 2 {
		t.Fatalf("there are %d tasks", len(file.Tasks))
	}
	before := e.snapshot(t)
	for _, task := range file.Tasks {
		if task.Options.Cwd != "${workspaceFolder}" || task.Command != "sbx" || task.Type != "shell" {
			t.Errorf("unexpected task %+v", task)
		}
		if r := finish(t, e.command(e.dir, nil, sbxPath, task.Args...)); r.Status != 0 {
			t.Errorf("task %q: %v", task.Label, r)
		}
	}
	e.unchanged(t, before)
	// The problem matcher $gcc wants FILE:LINE:COLUMN: error: TEXT.
	e.shell(t, "echo 'int broken' >>hello.c")
	r := finish(t, e.command(e.dir, nil, sbxPath, file.Tasks[0].Args...))
	if r.Status == 0 || !regexp.MustCompile(`(?m)^hello\.c:\d+:\d+: error: `).MatchString(r.Stderr) {
		t.Errorf("there is no error that an editor could show: %v", r)
	}
}

// TestExampleVim runs :make and looks at the list of errors.
func TestExampleVim(t *testing.T) {
	t.Parallel()
	needTool(t, "vim", "make", "cc")
	e := newExample(t, "editor")
	vim := func(show string) string {
		t.Helper()
		cmd := e.command(e.dir, nil, "vim", "-N", "-u", "vimrc", "-i", "NONE", "-n", "-es", "-c", "make!",
			"-c", "call writefile(["+show+"], $HOME.'/errors')", "-c", "qa!")
		r := finish(t, cmd)
		data, err := os.ReadFile(filepath.Join(e.Home, "errors"))
		if err != nil {
			t.Fatalf("vim has written nothing: %v", r)
		}
		return strings.TrimSpace(string(data))
	}
	const count = "len(filter(getqflist(), 'v:val.valid'))"
	if got := vim(count); got != "0" {
		t.Errorf("%s errors in a clean build", got)
	}
	if r := e.shell(t, "sbx -- ./hello"); r.Stdout != "hello\n" {
		t.Errorf(":make has built nothing: %v", r)
	}
	e.shell(t, "sed -i 's/return 0/return broken/' hello.c")
	got := vim("bufname(filter(getqflist(), 'v:val.valid')[0].bufnr).':'.filter(getqflist(), 'v:val.valid')[0].lnum")
	if got != "hello.c:6" {
		t.Errorf("the first error is at %q, want hello.c:6", got)
	}
}

// TestExampleEmacs takes the compile-command from Emacs where there is one, and
// from the file where not.
func TestExampleEmacs(t *testing.T) {
	t.Parallel()
	needTool(t, "make", "cc")
	e := newExample(t, "editor")
	data, err := os.ReadFile(filepath.Join(e.dir, "dir-locals.el"))
	if err != nil {
		t.Fatal(err)
	}
	m := regexp.MustCompile(`\(compile-command \. "([^"]*)"\)`).FindSubmatch(data)
	if m == nil {
		t.Fatalf("there is no compile-command in %s", data)
	}
	line := string(m[1])
	if _, err := exec.LookPath("emacs"); err == nil {
		e.shell(t, "cp dir-locals.el .dir-locals.el")
		r := e.shell(t, `emacs -Q --batch --eval '(setq enable-local-variables :all)' hello.c --eval '(princ compile-command)'`)
		if r.Stdout != line {
			t.Errorf("Emacs would run %q, want %q", r.Stdout, line)
		}
	}
	e.shell(t, line)
	if r := e.shell(t, "sbx -- ./hello"); r.Stdout != "hello\n" {
		t.Errorf("the compile-command has built nothing: %v", r)
	}
}

func TestExampleAliases(t *testing.T) {
	t.Parallel()
	needTool(t, "make", "cc")
	for _, shell := range []string{"bash", "zsh"} {
		t.Run(shell, func(t *testing.T) {
			if _, err := exec.LookPath(shell); err != nil && shell == "zsh" {
				t.Skip("zsh is not installed; the functions are bash's, too")
			}
			e := newExample(t, "c-make")
			script, err := filepath.Abs("../examples/aliases/sbx.sh")
			if err != nil {
				t.Fatal(err)
			}
			text, err := os.ReadFile(script)
			if err != nil {
				t.Fatal(err)
			}
			e.mkTree(t, e.Home, map[string]string{"sbx.sh": string(text)})
			run := func(line string) result {
				t.Helper()
				return finish(t, e.command(e.dir, nil, shell, "-c", ". ~/sbx.sh\n"+line))
			}
			before := e.snapshot(t)
			if r := run("make -j2 check"); r.Status != 0 || strings.Count(r.Stdout, "ok: ") != 4 {
				t.Errorf("make: %v", r)
			}
			if r := run("make no-such-target"); r.Status != 2 {
				t.Errorf("make's status is 2, and became: %v", r)
			}
			if r := run("sb sh -c 'echo $SBX'"); r.Stdout != "1\n" {
				t.Errorf("sb: %v", r)
			}
			if r := run(`printf 'a b' | sb sh -c 'cat; printf "|%s" "$@"' sh 'c  d' '*'`); r.Stdout != "a b|c  d|*" {
				t.Errorf("pipes and arguments: %v", r)
			}
			if r := run("sbtry touch f; sb ls"); strings.Contains(r.Stdout, "f\n") {
				t.Errorf("sbtry has left something: %v", r)
			}
			if r := run("command make -v"); !strings.Contains(r.Stdout, "GNU Make") {
				t.Errorf("command make: %v", r)
			}
			e.unchanged(t, before)
			if r := run("sbget build/wrap README.md"); r.Status == 0 {
				t.Errorf("sbget of a file that the layer does not have: %v", r)
			}
			if r := run("mkdir build && sb touch build/x && sbget build/wrap && test -x build/wrap"); r.Status != 0 {
				t.Errorf("sbget: %v", r)
			}
		})
	}
}
