package main

import (
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/sbx-build/sbx/sandbox/host"
)

var checks = host.Diagnosis{Version: 1, Checks: []host.Check{
	{Name: "kernel", Status: host.OK, Detail: "Linux 6.18"},
	{Name: "user_namespaces", Status: host.Fail, Detail: "none\x1b[2J", Fix: "echo '<a>' | sudo tee b && c\nsecond"},
	{Name: "tun", Status: host.Info, Detail: "not there"},
	{Name: "path", Status: host.Warn, Detail: "another"},
}}

// TestWriteChecks: aligned, the fix indented and otherwise as it must be pasted,
// and nothing in it that drives a terminal.
func TestWriteChecks(t *testing.T) {
	const want = `ok   kernel           Linux 6.18
FAIL user_namespaces  none\x1b[2J
        echo '<a>' | sudo tee b && c
        second
info tun              not there
warn path             another
`
	var b strings.Builder
	if err := writeChecks(&b, checks, false); err != nil || b.String() != want {
		t.Errorf("the checks are (%v)\n%s\nwant\n%s", err, b.String(), want)
	}
	b.Reset()
	if err := writeChecks(&b, checks, true); err != nil {
		t.Fatal(err)
	}
	for _, colour := range []string{"\x1b[32mok  \x1b[0m kernel", "\x1b[1;31mFAIL\x1b[0m user", "\ninfo tun", "\x1b[33mwarn\x1b[0m path"} {
		if !strings.Contains(b.String(), colour) {
			t.Errorf("%q is not in\n%q", colour, b.String())
		}
	}
}

func TestWriteJSON(t *testing.T) {
	var b strings.Builder
	if err := printJSON(&b, checks); err != nil {
		t.Fatal(err)
	}
	var got struct {
		Version int
		OK      bool
		Checks  []map[string]string
	}
	if err := json.Unmarshal([]byte(b.String()), &got); err != nil {
		t.Fatal(err)
	}
	if got.Version != 1 || len(got.Checks) != 4 || got.Checks[1]["status"] != "fail" || got.Checks[1]["fix"] != checks.Checks[1].Fix {
		t.Errorf("the form is\n%s", b.String())
	}
	if !strings.Contains(b.String(), "'<a>' | sudo tee b && c") {
		t.Errorf("a fix is escaped more than JSON wants:\n%s", b.String())
	}
}

func TestColoured(t *testing.T) {
	env := func(list ...string) func(string) string {
		return func(name string) string {
			for _, e := range list {
				if v, ok := strings.CutPrefix(e, name+"="); ok {
					return v
				}
			}
			return ""
		}
	}
	terminal, err := os.OpenFile("/dev/ptmx", os.O_RDWR, 0)
	if err != nil {
		t.Fatalf("cannot open a terminal: %v", err)
	}
	defer terminal.Close()
	file, err := os.Create(filepath.Join(t.TempDir(), "file"))
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	for _, test := range []struct {
		name string
		file *os.File
		env  func(string) string
		want bool
	}{
		{"a terminal", terminal, env("TERM=xterm"), true},
		{"a terminal, NO_COLOR empty", terminal, env("TERM=xterm", "NO_COLOR="), true},
		{"a terminal, NO_COLOR", terminal, env("TERM=xterm", "NO_COLOR=1"), false},
		{"a dumb terminal", terminal, env("TERM=dumb"), false},
		{"a terminal of no kind", terminal, env(), false},
		{"a file", file, env("TERM=xterm"), false},
	} {
		if got := coloured(test.file, test.env); got != test.want {
			t.Errorf("%s: coloured is %v", test.name, got)
		}
	}
}
