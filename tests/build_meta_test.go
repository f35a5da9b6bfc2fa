package tests

import (
	"strings"
	"testing"
)

// metaFiles is one small project for CMake and for Meson: a library, a program,
// a generated header, a test, an installation.
var metaFiles = map[string]string{
	"CMakeLists.txt": `cmake_minimum_required(VERSION 3.18)
project(meta VERSION 1.2 LANGUAGES C)
configure_file(version.h.in version.h @ONLY)
add_library(part SHARED part.c)
add_executable(meta main.c)
target_include_directories(meta PRIVATE ${CMAKE_CURRENT_BINARY_DIR})
target_link_libraries(meta PRIVATE part)
enable_testing()
add_test(NAME runs COMMAND meta)
install(TARGETS meta part)
`,
	"meson.build": `project('meta', 'c', version: '1.2')
conf = configuration_data()
conf.set('PROJECT_VERSION', meson.project_version())
configure_file(input: 'version.h.in', output: 'version.h', configuration: conf)
part = shared_library('part', 'part.c', install: true)
meta = executable('meta', 'main.c', link_with: part, install: true, install_rpath: get_option('prefix') / get_option('libdir'))
test('runs', meta)
`,
	"version.h.in": "#define VERSION \"@PROJECT_VERSION@\"\n",
	"part.c":       "int part(void) { return 0; }\n",
	"main.c":       "#include <stdio.h>\n#include \"version.h\"\nint part(void);\nint main(void) { puts(VERSION); return part(); }\n",
}

func TestBuildCMake(t *testing.T) {
	t.Parallel()
	needTool(t, "cmake", "ctest", "ninja", "make", "cc")
	a := newAccount(t)
	j := newJob(t, a, a.tree(t, metaFiles))
	for _, generator := range []string{"Ninja", "Unix Makefiles"} {
		dir := "build-" + strings.ToLower(generator[:4])
		j.run("--", "cmake", "-S", ".", "-B", dir, "-G", generator)
		j.run("--", "cmake", "--build", dir, "-j2")
		if r := j.run("--", "ctest", "--test-dir", dir); !strings.Contains(r.Stdout, "100% tests passed") {
			t.Errorf("ctest: %v", r)
		}
		j.run("--", "cmake", "--install", dir, "--prefix", j.dir+"/stage")
		if r := j.run("--", "env", "LD_LIBRARY_PATH=stage/lib", "stage/bin/meta"); r.Stdout != "1.2\n" {
			t.Errorf("the installed program: %v", r)
		}
		if r := j.run("--", "cmake", "--build", dir); strings.Contains(r.Stdout, "Building C") {
			t.Errorf("the second build compiles again: %v", r)
		}
	}
}

func TestBuildMeson(t *testing.T) {
	t.Parallel()
	needTool(t, "meson", "ninja", "cc")
	a := newAccount(t)
	// The system's Python, whose meson it is, and not one of the caller's.
	j := newJob(t, a, a.tree(t, metaFiles))
	j.run("--", "meson", "setup", "builddir", "--prefix", j.dir+"/stage")
	j.run("--", "meson", "compile", "-C", "builddir")
	j.run("--", "meson", "test", "-C", "builddir")
	j.run("--", "meson", "install", "-C", "builddir")
	if r := j.run("--", "stage/bin/meta"); r.Stdout != "1.2\n" {
		t.Errorf("the installed program: %v", r)
	}
	if r := j.run("--", "ninja", "-C", "builddir"); !strings.Contains(r.Stdout, "no work to do") {
		t.Errorf("the second build compiles again: %v", r)
	}
}
