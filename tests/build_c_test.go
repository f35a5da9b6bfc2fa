package tests

import (
	"path/filepath"
	"strings"
	"testing"
)

// TestBuildLua builds lua as it comes: make -j2, its own test, an installation
// into the layer.
func TestBuildLua(t *testing.T) {
	t.Parallel()
	needTool(t, "make", "cc")
	a := newAccount(t)
	j := newJob(t, a, unpack(t, a, "lua5.4", true))
	j.run("--", "make", "-j2", "linux")
	if r := j.run("--", "make", "-s", "test"); !strings.HasPrefix(r.Stdout, "Lua 5.4") {
		t.Errorf("make test: %v", r)
	}
	if r := j.run("--", "src/lua", "-e", "print(6*7)"); r.Stdout != "42\n" {
		t.Errorf("lua: %v", r)
	}
	j.run("--", "make", "install", "INSTALL_TOP="+j.dir+"/stage/usr")
	if r := must(t, a.command(a.Home, nil, j.upper("stage/usr/bin/lua"), "-v")); !strings.Contains(r.Stdout, "Lua 5.4") {
		t.Errorf("the product does not run on the host: %v", r)
	}
	// A second make has nothing to compile: times survive in the layer.
	if r := j.run("--", "make", "linux"); strings.Contains(r.Stdout, "lapi.c") {
		t.Errorf("the second run compiles again: %v", tail(r))
	}
	j.run("reset")
	if r := j.run("--", "ls", "src"); strings.Contains(r.Stdout, "lapi.o") {
		t.Errorf("objects are left after a reset: %v", r)
	}
}

// TestBuildHello is the GNU way: configure, make, make check, make install.
func TestBuildHello(t *testing.T) {
	t.Parallel()
	needTool(t, "make", "cc")
	a := newAccount(t)
	j := newJob(t, a, unpack(t, a, "hello", false))
	j.run("--", "./configure")
	r := j.run("--", "make", "-j2", "check")
	if !strings.Contains(r.Stdout, "# PASS:  ") || !strings.Contains(r.Stdout, "# FAIL:  0") {
		t.Errorf("make check: %v", tail(r))
	}
	j.run("--", "make", "install", "DESTDIR="+j.dir+"/stage")
	if r := must(t, a.command(a.Home, nil, j.upper("stage/usr/local/bin/hello"))); r.Stdout != "Hello, world!\n" {
		t.Errorf("the product says %v", r)
	}
	// Out of tree, in a directory of its own beside it.
	build := filepath.Join(a.dir(t), "build")
	a.mkTree(t, build, nil)
	must(t, a.command(build, nil, sbxPath, "--rm", "--source", j.dir, "--with", build, "--", "sh", "-c",
		j.dir+"/configure -q && make -s && ./hello -g inside && test ! -e "+j.dir+"/config.status"))
	if shot, err := snapshot(build); err != nil || len(shot) != 1 {
		t.Errorf("the build directory on the host has got files: %v %v", shot, err)
	}
}

// TestBuildDebianPackage builds a package; its products lie beside the sources,
// so that the directory above is the tree.
func TestBuildDebianPackage(t *testing.T) {
	t.Parallel()
	needTool(t, "dpkg-buildpackage", "dh", "fakeroot", "cc")
	a := newAccount(t)
	dir := unpack(t, a, "hello", false)
	j := newJob(t, a, filepath.Dir(dir))
	r := j.run("--source", ".", "-C", "hello", "--", "dpkg-buildpackage", "-us", "-uc", "-b", "-j2")
	if !strings.Contains(r.Stdout+r.Stderr, "binary-only upload") {
		t.Errorf("dpkg-buildpackage: %v", tail(r))
	}
	r = j.run("--source", ".", "--", "sh", "-c", "dpkg-deb -c hello_*.deb; dpkg-deb -I hello_*.deb")
	if !strings.Contains(r.Stdout, "root/root") || !strings.Contains(r.Stdout, "./usr/bin/hello") {
		t.Errorf("the package holds: %v", r)
	}
	if r := j.run("--source", ".", "--", "fakeroot", "sh", "-c", "touch f; chown 0:0 f; stat -c %u:%g f; id -u"); r.Stdout != "0:0\n0\n" {
		t.Errorf("fakeroot: %v", r)
	}
}

// TestBuildEditsSources is a build that rewrites, renames and deletes its own
// sources, as code generators and formatters do.
func TestBuildEditsSources(t *testing.T) {
	t.Parallel()
	needTool(t, "make", "cc", "sed")
	a := newAccount(t)
	j := newJob(t, a, a.tree(t, map[string]string{
		"Makefile": "all: clean\n\tsed -i s/old/new/ main.c\n\tmv part.c moved.c\n\trm -r gen && mkdir gen\n" +
			"\techo 'int gen(void) { return 3; }' >gen/gen.c\n\tchmod 600 main.c\n\tln -sf ../moved.c gen/link.c\n" +
			"\t$(CC) -o prog main.c gen/gen.c gen/link.c\nclean:\n\trm -f prog\n",
		"main.c":    "int gen(void); int part(void);\nint main(void) { int new = 1; return old + gen() + part(); }\n",
		"part.c":    "int part(void) { return 5; }\n",
		"gen/old.c": "#error not this one\n",
	}))
	j.run("--", "make")
	cmd := a.command(j.dir, nil, sbxPath, "--", "./prog")
	if r := finish(t, cmd); r.Status != 9 {
		t.Errorf("the program gives %d, want 9: %v", r.Status, r)
	}
	if r := j.run("--", "sh", "-c", "ls . gen; stat -c %a main.c"); r.Stdout != ".:\nMakefile\ngen\nmain.c\nmoved.c\nprog\n\ngen:\ngen.c\nlink.c\n600\n" {
		t.Errorf("the tree is now: %v", r)
	}
}

// TestBuildCcache has a cache on the host that the sandbox starts from and does
// not change.
func TestBuildCcache(t *testing.T) {
	t.Parallel()
	needTool(t, "ccache", "cc")
	a := newAccount(t)
	j := newJob(t, a, a.tree(t, map[string]string{"a.c": "int a;\n"}))
	must(t, a.command(j.dir, []string{"CCACHE_NOHASHDIR=1"}, "sh", "-c", "ccache cc -c a.c -o /dev/null; ccache cc -c a.c -o "+a.Home+"/a.o"))
	r := j.run("--", "sh", "-c", "ccache -z >/dev/null; CCACHE_NOHASHDIR=1 ccache cc -c a.c -o ~/a.o; ccache --print-stats | grep -E 'cache_hit' | awk '{ n += $2 } END { print n }'")
	if r.Stdout != "1\n" {
		t.Errorf("the host's cache was not used: %v", r)
	}
}
