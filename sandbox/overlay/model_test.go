package overlay

import (
	"fmt"
	"maps"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// view is a tree: what each path is, in a line.
type view map[string]string

// describe is all of a file that a change can be of.
func describe(t testing.TB, path string) string {
	info, err := os.Lstat(path)
	must(t, err)
	mode := fmt.Sprintf("%o", info.Mode().Perm())
	switch {
	case info.IsDir():
		return "dir " + mode
	case info.Mode()&os.ModeSymlink != 0:
		target, _ := os.Readlink(path)
		return "link " + target
	case info.Mode().IsRegular():
		data, err := os.ReadFile(path)
		must(t, err)
		return "file " + mode + " " + string(data)
	}
	return fmt.Sprint("other ", info.Mode())
}

// plain is the view of a directory.
func plain(t testing.TB, dir string) view {
	v := view{}
	filepath.Walk(dir, func(path string, _ os.FileInfo, err error) error {
		must(t, err)
		if path != dir {
			v[strings.TrimPrefix(path, dir+"/")] = describe(t, path)
		}
		return nil
	})
	return v
}

// merged is the view that overlayfs gives, written down as simply as possible.
func merged(t testing.TB, lower, upper string) view {
	v := view{}
	var merge func(rel string, low bool)
	merge = func(rel string, low bool) {
		names := map[string]bool{}
		if low {
			entries, _ := os.ReadDir(filepath.Join(lower, rel))
			for _, e := range entries {
				names[e.Name()] = true
			}
		}
		entries, _ := os.ReadDir(filepath.Join(upper, rel))
		for _, e := range entries {
			names[e.Name()] = true
		}
		for n := range names {
			path := filepath.Join(rel, n)
			up := filepath.Join(upper, path)
			var st unix.Stat_t
			if unix.Lstat(up, &st) != nil {
				for k, d := range plain(t, filepath.Join(lower, rel)) {
					if k == n || strings.HasPrefix(k, n+"/") {
						v[filepath.Join(rel, k)] = d
					}
				}
				continue
			}
			if st.Mode&unix.S_IFMT == unix.S_IFCHR && st.Rdev == 0 {
				continue
			}
			v[path] = describe(t, up)
			if st.Mode&unix.S_IFMT == unix.S_IFDIR {
				info, err := os.Lstat(filepath.Join(lower, path))
				n, _ := unix.Getxattr(up, "user.overlay.opaque", make([]byte, 4))
				merge(path, low && err == nil && info.IsDir() && n != 1)
			}
		}
	}
	merge("", true)
	return v
}

// difference is what `status --all` must say.
func difference(host, layer view) map[string]byte {
	d := map[string]byte{}
	typ := func(s string) string { w, _, _ := strings.Cut(s, " "); return w }
	for p, h := range host {
		l, ok := layer[p]
		switch {
		case !ok:
			d[p] = 'D'
		case h == l:
		case typ(h) != typ(l):
			d[p] = 'T'
		case typ(h) == "dir":
			d[p] = 'P'
		default:
			d[p] = 'M'
			// Only the mode: "file MODE TEXT".
			a, b := strings.SplitN(h, " ", 3), strings.SplitN(l, " ", 3)
			if typ(h) == "file" && a[2] == b[2] {
				d[p] = 'P'
			}
		}
	}
	for p := range layer {
		if _, ok := host[p]; !ok {
			d[p] = 'A'
		}
	}
	return d
}

// names are few, so that the sides often have the same, and in an order that is
// not that of the directories.
var names = []string{"a", "a-b", "a.c", "b", "é\n", "a b"}

func random(t testing.TB, r *rand.Rand, root string, upper bool) {
	t.Helper()
	dirs := []string{root}
	for range 4 + r.IntN(25) {
		dir := dirs[r.IntN(len(dirs))]
		path := filepath.Join(dir, names[r.IntN(len(names))])
		if _, err := os.Lstat(path); err == nil {
			continue
		}
		n := r.IntN(10)
		if upper && n == 9 {
			whiteout(t, path)
			continue
		}
		switch {
		case n < 4:
			must(t, os.Mkdir(path, 0o755))
			dirs = append(dirs, path)
			if upper && r.IntN(3) == 0 {
				opaque(t, path)
			}
			if r.IntN(5) == 0 {
				must(t, os.Chmod(path, 0o711))
			}
		case n == 4:
			must(t, os.Symlink([]string{"a", "../b"}[r.IntN(2)], path))
		default:
			must(t, os.WriteFile(path, []byte{'0' + byte(r.IntN(2))}, []os.FileMode{0o644, 0o755}[r.IntN(2)]))
		}
	}
}

// Changes names exactly the difference between the host's tree and what the
// overlay shows, in order, each once, whatever the layer is.
func TestChangesModel(t *testing.T) {
	for seed := range uint64(400) {
		r := rand.New(rand.NewPCG(seed, 3))
		p := newPair(t)
		random(t, r, p.Lower, false)
		random(t, r, p.Upper, true)
		host := plain(t, p.Lower)
		want := difference(host, merged(t, p.Lower, p.Upper))
		got := map[string]byte{}
		last := ""
		o, err := p.Open()
		must(t, err)
		for c, err := range o.Changes(Options{All: true, Gone: true}) {
			must(t, err)
			if c.Path <= last {
				t.Errorf("seed %d: %q comes after %q", seed, c.Path, last)
			}
			last = c.Path
			got[c.Path] = c.Kind.Letter()
		}
		if !maps.Equal(got, want) {
			t.Errorf("seed %d:\n got %q\nwant %q", seed, lines(got), lines(want))
		}
		// The short form has the same, but for what is below its directories.
		for c, err := range o.Changes(Options{}) {
			must(t, err)
			if got[c.Path] != c.Kind.Letter() {
				t.Errorf("seed %d: %q is %v in the short form", seed, c.Path, c.Kind)
			}
			if c.Upper.IsDir() && c.Kind == Added {
				n := int64(0)
				for p := range got {
					if under(p, c.Path) {
						n++
					}
				}
				if n != c.Count {
					t.Errorf("seed %d: %q has %d entries, not %d", seed, c.Path, n, c.Count)
				}
			}
		}
		// One path at a time gives what belongs to it.
		for path := range want {
			for c, err := range o.Changes(Options{All: true, Gone: true, Paths: []string{path}}) {
				must(t, err)
				if c.Kind.Letter() != want[c.Path] || c.Path != path && !under(c.Path, path) {
					t.Errorf("seed %d: asked for %q, got %v %q", seed, path, c.Kind, c.Path)
				}
			}
		}
		o.Close()
		if t.Failed() {
			return
		}
		os.RemoveAll(filepath.Dir(p.Lower))
	}
}

func lines(m map[string]byte) []string {
	var list []string
	for _, k := range slices.Sorted(maps.Keys(m)) {
		list = append(list, string(m[k])+" "+k)
	}
	return list
}
