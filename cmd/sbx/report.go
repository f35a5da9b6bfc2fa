package main

import (
	"errors"
	"fmt"
	"io"
	"strings"
	"unicode"

	"golang.org/x/sys/unix"

	"github.com/sbx-build/sbx/sandbox"
)

// Exit statuses of sbx itself (sbx --help, "Exit status"). The command's own
// status is passed on as it is.
const (
	exitPartly  = 1   // other verbs: partly done
	exitUsage   = 2   // not understood
	exitFailed  = 125 // understood but not possible
	exitNotExec = 126 // found but not executable
	exitNoFile  = 127 // not found
)

// report is the only place that writes for people. Results go to stdout,
// everything else to stderr, each line with the prefix "sbx: ", lowercase and
// without a full stop.
type report struct{ w io.Writer }

func newReport(w io.Writer) *report { return &report{w: w} }

// line prints one line. What stands in it may come from a hostile tree.
func (r *report) line(format string, a ...any) {
	fmt.Fprintln(r.w, "sbx: "+printable(fmt.Sprintf(format, a...)))
}

func (r *report) hint(text string) {
	for line := range strings.SplitSeq(text, "\n") {
		r.line("hint: %s", line)
	}
}

// printable escapes what could drive a terminal, and bytes that are no UTF-8.
func printable(s string) string {
	clean := true
	for i := 0; i < len(s) && clean; i++ {
		clean = ' ' <= s[i] && s[i] < 0x7f
	}
	if clean {
		return s
	}
	clean = true
	for _, c := range s {
		if c == unicode.ReplacementChar || !unicode.IsPrint(c) {
			clean = false
			break
		}
	}
	if clean {
		return s
	}
	var b strings.Builder
	for len(s) > 0 {
		c, size := rune(s[0]), 1
		for _, c2 := range s {
			c, size = c2, len(string(c2))
			break
		}
		if c == unicode.ReplacementChar {
			size = 1
		}
		if c == unicode.ReplacementChar || !unicode.IsPrint(c) {
			q := fmt.Sprintf("%q", s[:size])
			b.WriteString(q[1 : len(q)-1])
		} else {
			b.WriteString(s[:size])
		}
		s = s[size:]
	}
	return b.String()
}

// usageError is a command line that was not understood.
type usageError struct {
	text string
	fix  string
}

func (e *usageError) Error() string { return e.text }
func (e *usageError) Hint() string  { return e.fix }

func usagef(fix, format string, a ...any) error {
	return &usageError{text: fmt.Sprintf(format, a...), fix: fix}
}

// fail prints an error with its hint and returns the exit status for it.
func (r *report) fail(err error) int {
	r.line("%s", err)
	var h interface{ Hint() string }
	if errors.As(err, &h) && h.Hint() != "" {
		r.hint(h.Hint())
	} else {
		for _, hint := range sandbox.Hints(err) {
			r.hint(hint)
		}
	}
	return exitStatus(err)
}

func exitStatus(err error) int {
	var usage *usageError
	var exec *sandbox.ExecError
	var rule *sandbox.RuleError
	switch {
	case errors.As(err, &usage), errors.As(err, &rule):
		return exitUsage
	case errors.As(err, &exec) && (exec.Errno == unix.ENOENT || exec.Errno == unix.ENOTDIR):
		return exitNoFile
	case errors.As(err, &exec):
		return exitNotExec
	}
	return exitFailed
}
