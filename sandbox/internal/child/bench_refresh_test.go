package child

import (
	"fmt"
	"os"
	"path/filepath"
	"testing"

	"golang.org/x/sys/unix"
)

// BenchmarkRefresh is what a refresh costs by the number of names that the kernel has
// cached.
func BenchmarkRefresh(b *testing.B) {
	needUserNS(b)
	for _, count := range []int{0, 1000, 10000, 50000} {
		if testing.Short() && count > 1000 {
			continue
		}
		b.Run(fmt.Sprint(count), func(b *testing.B) {
			process, dir := lender(b, "exit 0")
			lent, err := process.Lent()
			if err != nil {
				b.Fatal(err)
			}
			defer lent.Close()
			if _, err := process.Wait(nil); err != nil {
				b.Fatal(err)
			}
			for i := range count {
				sub := filepath.Join(dir, "lower", fmt.Sprintf("d%d", i/100))
				if i%100 == 0 {
					if err := os.Mkdir(sub, 0o755); err != nil {
						b.Fatal(err)
					}
				}
				if err := os.WriteFile(filepath.Join(sub, fmt.Sprint(i)), nil, 0o644); err != nil {
					b.Fatal(err)
				}
			}
			o, err := Pick(lent.Namespaces[0], lent.Mounts[0])
			if err != nil {
				b.Fatal(err)
			}
			defer o.Close()
			var st unix.Stat_t
			for b.Loop() {
				b.StopTimer()
				for i := range count {
					if err := unix.Fstatat(lent.Mounts[0], fmt.Sprintf("d%d/%d", i/100, i), &st, 0); err != nil {
						b.Fatal(err)
					}
				}
				b.StartTimer()
				if err := o.Refresh(); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
