package overlay

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"testing"

	"golang.org/x/sys/unix"
)

// manyFiles makes n files on both sides, of these sizes, in directories of per
// each. They differ at their end, and where else is said.
func manyFiles(t testing.TB, n, per, low, up int, at ...int) Pair {
	t.Helper()
	p := newPair(t)
	text := bytes.Repeat([]byte("0123456789abcde\n"), 129)[:low]
	other := bytes.Repeat([]byte("0123456789abcde\n"), 129)[:up]
	for _, i := range append(at, len(other)-1) {
		other[i] = 'X'
	}
	for i := 0; i < n; i += per {
		dir := fmt.Sprintf("d%03d/e%03d", i/per/50, i/per%50)
		for side, data := range map[string][]byte{p.Lower: text, p.Upper: other} {
			must(t, os.MkdirAll(filepath.Join(side, dir), 0o755))
			fd, err := unix.Open(filepath.Join(side, dir), unix.O_PATH|unix.O_DIRECTORY, 0)
			must(t, err)
			for k := range per {
				touchAt(t, fd, fmt.Sprintf("file%04d", k), string(data))
			}
			unix.Close(fd)
		}
	}
	return p
}

// many is what a benchmark of 100,000 files makes of them under -short, which only
// sees that it works: making them takes minutes.
func many(n int) int {
	if testing.Short() {
		return n / 50
	}
	return n
}

// BenchmarkChanges100k compares 100,000 files that the layer has its own version
// of, byte by byte: the bar is a second.
func BenchmarkChanges100k(b *testing.B) {
	files := many(100_000)
	for _, bb := range []struct {
		name string
		make func() Pair
		opts Options
	}{
		// Sizes differ, as they mostly do.
		{"Modified", func() Pair { return manyFiles(b, files, 40, 20, 21) }, Options{}},
		// The worst: equal but for the last byte.
		{"SameSize", func() Pair { return manyFiles(b, files, 40, 2048, 2048) }, Options{}},
		{"Stat", func() Pair { return manyFiles(b, files, 40, 200, 201) }, Options{All: true, Gone: true, Lines: true}},
		// Lines in several places.
		{"StatLines", func() Pair { return manyFiles(b, files, 40, 1000, 1001, 50, 200, 500) }, Options{All: true, Gone: true, Lines: true}},
		{"OneDirectory", func() Pair { return manyFiles(b, files, files, 20, 21) }, Options{}},
		{"Added", func() Pair {
			p := manyFiles(b, files, 40, 20, 21)
			must(b, os.Rename(p.Lower, p.Lower+".gone"))
			return p
		}, Options{Guard: true}},
	} {
		b.Run(bb.name, func(b *testing.B) {
			p := bb.make()
			var before, after runtime.MemStats
			runtime.ReadMemStats(&before)
			for b.Loop() {
				o, err := p.Open()
				must(b, err)
				n := 0
				for _, err := range o.Changes(bb.opts) {
					must(b, err)
					n++
				}
				o.Close()
				if n != files && bb.name != "Added" {
					b.Fatalf("%d changes", n)
				}
			}
			runtime.ReadMemStats(&after)
			b.ReportMetric(float64(after.HeapSys-after.HeapReleased)/(1<<20), "MB-heap")
		})
	}
}
