package overlay

import (
	"os"
	"path/filepath"
	"testing"

	"golang.org/x/sys/unix"
)

const host = `
	a=one
	b=two
	c/x=1
	c/y=2
	c-d=3
	exe:755=#!
	link->a
	old/sub/f=f
	old/g=g
	same/dir/file=same
	sub/deep/f=f
	swap/f=f
`

func TestChanges(t *testing.T) {
	p := newPair(t)
	fill(t, p.Lower, host)
	fill(t, p.Upper, `
		a=uno
		b=two
		b2=longer than before
		c!/
		c/y=2
		c/z=new
		c-d:600=3
		exe:755=#!
		link->b
		new/dir/f=123
		new/g=4567
		new/h%
		nothing%
		old%
		pipe|
		same/dir/file=same
		sub/deep/
		sub/:700
		swap=now a file
	`)
	checkChanges(t, p, Options{}, `
		M a
		A b2
		P c-d
		D c/x
		A c/z
		M link
		A new/ 3 7
		D old/
		A pipe
		P sub/
		T swap
	`)
	checkChanges(t, p, Options{All: true, Gone: true, Paths: []string{"new", "old", "swap/"}}, `
		A new/
		A new/dir/
		A new/dir/f
		A new/g
		D old/
		D old/g
		D old/sub/
		D old/sub/f
		T swap
		D swap/f
	`)
	checkChanges(t, p, Options{Paths: []string{"new/dir/f", "old/sub", "swap/f", "c/x", "absent", "a"}}, `
		M a
		D c/x
		A new/dir/f
		D old/sub/
		D swap/f
	`)
	checkChanges(t, p, Options{Same: true, Paths: []string{"same", "nothing", "b", "c", "sub"}}, `
		  b
		  c/ opaque
		D c/x
		  c/y
		A c/z
		  nothing
		  same/
		  same/dir/
		  same/dir/file
		P sub/
		  sub/deep/
	`)
}

// Opacity is inherited: an overlay looks no further down below it.
func TestOpaqueInherited(t *testing.T) {
	p := newPair(t)
	fill(t, p.Lower, "d/s/one=1\nd/s/t/two=2\nd/three=3\nd/only/four=4")
	fill(t, p.Upper, "d!/\nd/s/t/\nd/s/five=5")
	checkChanges(t, p, Options{}, `
		D d/only/
		A d/s/five
		D d/s/one
		D d/s/t/two
		D d/three
	`)
}

func TestNoLower(t *testing.T) {
	p := newPair(t)
	fill(t, p.Upper, "a=1\nd/f=2\nw%")
	must(t, os.Remove(p.Lower))
	checkChanges(t, p, Options{}, "A a\nA d/ 1 1\n")
	must(t, os.RemoveAll(p.Upper))
	checkChanges(t, p, Options{}, "")
}

// What overlayfs knows and these mounts switch off is not honoured.
func TestOtherAttributes(t *testing.T) {
	p := newPair(t)
	fill(t, p.Lower, "d/f=1\ne/f=1")
	fill(t, p.Upper, "d/g=2\ne/f=1\nnew/f=1")
	opaque(t, p.Upper) // the root merges all the same
	for path, attrs := range map[string][2]string{
		"d":   {"user.overlay.opaque", "x"},
		"d/g": {"user.overlay.whiteout", "y"},
		"e":   {"user.overlay.redirect", "/d"},
		"e/f": {"user.overlay.metacopy", ""},
		"new": {"user.overlay.origin", "x"},
	} {
		must(t, unix.Setxattr(filepath.Join(p.Upper, path), attrs[0], []byte(attrs[1]), 0))
	}
	checkChanges(t, p, Options{}, "A d/g\nA new/ 1 1\n")
}

func TestFingerprint(t *testing.T) {
	p := newPair(t)
	fill(t, p.Lower, host)
	o, err := p.Open()
	must(t, err)
	defer o.Close()
	for _, name := range []string{"a", "c", "exe", "link", "absent"} {
		f, err := FingerprintOf(o.LowerFd(), name)
		must(t, err)
		if f.Exists() == (name == "absent") {
			t.Errorf("%s: exists: %v", name, f.Exists())
		}
		if g, err := ParseFingerprint(f.String()); err != nil || g != f {
			t.Errorf("%s: %v is parsed as %v (%v)", name, f, g, err)
		}
	}
}

func FuzzParseFingerprint(f *testing.F) {
	for _, s := range []string{"-", "f:644:5:1:2:3", "d:7777:0:-1:-2:18446744073709551615", "f:0644:5:1:2:3", ""} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		if p, err := ParseFingerprint(s); err == nil && p.String() != s {
			t.Errorf("%q is parsed as %q", s, p)
		}
	})
}
