package tests

import (
	"encoding/json"
	"errors"
	"go/ast"
	"go/parser"
	"go/token"
	"io"
	"os"
	"os/exec"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

const module = "github.com/sbx-build/sbx"

// mayImport has, for each package, what of this module it may import: the
// direction of the pipeline, from flags to policy, plan, program and process. A
// package that is not listed may not exist.
var mayImport = map[string][]string{
	"cmd/sbx":                   {"sandbox", "sandbox/host", "sandbox/live", "sandbox/overlay", "sandbox/policy", "sandbox/plan", "sandbox/relay", "sandbox/state"},
	"sandbox":                   {"idmap", "seccomp", "sandbox/host", "sandbox/internal/child", "sandbox/internal/early", "sandbox/live", "sandbox/network", "sandbox/overlay", "sandbox/plan", "sandbox/policy", "sandbox/relay", "sandbox/share", "sandbox/state", "sandbox/supervise", "sandbox/toolconf"},
	"sandbox/share":             {"sandbox/live"},
	"sandbox/live":              {"sandbox/overlay", "sandbox/state"},
	"sandbox/overlay":           {"sandbox/state"},
	"sandbox/network":           {"sandbox/policy"},
	"sandbox/relay":             {"sandbox/network", "sandbox/plan", "sandbox/policy", "sandbox/internal/nonblock"},
	"sandbox/internal/nonblock": {},
	"sandbox/policy":            {"sandbox/toolconf"},
	"sandbox/toolconf":          {},
	"sandbox/host":              {"idmap", "sandbox/internal/early", "sandbox/policy", "sandbox/toolconf"},
	"sandbox/plan":              {"idmap", "seccomp", "sandbox/host", "sandbox/policy"},
	"sandbox/internal/child":    {"idmap", "sandbox/plan"},
	"sandbox/internal/early":    {},
	"sandbox/state":             {"idmap", "sandbox/policy"},
	"sandbox/supervise":         {"sandbox/internal/child"},
	"idmap":                     {},
	"seccomp":                   {},
	"tests":                     {},
	"tests/caller":              {},
	"tests/victim":              {},
	"tests/notify":              {},
}

// mayUse has, for each package that is dangerous, heavy or impure, who may
// import it.
var mayUse = map[string][]string{
	"unsafe":                         {"sandbox/internal/child", "sandbox/internal/nonblock", "tests/caller", "tests/victim"},
	"github.com/fsnotify/fsnotify":   {"tests/notify"},
	"github.com/urfave/cli/v2":       {"cmd/sbx"},
	"github.com/syndtr/gocapability": {"sandbox/plan", "sandbox/host"},
	"github.com/xrash/smetrics":      {"cmd/sbx"},
	// Only its lcs: the root package compiles a regular expression at every start.
	"github.com/aymanbagabas/go-udiff": {"sandbox/overlay"},
	"github.com/klauspost/compress":    {"sandbox/overlay"},
	"golang.org/x/sys":                 {"cmd/sbx", "sandbox", "sandbox/host", "sandbox/internal/child", "sandbox/internal/early", "sandbox/internal/nonblock", "sandbox/live", "sandbox/network", "sandbox/overlay", "sandbox/relay", "sandbox/share", "sandbox/state", "sandbox/supervise", "idmap", "seccomp", "tests/victim", "tests/caller"},
	// Only the wire format of DNS; package net starts with more than the whole of sbx.
	"golang.org/x/net": {"sandbox/network", "tests/caller"},
	// The parts that are data and pure functions ask the machine for nothing.
	"os":        {"cmd/sbx", "sandbox", "sandbox/host", "sandbox/internal/child", "sandbox/internal/early", "sandbox/live", "sandbox/network", "sandbox/relay", "sandbox/share", "sandbox/state", "sandbox/supervise", "idmap", "tests", "tests/victim", "tests/caller", "tests/notify"},
	"os/exec":   {"sandbox", "idmap", "cmd/sbx", "tests", "tests/victim", "sandbox/host"},
	"os/signal": {"sandbox/supervise", "sandbox/host", "cmd/sbx", "tests/victim", "tests/caller"},
	"time":      {"cmd/sbx", "sandbox", "sandbox/host", "sandbox/live", "sandbox/network", "sandbox/overlay", "sandbox/relay", "sandbox/share", "sandbox/state", "sandbox/supervise", "idmap", "tests", "tests/victim", "tests/caller"},
	// Slow to start: half a millisecond and more, in a program that is to cost
	// less than five.
	"net":      {"tests/victim", "tests/caller"},
	"net/http": {},
	"regexp":   {},
	"log":      {},
}

// dependencies are the modules that sbx is made of. smetrics comes with cli, and
// finds the nearest verb or flag.
var dependencies = []string{"github.com/aymanbagabas/go-udiff", "github.com/klauspost/compress", "github.com/syndtr/gocapability", "github.com/urfave/cli/v2", "github.com/xrash/smetrics", "golang.org/x/net", "golang.org/x/sys"}

// helpers are the modules of programs that the tests build, and of packages that sbx
// does not use yet.
var helpers = []string{"github.com/fsnotify/fsnotify"}

// listed is what `go list -json` tells of a package.
type listed struct {
	ImportPath, Dir, Name, Doc string
	Standard                   bool
	GoFiles, CgoFiles, Imports []string
	Module                     *struct{ Path string }
}

func goList(t *testing.T, env []string, args ...string) []listed {
	t.Helper()
	cmd := exec.Command("go", append([]string{"list", "-tags", "urfave_cli_no_docs", "-json=ImportPath,Dir,Name,Doc,Standard,GoFiles,CgoFiles,Imports,Module"}, args...)...)
	cmd.Env = append(os.Environ(), env...)
	cmd.Dir = ".."
	out, err := cmd.Output()
	if err != nil {
		var ee *exec.ExitError
		if errors.As(err, &ee) {
			t.Fatalf("go list %q: %v\n%s", args, err, ee.Stderr)
		}
		t.Fatal(err)
	}
	var list []listed
	for d := json.NewDecoder(strings.NewReader(string(out))); ; {
		var p listed
		if err := d.Decode(&p); err == io.EOF {
			return list
		} else if err != nil {
			t.Fatal(err)
		}
		list = append(list, p)
	}
}

// own is the path of a package within this module; ok is false for others.
func own(importPath string) (name string, ok bool) {
	return strings.CutPrefix(importPath, module+"/")
}

// TestImports holds the direction of imports, and who may use what.
func TestImports(t *testing.T) {
	found := map[string]bool{}
	for _, p := range goList(t, nil, "./...") {
		name, ok := own(p.ImportPath)
		if !ok {
			t.Fatalf("%s is not of this module", p.ImportPath)
		}
		found[name] = true
		may, known := mayImport[name]
		if !known && !strings.HasPrefix(name, "examples/") {
			t.Errorf("the package %s is not in the table of this test", name)
			continue
		}
		for _, i := range p.Imports {
			if dep, ok := own(i); ok && !slices.Contains(may, dep) {
				t.Errorf("%s must not import %s", name, dep)
			}
			for what, users := range mayUse {
				if (i == what || strings.HasPrefix(i, what+"/") && strings.Contains(what, ".")) && !slices.Contains(users, name) {
					t.Errorf("%s must not import %s", name, i)
				}
			}
			if strings.Contains(i, ".") && !strings.HasPrefix(i, module+"/") && !slices.ContainsFunc(slices.Concat(dependencies, helpers), func(m string) bool { return i == m || strings.HasPrefix(i, m+"/") }) {
				t.Errorf("%s imports %s, a dependency that nobody has decided on", name, i)
			}
		}
	}
	for name := range mayImport {
		if !found[name] {
			t.Errorf("the table of this test has %s, which does not exist", name)
		}
	}
}

// TestBinaryDependencies holds what sbx is made of, on each architecture: pure
// Go, and no package that would make it slow or large.
func TestBinaryDependencies(t *testing.T) {
	for _, arch := range []string{"amd64", "arm64"} {
		modules := map[string]bool{}
		for _, p := range goList(t, []string{"CGO_ENABLED=1", "GOOS=linux", "GOARCH=" + arch}, "-deps", "./cmd/sbx") {
			if !p.Standard && len(p.CgoFiles) > 0 {
				t.Errorf("%s: %s needs cgo: %v", arch, p.ImportPath, p.CgoFiles)
			}
			switch p.ImportPath {
			case "testing", "net/http", "plugin", "C":
				t.Errorf("%s: sbx contains %s", arch, p.ImportPath)
			}
			if p.Module != nil {
				modules[p.Module.Path] = true
			}
		}
		want := append([]string{module}, dependencies...)
		got := slices.Sorted(func(yield func(string) bool) {
			for m := range modules {
				if !yield(m) {
					return
				}
			}
		})
		slices.Sort(want)
		if !slices.Equal(got, want) {
			t.Errorf("%s: sbx is made of %q, want %q", arch, got, want)
		}
	}
}

// exits are functions that end the process, or print behind the back of cmd/sbx,
// which alone knows what goes to stdout and stderr.
var exits = []string{"os.Exit", "log.Fatal", "log.Fatalf", "log.Fatalln", "log.Panic", "fmt.Print", "fmt.Printf", "fmt.Println", "os.Stdout", "os.Stderr"}

// TestSource goes through the source: no exit and no output of a library's own,
// no cgo, go:linkname only in the raw child, and a doc comment for every package.
func TestSource(t *testing.T) {
	files := 0
	for _, p := range goList(t, nil, "./...") {
		name, _ := own(p.ImportPath)
		if !strings.HasPrefix(p.Doc, "Package "+p.Name+" ") && (p.Name != "main" || p.Doc == "") && len(p.GoFiles) > 0 {
			t.Errorf("%s has no doc comment that begins with its name: %q", name, p.Doc)
		}
		library := !strings.HasPrefix(name, "cmd/") && !strings.HasPrefix(name, "tests") && !strings.HasPrefix(name, "examples")
		for _, f := range append(p.GoFiles, p.CgoFiles...) {
			files++
			checkSource(t, path.Join(name, f), filepath.Join(p.Dir, f), library, strings.HasPrefix(name, "sandbox/internal/"))
		}
	}
	if files < 50 {
		t.Errorf("only %d files have been looked at", files)
	}
}

func checkSource(t *testing.T, name, file string, library, internal bool) {
	t.Helper()
	fset := token.NewFileSet()
	f, err := parser.ParseFile(fset, file, nil, parser.ParseComments)
	if err != nil {
		t.Error(err)
		return
	}
	for _, i := range f.Imports {
		if i.Path.Value == `"C"` {
			t.Errorf("%s uses cgo", name)
		}
	}
	for _, group := range f.Comments {
		for _, c := range group.List {
			if strings.HasPrefix(c.Text, "//go:linkname") && !internal {
				t.Errorf("%s: %s", name, c.Text)
			}
		}
	}
	if !library {
		return
	}
	ast.Inspect(f, func(n ast.Node) bool {
		s, ok := n.(*ast.SelectorExpr)
		if !ok {
			return true
		}
		if pkg, ok := s.X.(*ast.Ident); ok && slices.Contains(exits, pkg.Name+"."+s.Sel.Name) {
			t.Errorf("%s:%d uses %s.%s, which is for cmd/sbx alone", name, fset.Position(n.Pos()).Line, pkg.Name, s.Sel.Name)
		}
		return true
	})
}
