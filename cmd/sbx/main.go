package main

import (
	"fmt"
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
	if err := enoughFiles(); err != nil {
		return r.fail(err)
	}
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

// fewFiles is what a run opens at the same time, with some to spare for trees
// beside the tree. The Go runtime dies of its own need with less than ten.
const fewFiles = 64

func enoughFiles() error {
	var limit unix.Rlimit
	// The runtime has raised the soft limit to the hard one.
	if err := unix.Getrlimit(unix.RLIMIT_NOFILE, &limit); err != nil || limit.Cur >= fewFiles {
		return nil
	}
	return &limitError{limit.Cur}
}

// limitError is a limit of the shell's under which sbx cannot work.
type limitError struct{ files uint64 }

func (e *limitError) Error() string {
	return fmt.Sprintf("cannot work with at most %d open files: %d are needed", e.files, fewFiles)
}

func (e *limitError) Hint() string { return "sudo prlimit --pid $$ --nofile=1024:4096" }

// options are those that no flag sets.
func options(r *report) *sandbox.Options {
	// getcwd(2), not $PWD: the real path.
	dir, _ := unix.Getwd()
	return &sandbox.Options{Dir: dir, Environ: os.Environ(), Network: policy.Internet,
		Warn: func(line string) { r.line("warning: %s", line) }, Say: func(line string) { r.line("%s", line) }}
}
