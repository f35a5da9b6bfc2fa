package tests

import (
	"os"
	"path/filepath"
	"testing"
	"time"
)

// sources is where .ci/run puts what the build tests need and cannot have from
// the machine: Debian source packages, and a cache of npm's.
func sources() string {
	if dir := os.Getenv("SBX_TEST_SOURCES"); dir != "" {
		return dir
	}
	return "/var/cache/sbx-test-sources"
}

// source finds a Debian source package.
func source(t *testing.T, name string) string {
	t.Helper()
	list, err := filepath.Glob(filepath.Join(sources(), name+"_*.dsc"))
	if err != nil || len(list) == 0 {
		missing(t, "the Debian source package %s is not in %s (.ci/run gets it; SBX_TEST_SOURCES names another directory)", name, sources())
	}
	return list[0]
}

// unpack unpacks a Debian source package as the account, and gives the directory.
func unpack(t *testing.T, a account, name string) string {
	t.Helper()
	needTool(t, "dpkg-source")
	dsc := source(t, name)
	dir := filepath.Join(a.dir(t), name)
	must(t, a.command(filepath.Dir(dir), nil, "dpkg-source", "--no-check", "-x", dsc, dir))
	return dir
}

// npmCache gives the account a copy of the prepared cache.
func npmCache(t *testing.T, a account) {
	t.Helper()
	dir := filepath.Join(sources(), "npm")
	if _, err := os.Stat(filepath.Join(dir, "_cacache")); err != nil {
		missing(t, "there is no cache of npm's in %s (.ci/run makes it)", dir)
	}
	to := filepath.Join(a.Home, ".npm")
	if err := os.CopyFS(to, os.DirFS(dir)); err != nil {
		t.Fatal(err)
	}
	a.mkTree(t, to, nil)
}

// long runs a command that builds something real.
const long = 10 * time.Minute
