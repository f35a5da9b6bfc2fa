package sandbox

import (
	"os"
	"testing"

	"github.com/sbx-build/sbx/sandbox/internal/child"
)

func benchOptions(b *testing.B) Options {
	b.Helper()
	dir := b.TempDir()
	if err := os.Mkdir(dir+"/.git", 0o755); err != nil {
		b.Fatal(err)
	}
	return Options{Dir: dir, Environ: append(os.Environ(), "SBX_STATE="+b.TempDir()), Args: []string{"/bin/true"}}
}

// BenchmarkPrepare is all that happens before the clone: resolve, probe, plan.
func BenchmarkPrepare(b *testing.B) {
	o := benchOptions(b)
	b.ReportAllocs()
	for b.Loop() {
		if _, _, err := Prepare(o); err != nil {
			b.Fatal(err)
		}
	}
}

// BenchmarkCompile turns a plan into the table of system calls.
func BenchmarkCompile(b *testing.B) {
	_, p, err := Prepare(benchOptions(b))
	if err != nil {
		b.Fatal(err)
	}
	b.ReportAllocs()
	for b.Loop() {
		if _, err := child.Compile(p); err != nil {
			b.Fatal(err)
		}
	}
}
