package idmap

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"testing/iotest"
	"time"
)

const subuidText = `# comment
#dev:1:1

dev:100000:65536
root:0:65536
dev
dev:1
dev:1:2:3
:1:1
dev::5
dev:x:5
dev:-1:5
dev:0x10:5
dev:010:5
 dev:7:7
dev:8: 8
dev:9:0
device:9:9
1001:300000:10
other:4294967295:4294967295
dev:200000:5`

func TestParseSubIDs(t *testing.T) {
	for _, tt := range []struct {
		name string
		id   uint32
		want []SubRange
	}{
		{"dev", 1001, []SubRange{{100000, 65536}, {300000, 10}, {200000, 5}}},
		{"dev", 5, []SubRange{{100000, 65536}, {200000, 5}}},
		{"", 1001, []SubRange{{300000, 10}}},
		{"root", 0, []SubRange{{0, 65536}}},
		{"nobody", 65534, nil},
		{"", 7, nil},
	} {
		got, err := ParseSubIDs(strings.NewReader(subuidText), tt.name, tt.id)
		if err != nil || !slices.Equal(got, tt.want) {
			t.Errorf("ParseSubIDs(%q, %d) = %v, %v, want %v", tt.name, tt.id, got, err, tt.want)
		}
	}
}

func TestParseSubIDsOverflow(t *testing.T) {
	for _, tt := range []struct{ text, want string }{
		{"dev:4294967290:6\n", "line 1: range 4294967290:6 goes past the last id 4294967294"},
		{"\ndev:4294967296:1\n", "line 2: 4294967296 does not fit"},
		{"dev:1:99999999999999999999999\n", "does not fit"},
	} {
		got, err := ParseSubIDs(strings.NewReader(tt.text), "dev", 1001)
		if got != nil || err == nil || !strings.Contains(err.Error(), tt.want) {
			t.Errorf("ParseSubIDs(%q) = %v, %v, want an error with %q", tt.text, got, err, tt.want)
		}
	}
	// The longest line that counts has 1023 bytes.
	for _, tt := range []struct{ pad, want int }{{1023, 1}, {1024, 0}} {
		name := strings.Repeat("n", tt.pad-len(":5:5\n"))
		got, err := ParseSubIDs(strings.NewReader(name+":5:5\n"), name, 1)
		if err != nil || len(got) != tt.want {
			t.Errorf("line of %d bytes: %v, %v, want %d ranges", tt.pad, got, err, tt.want)
		}
	}
	broken := errors.New("broken")
	if _, err := ParseSubIDs(iotest.ErrReader(broken), "dev", 1); !errors.Is(err, broken) {
		t.Errorf("ParseSubIDs of a broken reader = %v", err)
	}
}

func FuzzParseSubIDs(f *testing.F) {
	f.Add(subuidText, "dev", uint32(1001))
	f.Add("dev:4294967290:5\n", "dev", uint32(4294967290))
	f.Fuzz(func(t *testing.T, text, name string, id uint32) {
		ranges, err := ParseSubIDs(strings.NewReader(text), name, id)
		if err != nil {
			if ranges != nil {
				t.Fatalf("ranges %v with error %v", ranges, err)
			}
			return
		}
		for _, r := range ranges {
			e := Map{{0, r.Start, r.Length}}
			if err := e.Validate(); err != nil {
				t.Fatal(err)
			}
		}
		if id != noID {
			checkRoot(t, id, ranges)
		}
	})
}

