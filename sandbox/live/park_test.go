package live

import (
	"testing"

	"golang.org/x/sys/unix"

	"github.com/sbx-build/sbx/sandbox/overlay"
)

// TestParkedSame: a file was written to if its content is another, whatever its times say;
// they count where the content is not known.
func TestParkedSame(t *testing.T) {
	sum := func(b byte) (s [32]byte) { s[0] = b; return s }
	was := parked{ino: 7, is: overlay.Mirror{Mode: unix.S_IFREG | 0o644, Size: 4, Mtime: 100, Sum: sum(1)}}
	large := was
	large.is.Sum = sum(0)
	for _, test := range []struct {
		name   string
		was    parked
		change func(p *parked)
		want   bool
	}{
		{"nothing", was, func(p *parked) {}, true},
		{"mode", was, func(p *parked) { p.is.Mode ^= 0o111 }, true},
		{"times", was, func(p *parked) { p.is.Mtime++ }, true},
		{"content", was, func(p *parked) { p.is.Mtime++; p.is.Sum = sum(2) }, false},
		{"content, times set back", was, func(p *parked) { p.is.Sum = sum(2) }, false},
		{"size", was, func(p *parked) { p.is.Size++ }, false},
		{"another file", was, func(p *parked) { p.ino++ }, false},
		{"another type", was, func(p *parked) { p.is.Mode = unix.S_IFLNK | 0o777 }, false},
		{"large, nothing", large, func(p *parked) {}, true},
		{"large, times", large, func(p *parked) { p.is.Mtime++ }, false},
	} {
		now := test.was
		test.change(&now)
		if got := test.was.same(now); got != test.want {
			t.Errorf("%s: %v", test.name, got)
		}
	}
}
