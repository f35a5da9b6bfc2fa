package main

import (
	"fmt"
	"io"
	"os"
	"strings"

	"github.com/urfave/cli/v2"
	"golang.org/x/sys/unix"

	"github.com/sbx-build/sbx/sandbox"
	"github.com/sbx-build/sbx/sandbox/host"
)

// doctorFlags are --json and those of placeFlags that say where: the doctor
// looks at the machine, and takes a source tree and a layer of its own.
func doctorFlags(o *sandbox.Options) []cli.Flag {
	flags := []cli.Flag{&cli.BoolFlag{Name: "json", Usage: "print the checks as JSON"}}
	for _, f := range placeFlags(o) {
		if name := f.Names()[0]; name == "C" || name == "state" {
			flags = append(flags, f)
		}
	}
	return flags
}

// doctor is `sbx doctor`. Its output is the result and goes to stdout; the exit
// status is 0 only if a run works.
func doctor(c *cli.Context, o *sandbox.Options, status *int) error {
	if c.Args().Present() {
		return usagef("sbx doctor", "cannot examine %q: doctor takes no argument", c.Args().First())
	}
	d := sandbox.Doctor(*o)
	if !d.OK {
		*status = exitPartly
	}
	var err error
	if c.Bool("json") {
		// {"version":1,"ok":bool,"checks":[{"name":"…","status":"ok|info|warn|fail","detail":"…","fix":"…"}]}
		err = printJSON(os.Stdout, d)
	} else {
		err = writeChecks(os.Stdout, d, coloured(os.Stdout, o.Getenv))
	}
	if err != nil {
		return fmt.Errorf("cannot print the checks: %w", err)
	}
	return nil
}

// writeChecks prints a line for each check, and what repairs it below, indented:
// commands to paste, so they are not broken or marked.
func writeChecks(w io.Writer, d host.Diagnosis, colour bool) error {
	width := 0
	for _, c := range d.Checks {
		width = max(width, len(c.Name))
	}
	var b strings.Builder
	for _, c := range d.Checks {
		fmt.Fprintf(&b, "%s %-*s  %s\n", word(c.Status, colour), width, c.Name, printable(c.Detail))
		if c.Fix == "" {
			continue
		}
		for line := range strings.SplitSeq(c.Fix, "\n") {
			fmt.Fprintf(&b, "        %s\n", printable(line))
		}
	}
	_, err := io.WriteString(w, b.String())
	return err
}

// word is the status in a column of four, and loud if it is bad.
func word(s host.Status, colour bool) string {
	text, code := s.String(), "32" // green
	switch s {
	case host.Fail:
		text, code = "FAIL", "1;31" // bold red
	case host.Warn:
		code = "33" // yellow
	case host.Info:
		code = ""
	}
	text = fmt.Sprintf("%-4s", text)
	if !colour || code == "" {
		return text
	}
	return "\x1b[" + code + "m" + text + "\x1b[0m"
}

// coloured says that a file is a terminal that shows colours and whose user
// wants them: NO_COLOR, if it is set and not empty, says no.
func coloured(f *os.File, getenv func(string) string) bool {
	if getenv("NO_COLOR") != "" || getenv("TERM") == "dumb" || getenv("TERM") == "" {
		return false
	}
	_, err := unix.IoctlGetTermios(int(f.Fd()), unix.TCGETS)
	return err == nil
}
