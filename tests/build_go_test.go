package tests

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// goEnv gives an account the Go toolchain and, in its ~/go, the modules that
// this module needs, as a machine has them that has built it before.
func goEnv(t *testing.T, a account) []string {
	t.Helper()
	needTool(t, "go")
	env := func(name string) string {
		out, err := exec.Command("go", "env", name).Output()
		if err != nil {
			t.Fatal(err)
		}
		return strings.TrimSpace(string(out))
	}
	bin := filepath.Join(env("GOROOT"), "bin")
	path := []string{"PATH=" + bin + ":/usr/local/bin:/usr/bin:/bin", "GOFLAGS=-buildvcs=false -tags=urfave_cli_no_docs", "GOTOOLCHAIN=local"}
	if r := finish(t, a.command(a.Home, path, filepath.Join(bin, "go"), "version")); r.Status != 0 {
		missing(t, "the Go toolchain in %s is not within every user's reach", bin)
	}
	// The modules are in this machine's cache, as this test could be built; the
	// go command copies those that it needs.
	cache := filepath.Join(a.Home, "go/pkg/mod")
	cmd := exec.Command("go", "list", "-deps", "-tags", "urfave_cli_no_docs", "../cmd/...", "../idmap/...", "../sandbox/...", "../seccomp/...")
	cmd.Env = append(os.Environ(), "GOPROXY=file://"+env("GOMODCACHE")+"/cache/download", "GOSUMDB=off",
		"GOMODCACHE="+cache, "GOFLAGS=-modcacherw")
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("cannot copy the modules: %v\n%s", err, out)
	}
	a.mkTree(t, filepath.Join(a.Home, "go"), nil)
	return append(path, "GOPROXY=off")
}

// TestBuildGo builds and tests a real module with dependencies in the module
// cache: this one.
func TestBuildGo(t *testing.T) {
	t.Parallel()
	a := newAccount(t)
	env := goEnv(t, a)
	dir := a.tree(t, nil)
	for _, part := range []string{"cmd", "idmap", "sandbox", "seccomp", "go.mod", "go.sum"} {
		must(t, exec.Command("cp", "-r", "../"+part, dir+"/"))
	}
	a.mkTree(t, dir, nil)
	mods, err := snapshot(filepath.Join(a.Home, "go"))
	if err != nil {
		t.Fatal(err)
	}
	j := newJob(t, a, dir, env...)
	j.run("--", "go", "build", "./...")
	j.run("--", "go", "vet", "./idmap")
	r := j.run("--", "go", "test", "./idmap", "./seccomp")
	if strings.Count(r.Stdout, "ok  \t") != 2 {
		t.Errorf("go test: %v", r)
	}
	// The build cache is in the private home and warm the next time.
	if r := j.run("--", "go", "test", "./idmap"); !strings.Contains(r.Stdout, "(cached)") {
		t.Errorf("the second test run is not cached: %v", r)
	}
	j.run("--", "go", "build", "-o", "product", "./cmd/sbx")
	if r := must(t, a.command(a.Home, nil, j.upper("product"), "--version")); !strings.HasPrefix(r.Stdout, "sbx ") {
		t.Errorf("the product: %v", r)
	}
	after, err := snapshot(filepath.Join(a.Home, "go"))
	if err != nil {
		t.Fatal(err)
	}
	if diff := compareSnapshots(mods, after); diff != "" {
		t.Errorf("the host's module cache has changed:\n%s", diff)
	}
}

// TestBuildGoBeside has a module beside the tree, by replace and by go.work.
func TestBuildGoBeside(t *testing.T) {
	t.Parallel()
	a := newAccount(t)
	env := goEnv(t, a)
	top := a.dir(t)
	a.mkTree(t, top, map[string]string{
		"lib/go.mod":       "module example.org/lib\n\ngo 1.21\n",
		"lib/lib.go":       "package lib\n\nfunc Text() string { return \"from lib\" }\n",
		"replace/go.mod":   "module example.org/app\n\ngo 1.21\n\nrequire example.org/lib v0.0.0\n\nreplace example.org/lib => ../lib\n",
		"replace/main.go":  "package main\n\nimport (\n\t\"fmt\"\n\n\t\"example.org/lib\"\n)\n\nfunc main() { fmt.Println(lib.Text()) }\n",
		"replace/.git/f":   "",
		"work/go.mod":      "module example.org/app\n\ngo 1.21\n",
		"work/main.go":     "package main\n\nimport (\n\t\"fmt\"\n\n\t\"example.org/lib\"\n)\n\nfunc main() { fmt.Println(lib.Text()) }\n",
		"work/go.work":     "go 1.21\n\nuse (\n\t.\n\t../lib\n)\n",
		"work/.git/config": "",
	})
	for _, name := range []string{"replace", "work"} {
		j := newJob(t, a, top, env...)
		j.dir = filepath.Join(top, name)
		if r := j.run("--with", "../lib", "--", "go", "run", "."); r.Stdout != "from lib\n" {
			t.Errorf("%s: %v", name, r)
		}
		// A generator writes beside the tree, too: into the layer.
		j.run("--with", "../lib", "--", "sh", "-c", `printf 'package lib\n\nfunc More() {}\n' >../lib/more.go && go build ./... example.org/lib`)
		if r := finish(t, a.command(j.dir, env, sbxPath, "--", "go", "build", ".")); r.Status == 0 {
			t.Errorf("%s: it builds without --with: %v", name, r)
		}
	}
}
