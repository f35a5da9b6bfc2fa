package tests

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// TestBuildNpmBeside has a package beside the tree: file:../lib, which npm
// installs as a symlink.
func TestBuildNpmBeside(t *testing.T) {
	t.Parallel()
	needTool(t, "npm", "node")
	a := newAccount(t)
	top := a.dir(t)
	a.mkTree(t, top, map[string]string{
		"lib/package.json":  `{"name":"lib","version":"1.0.0","main":"lib.js"}`,
		"lib/lib.js":        "module.exports = 'from lib';\n",
		"app/package.json":  `{"name":"app","version":"1.0.0","private":true,"dependencies":{"lib":"file:../lib"},"scripts":{"test":"node test.js","postinstall":"node -e \"require('fs').writeFileSync('../lib/touched', '')\""}}`,
		"app/test.js":       "if (require('lib') !== 'from lib') process.exit(1); console.log('test ok');\n",
		"app/.git/HEAD":     "",
		"secret/credential": "key\n",
	})
	j := newJob(t, a, top)
	j.dir = filepath.Join(top, "app")
	j.run("--with", "../lib", "--", "npm", "install", "--offline", "--no-audit", "--no-fund")
	if r := j.run("--with", "../lib", "--", "npm", "test"); !strings.Contains(r.Stdout, "test ok") {
		t.Errorf("npm test: %v", r)
	}
	j.run("--with", "../lib", "--", "npm", "ci", "--offline", "--no-audit", "--no-fund")
	j.run("--with", "../lib", "--", "sh", "-c", "test -e ../lib/touched && test ! -e ../secret")
}

// TestBuildCargo builds a crate with a path dependency, offline.
func TestBuildCargo(t *testing.T) {
	t.Parallel()
	cargo := ""
	for _, dir := range []string{"/usr/local/bin", "/usr/bin"} {
		if _, err := os.Stat(dir + "/cargo"); err == nil {
			cargo = dir
		}
	}
	if cargo == "" {
		missing(t, "cargo is not installed where every user can reach it")
	}
	a := newAccount(t)
	top := a.dir(t)
	a.mkTree(t, top, map[string]string{
		"lib/Cargo.toml":  "[package]\nname = \"lib\"\nversion = \"0.1.0\"\nedition = \"2021\"\n",
		"lib/src/lib.rs":  "pub fn text() -> &'static str { \"from lib\" }\n",
		"app/Cargo.toml":  "[package]\nname = \"app\"\nversion = \"0.1.0\"\nedition = \"2021\"\nbuild = \"build.rs\"\n\n[dependencies]\nlib = { path = \"../lib\" }\n",
		"app/build.rs":    "fn main() { println!(\"cargo:rustc-env=BUILT_BY={}\", std::env::var(\"SBX\").unwrap_or_default()); }\n",
		"app/src/main.rs": "fn main() { println!(\"{} {}\", lib::text(), env!(\"BUILT_BY\")); }\n\n#[test]\nfn works() { assert_eq!(lib::text(), \"from lib\"); }\n",
		"app/.git/HEAD":   "",
	})
	j := newJob(t, a, top, "PATH="+cargo+":/usr/bin:/bin")
	j.dir = filepath.Join(top, "app")
	j.run("--with", "../lib", "--", "cargo", "build", "--offline")
	if r := j.run("--with", "../lib", "--", "cargo", "run", "-q", "--offline"); r.Stdout != "from lib 1\n" {
		t.Errorf("cargo run: %v", r)
	}
	if r := j.run("--with", "../lib", "--", "cargo", "test", "--offline"); !strings.Contains(r.Stdout, "test works ... ok") {
		t.Errorf("cargo test: %v", tail(r))
	}
}

// TestBuildPython makes a virtual environment and runs a test suite in it.
func TestBuildPython(t *testing.T) {
	t.Parallel()
	if _, err := os.Stat("/usr/bin/python3"); err != nil {
		missing(t, "/usr/bin/python3 is not installed")
	}
	a := newAccount(t)
	j := newJob(t, a, a.tree(t, map[string]string{
		"mod.py":       "def twice(n):\n    return 2 * n\n",
		"test_mod.py":  "import multiprocessing, unittest\nimport mod\n\nclass T(unittest.TestCase):\n    def test_twice(self):\n        self.assertEqual(mod.twice(4), 8)\n\n    def test_pool(self):\n        with multiprocessing.Pool(2) as p:\n            self.assertEqual(p.map(mod.twice, [1, 2]), [2, 4])\n",
		"requirements": "",
	}), "PATH=/usr/bin:/bin")
	j.run("--", "python3", "-m", "venv", "--without-pip", ".venv")
	r := j.run("--", ".venv/bin/python", "-m", "unittest", "-v")
	if !strings.Contains(r.Stderr, "Ran 2 tests") || !strings.HasSuffix(r.Stderr, "OK\n") {
		t.Errorf("unittest: %v", r)
	}
}
