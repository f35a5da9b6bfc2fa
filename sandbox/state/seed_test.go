package state

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// seeding looks at one file as a run does, and puts it there where it would.
func seeding(t *testing.T, k *Lock, path, data string) Found {
	t.Helper()
	s := k.Layer.Seeds()
	defer s.Close()
	found := s.Look(path, data)
	if err := k.KeepSeeds(s); err != nil {
		t.Fatal(err)
	}
	if found == FoundNothing || found == FoundEarlier {
		file := filepath.Join(k.Layer.Dir, "home", path)
		if err := os.MkdirAll(filepath.Dir(file), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(file, []byte(data), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	return found
}

// TestSeeds: a file follows the host's for as long as the build leaves it alone, and
// of what the build has made of it there is news once for each change of the host's.
func TestSeeds(t *testing.T) {
	_, l := newStore(t)
	k := mustLock(t, l, "ids")
	defer k.Unlock()
	const path = ".config/x/conf"
	file := filepath.Join(l.Dir, "home", path)
	steps := []struct {
		before func()
		data   string
		want   Found
	}{
		{nil, "one", FoundNothing},
		{nil, "one", FoundSame},
		{nil, "two", FoundEarlier},
		{nil, "two", FoundSame},
		// The run ended before the file was written.
		{func() { s := l.Seeds(); s.Look(path, "three"); s.Close(); k.KeepSeeds(s) }, "four", FoundEarlier},
		{func() { os.WriteFile(file, []byte("four, changed"), 0o644) }, "four", FoundOther},
		{nil, "five", FoundNews},
		{nil, "five", FoundOther},
		{nil, "four", FoundNews},
		{func() { os.Remove(file) }, "five", FoundNothing},
		{func() { os.RemoveAll(filepath.Join(l.Dir, "home")) }, "five", FoundNothing},
		{func() { os.Remove(filepath.Join(l.Dir, "seeds")) }, "five", FoundSame},
		{func() { os.WriteFile(filepath.Join(l.Dir, "seeds"), []byte("\x00\n damaged\nx\n"), 0o600) }, "six", FoundNews},
	}
	for i, s := range steps {
		if s.before != nil {
			s.before()
		}
		if got := seeding(t, k, path, s.data); got != s.want {
			t.Errorf("step %d: found %d, want %d", i, got, s.want)
		}
	}
	// Many paths do not make the record larger than what is read of it.
	for i := range 300 {
		seeding(t, k, "f"+strings.Repeat("x", i%100)+string(rune('0'+i/100)), "d")
	}
	if st, err := os.Stat(filepath.Join(l.Dir, "seeds")); err != nil || st.Size() > 8000 {
		t.Errorf("the record: %v, %v", st, err)
	}
}

// TestSeedsHostile: whatever a build has left in the place of a file, or on the way
// to it, is its own; nothing is followed and nothing waited for.
func TestSeedsHostile(t *testing.T) {
	_, l := newStore(t)
	k := mustLock(t, l, "ids")
	defer k.Unlock()
	home := filepath.Join(l.Dir, "home")
	outside := t.TempDir()
	if err := os.WriteFile(outside+"/f", []byte("data"), 0o644); err != nil {
		t.Fatal(err)
	}
	os.MkdirAll(home+"/dir/f", 0o755)
	os.Symlink(outside, home+"/link")
	os.Symlink(outside+"/f", home+"/file")
	os.Symlink("/proc/self/root"+outside, home+"/magic")
	os.Symlink("nowhere", home+"/dangling")
	os.Symlink("loop", home+"/loop")
	os.WriteFile(home+"/plain", nil, 0o644)
	unix.Mkfifo(home+"/fifo", 0o644)
	large, err := os.Create(home + "/large")
	if err != nil {
		t.Fatal(err)
	}
	large.Truncate(1 << 40)
	large.Close()
	begin, s := time.Now(), l.Seeds()
	defer s.Close()
	for _, path := range []string{"dir/f", "link/f", "file", "magic/f", "dangling", "dangling/f", "loop", "plain/f", "fifo", "large"} {
		if got := s.Look(path, "data"); got != FoundNews && (path != "dangling/f" || got != FoundNothing) {
			t.Errorf("%s: found %d", path, got)
		}
	}
	if d := time.Since(begin); d > 5*time.Second {
		t.Errorf("it took %v", d)
	}
}
