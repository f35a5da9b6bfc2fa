package main

import (
	"os"

	"golang.org/x/sys/unix"

	"github.com/sbx-build/sbx/sandbox"
	"github.com/sbx-build/sbx/sandbox/policy"
)

func main() {
	// Before anything else, because the kernel takes its time.
	begun := sandbox.Begin()
	status := run(os.Args, begun)
	begun.Abandon()
	os.Exit(status)
}

// run is main without the exit.
func run(args []string, begun *sandbox.Begun) int {
	r := newReport(os.Stderr)
	args, err := verb(args)
	if err != nil {
		return r.fail(err)
	}
	o := options(r)
	var status int
	if len(args) > 2 && args[1] == "run" && args[2] == "--" {
		// No flag, nothing to parse.
		err = runCommand(args[3:], o, r, nil, begun, &status)
	} else {
		err = newApp(args, o, r, begun, &status).Run(args)
	}
	if err != nil {
		return r.fail(err)
	}
	return status
}

// options are those that no flag sets.
func options(r *report) *sandbox.Options {
	// getcwd(2), not $PWD: the real path.
	dir, _ := unix.Getwd()
	return &sandbox.Options{Dir: dir, Environ: os.Environ(), Network: policy.Internet,
		Warn: func(line string) { r.line("warning: %s", line) }, Say: func(line string) { r.line("%s", line) }}
}
