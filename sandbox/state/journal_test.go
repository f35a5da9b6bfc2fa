package state

import (
	"bytes"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"

	"golang.org/x/sys/unix"
)

func mustJournal(t testing.TB, l Layer) *Journal {
	t.Helper()
	j, err := l.Journal()
	if err != nil {
		t.Fatal(err)
	}
	return j
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// newJournal is an empty journal of a layer that exists.
func newJournal(t testing.TB) (Layer, *Journal) {
	t.Helper()
	l := Store{Root: filepath.Join(t.TempDir(), "state")}.Tree("/src/app").Layer("default")
	must(t, os.MkdirAll(l.Dir, 0o700))
	return l, mustJournal(t, l)
}

func TestJournal(t *testing.T) {
	l, j := newJournal(t)
	if l.HasJournal() {
		t.Error("a new layer has a journal")
	}
	names := []string{"", "a", "a b", "a\nb", "\xff\xfe", "é", `"\`, strings.Repeat("x/", 3000) + "x", "\u202e"}
	for i, n := range names {
		must(t, j.Write(false, Note{Seen, ".", n, fmt.Sprint(i)}, Note{Seen, "with/k", n, "k"}))
	}
	must(t, j.Write(true, Note{Seen, ".", "gone", "1"}, Note{Keep, ".", "gone", ""}, Note{Keep, ".", "kept", ""}, Note{Forget, ".", "gone", ""}, Note{Seen, ".", "a", "again"},
		Note{Mirror, ".", "gone", "kept"}, Note{Mirror, ".", "m", "1"}, Note{Mirror, ".", "m", "2 3"}, Note{Mirror, "with/k", "m", "-"}, Note{Mirror, "with/k", "m", ""}, Note{Forget, ".", "m", ""},
		Note{Temp, ".", "dir", "mark"}, Note{Temp, ".", "dir", "mark2"}, Note{Done, ".", "dir", "mark"}))
	for _, j := range []*Journal{j, mustJournal(t, l)} {
		for i, n := range names {
			want := fmt.Sprint(i)
			if n == "a" {
				want = "again"
			}
			if v, ok := j.Seen(".", n); !ok || v != want {
				t.Errorf("%q: %q, %v", n, v, ok)
			}
			if v, ok := j.Seen("with/k", n); !ok || v != "k" {
				t.Errorf("%q of another pair: %q, %v", n, v, ok)
			}
		}
		if v, ok := j.Seen(".", "gone"); ok {
			t.Errorf("what was forgotten is %q", v)
		}
		if got := slices.Collect(j.Paths(".")); len(got) != len(names)+1 {
			t.Errorf("paths: %q", got)
		}
		if !j.Kept(".", "kept") || j.Kept(".", "gone") || j.Kept(".", "a") {
			t.Error("kept paths")
		}
		if j.Mirror(".", "m") != "2 3" || j.Mirror("with/k", "m") != "" || !slices.Equal(j.Mirrors("."), []string{"gone", "m"}) || len(j.Mirrors("with/k")) != 0 {
			t.Errorf("mirrors: %q", j.Mirrors("."))
		}
		if got := j.Temps("."); len(got) != 1 || got[0] != (Note{Temp, ".", "dir", "mark2"}) {
			t.Errorf("temporaries: %v", got)
		}
	}
}

// A crash can cut the file anywhere: the lines before the cut hold, and what is
// written afterwards does too.
func TestJournalTorn(t *testing.T) {
	l, j := newJournal(t)
	must(t, j.Write(false, Note{Seen, ".", "one", "1"}, Note{Seen, ".", "two", "2"}))
	data, err := os.ReadFile(l.journalFile())
	must(t, err)
	second := bytes.IndexByte(data, '\n') + 1
	for cut := range len(data) + 1 {
		must(t, os.WriteFile(l.journalFile(), data[:cut], 0o600))
		j := mustJournal(t, l)
		must(t, j.Write(false, Note{Seen, ".", "three", "3"}))
		j = mustJournal(t, l)
		_, one := j.Seen(".", "one")
		_, two := j.Seen(".", "two")
		three, _ := j.Seen(".", "three")
		// A line without its newline is whole once the next has brought it.
		if one != (cut >= second-1) || two != (cut >= len(data)-1) || three != "3" {
			t.Errorf("cut at %d: one %v, two %v, three %q", cut, one, two, three)
		}
	}
}

// A line that was damaged says nothing, and does no harm to others.
func TestJournalDamaged(t *testing.T) {
	l, j := newJournal(t)
	must(t, j.Write(false, Note{Seen, ".", "one", "1"}, Note{Seen, ".", "two", "2"}))
	data, err := os.ReadFile(l.journalFile())
	must(t, err)
	first := bytes.IndexByte(data, '\n')
	for i := range first {
		for _, c := range []byte{0, ' ', '0', 'x', 0xff} {
			if data[i] == c {
				continue
			}
			bad := bytes.Clone(data)
			bad[i] = c
			must(t, os.WriteFile(l.journalFile(), bad, 0o600))
			j := mustJournal(t, l)
			if v, ok := j.Seen(".", "one"); ok {
				t.Errorf("byte %d as %q: one is %q", i, c, v)
			}
			if v, ok := j.Seen(".", "two"); !ok || v != "2" {
				t.Errorf("byte %d as %q: two is %q", i, c, v)
			}
		}
	}
}

// The file does not grow with what is written, but with what it says.
func TestJournalCompact(t *testing.T) {
	l, j := newJournal(t)
	for i := range 5000 {
		must(t, j.Write(false, Note{Seen, ".", fmt.Sprint("f", i%10), fmt.Sprint(i)}))
	}
	must(t, j.Write(false, Note{Temp, ".", "d", "m"}))
	st, err := os.Stat(l.journalFile())
	must(t, err)
	if st.Size() > 10_000 || st.Mode().Perm() != 0o600 {
		t.Errorf("the journal of ten paths has %d bytes, mode %v", st.Size(), st.Mode())
	}
	j = mustJournal(t, l)
	for i := range 10 {
		if v, _ := j.Seen(".", fmt.Sprint("f", i)); v != fmt.Sprint(4990+i) {
			t.Errorf("f%d is %q", i, v)
		}
	}
	if len(j.Temps(".")) != 1 {
		t.Error("a temporary is lost")
	}
}

// Several processes write at once, and each compacts: no line is lost.
func TestJournalConcurrent(t *testing.T) {
	l, _ := newJournal(t)
	var wg sync.WaitGroup
	for w := range 4 {
		wg.Go(func() {
			j, err := l.Journal()
			if err != nil {
				t.Error(err)
				return
			}
			for i := range 300 {
				if err := j.Write(false, Note{Seen, ".", fmt.Sprint(w), fmt.Sprint(i)}, Note{Seen, ".", fmt.Sprint(w, "/", i%3), fmt.Sprint(i)}); err != nil {
					t.Error(err)
				}
			}
		})
	}
	wg.Wait()
	j := mustJournal(t, l)
	for w := range 4 {
		if v, _ := j.Seen(".", fmt.Sprint(w)); v != "299" {
			t.Errorf("writer %d: %q", w, v)
		}
	}
	if n := len(slices.Collect(j.Paths("."))); n != 16 {
		t.Errorf("%d paths", n)
	}
}

// FuzzJournal: whatever stands in the file, reading gives what writing it anew
// would give, and a note of one's own comes back.
// seen is what all paths were seen with.
func seen(j *Journal) map[place]string {
	list := map[place]string{}
	for pair := range j.seen {
		for path := range j.Paths(pair) {
			if value, ok := j.Seen(pair, path); ok {
				list[place{pair, path}] = value
			}
		}
	}
	return list
}

// Of paths that nobody can tell apart by their hashes the last one is known, and nothing
// wrong of the others.
func TestJournalHash(t *testing.T) {
	l, j := newJournal(t)
	must(t, j.Write(false, Note{Seen, ".", "one", "1"}, Note{Seen, ".", "two", "2"}))
	j = mustJournal(t, l)
	j.seen["."][j.key("one")] = j.seen["."][j.key("two")]
	if v, ok := j.Seen(".", "one"); ok {
		t.Errorf("one is %q", v)
	}
	if v, ok := j.Seen(".", "two"); !ok || v != "2" {
		t.Errorf("two is %q, %v", v, ok)
	}
}

func FuzzJournal(f *testing.F) {
	f.Add([]byte("00000000 seen . \"a\" x\n"), "a", "v")
	var good []byte
	for _, n := range []Note{{Seen, ".", "a", "f:644:1:2:3:4"}, {Forget, ".", "a", ""}, {Temp, "with/0", "d/e", "m"}, {Keep, ".", "k", ""}} {
		good = n.append(good)
	}
	f.Add(good, "x\ny", "-")
	f.Fuzz(func(t *testing.T, data []byte, path, value string) {
		l, _ := newJournal(t)
		must(t, os.WriteFile(l.journalFile(), data, 0o600))
		a := mustJournal(t, l)
		fd, err := lockJournal(l.journalFile())
		must(t, err)
		must(t, a.compact(fd))
		unix.Close(fd)
		b := mustJournal(t, l)
		if !maps.Equal(seen(a), seen(b)) || !maps.Equal(a.keep, b.keep) || !maps.Equal(a.temps, b.temps) || !maps.Equal(a.mirrors, b.mirrors) {
			t.Fatalf("%q says %v %v, and shorter %v %v", data, seen(a), a.notes, seen(b), b.notes)
		}
		if b.lines != b.needed() {
			t.Fatalf("%q has %d lines that say %d things", data, b.lines, b.needed())
		}
		if strings.ContainsAny(value, "\n") {
			return
		}
		n := Note{Seen, ".", path, value}
		line := n.append(nil)
		if got, ok := parseNote(bytes.TrimSuffix(line, []byte("\n"))); !ok || got != n || bytes.Count(line, []byte("\n")) != 1 {
			t.Fatalf("%+v is written as %q and read as %+v", n, line, got)
		}
	})
}

func BenchmarkJournalRead(b *testing.B) {
	l, j := newJournal(b)
	var list []Note
	for i := range 100_000 {
		list = append(list, Note{Seen, ".", fmt.Sprintf("src/some/directory/file%d.c", i), "f:644:12345:1700000000000000000:1700000000000000000:123456"})
	}
	must(b, j.Write(false, list...))
	for b.Loop() {
		j := mustJournal(b, l)
		for _, n := range list {
			if _, ok := j.Seen(".", n.Path); !ok {
				b.Fatal(n.Path)
			}
		}
	}
}

// A pair is settled as to what was seen before, as long as one process writes.
func TestJournalSettled(t *testing.T) {
	l, j := newJournal(t)
	must(t, j.Write(false, Note{Seen, ".", "a", "1"}, Note{Seen, "with/k", "a", "1"}, Note{Settled, ".", "", "7"}, Note{Seen, ".", "b", "2"}))
	for _, j := range []*Journal{j, mustJournal(t, l)} {
		for _, n := range []struct {
			pair, path, value string
			when              int64
		}{{".", "a", "1", 7}, {".", "b", "", 0}, {".", "c", "", 7}, {"with/k", "a", "1", 0}} {
			if value, when := j.Settled(n.pair, n.path); value != n.value || when != n.when {
				t.Errorf("%s/%s: %q at %d", n.pair, n.path, value, when)
			}
		}
	}
	// Another has written what this one has not read.
	must(t, mustJournal(t, l).Write(false, Note{Seen, ".", "a", "3"}))
	must(t, j.Write(false, Note{Settled, ".", "", "8"}))
	for _, j := range []*Journal{j, mustJournal(t, l)} {
		if value, when := j.Settled(".", "b"); value != "" || when != 0 {
			t.Errorf("b: %q at %d", value, when)
		}
	}
	must(t, mustJournal(t, l).Write(false, Note{Settled, ".", "", "9"}))
	if value, when := mustJournal(t, l).Settled(".", "a"); value != "3" || when != 9 {
		t.Errorf("a: %q at %d", value, when)
	}
}
