package sandbox

import (
	"os"
	"testing"
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

// BenchmarkRun is a whole run of /bin/true.
func BenchmarkRun(b *testing.B) {
	o := benchOptions(b)
	for b.Loop() {
		if status, err := Run(o); err != nil || status.ExitCode() != 0 {
			b.Fatal(status, err)
		}
	}
}
