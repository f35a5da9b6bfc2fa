package overlay

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"testing"
)

// manyFiles makes n files of 2 KiB on both sides, in directories of per each;
// those of the upper differ at their end.
func manyFiles(t testing.TB, n, per int) Pair {
	t.Helper()
	p := newPair(t)
	text := bytes.Repeat([]byte("0123456789abcde\n"), 128)
	other := bytes.Clone(text)
	other[len(other)-2] = 'X'
	for i := 0; i < n; i += per {
		dir := fmt.Sprintf("d%03d/e%03d", i/per/50, i/per%50)
		for side, data := range map[string][]byte{p.Lower: text, p.Upper: other} {
			must(t, os.MkdirAll(filepath.Join(side, dir), 0o755))
			for k := range per {
				must(t, os.WriteFile(filepath.Join(side, dir, fmt.Sprintf("file%04d", k)), data, 0o644))
			}
		}
	}
	return p
}

// BenchmarkChanges100k compares 100,000 files that the layer has its own version
// of, byte by byte: the bar is a second.
func BenchmarkChanges100k(b *testing.B) {
	for _, bb := range []struct {
		name string
		make func() Pair
		want int
	}{
		{"SameSize", func() Pair { return manyFiles(b, 100_000, 40) }, 100_000},
		{"OneDirectory", func() Pair { return manyFiles(b, 100_000, 100_000) }, 100_000},
		{"Added", func() Pair { p := manyFiles(b, 100_000, 40); must(b, os.Rename(p.Lower, p.Lower+".gone")); return p }, 40 + 10},
	} {
		b.Run(bb.name, func(b *testing.B) {
			p := bb.make()
			var before, after runtime.MemStats
			runtime.ReadMemStats(&before)
			b.ResetTimer()
			for range b.N {
				o, err := p.Open()
				must(b, err)
				n := 0
				for _, err := range o.Changes(Options{}) {
					must(b, err)
					n++
				}
				o.Close()
				if n != bb.want && bb.name != "Added" {
					b.Fatalf("%d changes", n)
				}
			}
			b.StopTimer()
			runtime.ReadMemStats(&after)
			b.ReportMetric(float64(after.HeapSys-after.HeapReleased)/(1<<20), "MB-heap")
		})
	}
}