func TestReadSubIDs(t *testing.T) {
	dir := t.TempDir()
	file := filepath.Join(dir, "subuid")
	if got, err := readSubIDs(file, "dev", 1); got != nil || err != nil {
		t.Errorf("no file: %v, %v, want no ranges and no error", got, err)
	}
	if err := os.WriteFile(file, []byte("dev:4294967290:9\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	_, err := readSubIDs(file, "dev", 1)
	if err == nil || !strings.HasPrefix(err.Error(), "cannot read \""+file+"\": line 1: ") {
		t.Errorf("bad range: %v", err)
	}
	_, err = readSubIDs(dir, "dev", 1)
	if want := "cannot read \"" + dir + "\": is a directory"; err == nil || err.Error() != want {
		t.Errorf("directory: %v, want %s", err, want)
	}
}

func TestSubIDSource(t *testing.T) {
	for _, tt := range []struct{ text, want string }{
		{"", "files"},
		{"passwd: files\n", "files"},
		{"subid: files\n", "files"},
		{"passwd: sss\n  subid :\tsss  files # c\nsubid: other\n", "sss"},
		{"#subid: sss\nsubid: # none\n", "files"},
		{"subuid: sss\n", "files"},
	} {
		if got := subIDSource(strings.NewReader(tt.text)); got != tt.want {
			t.Errorf("subIDSource(%q) = %q, want %q", tt.text, got, tt.want)
		}
	}
}

func TestParseGetsubids(t *testing.T) {
	text := "Warning: x\n0: dev 100000 65536\n1: DOM\\a user 300000 5\n2: dev x y\n"
	got, err := parseGetsubids(strings.NewReader(text))
	if want := []SubRange{{100000, 65536}, {300000, 5}}; err != nil || !slices.Equal(got, want) {
		t.Errorf("parseGetsubids = %v, %v, want %v", got, err, want)
	}
	if got, err := parseGetsubids(strings.NewReader("0: dev 4294967295 1\n")); err == nil {
		t.Errorf("parseGetsubids past the last id = %v", got)
	}
}

func TestAskSubIDs(t *testing.T) {
	program := script(t, t.TempDir(), "getsubids", `
		case "$1 $2" in
		"dev ") echo "0: dev 100000 65536" ;;
		"-g dev") echo "0: dev 200000 5" ;;
		*) echo "Error fetching ranges" >&2; exit 1 ;;
		esac`)
	uids, gids, err := askSubIDs(program, "dev")
	if err != nil || !slices.Equal(uids, []SubRange{{100000, 65536}}) || !slices.Equal(gids, []SubRange{{200000, 5}}) {
		t.Errorf("askSubIDs(dev) = %v, %v, %v", uids, gids, err)
	}
	uids, gids, err = askSubIDs(program, "nobody")
	if err != nil || uids != nil || gids != nil {
		t.Errorf("askSubIDs(nobody) = %v, %v, %v, want none", uids, gids, err)
	}
	if _, _, err := askSubIDs(filepath.Join(t.TempDir(), "none"), "dev"); err == nil {
		t.Error("askSubIDs without the program: no error")
	}
}

func TestFindProgram(t *testing.T) {
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "data"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Mkdir(filepath.Join(dir, "folder"), 0o700); err != nil {
		t.Fatal(err)
	}
	want := script(t, dir, "program", "")
	t.Chdir(dir)
	if got, ok := findProgram("program", []string{"", ".", "/nonexistent", dir}); !ok || got != want {
		t.Errorf("findProgram = %q, %v, want %q", got, ok, want)
	}
	for _, name := range []string{"data", "folder", "absent"} {
		if got, ok := findProgram(name, []string{dir}); ok {
			t.Errorf("findProgram(%q) = %q, want none", name, got)
		}
	}
	if got, ok := findProgram("program", []string{".", ""}); ok {
		t.Errorf("findProgram in a relative directory = %q, want none", got)
	}
}

func TestRunProgram(t *testing.T) {
	dir := t.TempDir()
	ctx := context.Background()
	noise := script(t, dir, "noise", "head -c 200000 /dev/zero; exit 3")
	if out, err := runProgram(ctx, noise); len(out) != maxOutput || err == nil || err.Error() != "exit status 3" {
		t.Errorf("noise: %d bytes, %v, want %d and exit status 3", len(out), err, maxOutput)
	}
	env := script(t, dir, "env", `echo "$1 $LC_ALL $HOME $(pwd)"; cat`)
	if out, err := runProgram(ctx, env, "a b;c"); out != "a b;c C  /\n" || err != nil {
		t.Errorf("env: %q, %v", out, err)
	}
	ctx, cancel := context.WithTimeout(ctx, 50*time.Millisecond)
	defer cancel()
	start := time.Now()
	_, err := runProgram(ctx, script(t, dir, "slow", "exec sleep 60"))
	if err == nil || time.Since(start) > 10*time.Second {
		t.Errorf("slow: %v after %v, want it killed", err, time.Since(start))
	}
}

// script writes an executable file for sh(1) and returns its path.
func script(t *testing.T, dir, name, body string) string {
	t.Helper()
	path := filepath.Join(dir, name)
	if err := os.WriteFile(path, []byte("#!/bin/sh\n"+body+"\n"), 0o700); err != nil {
		t.Fatal(err)
	}
	return path
}
