package main

import (
	"os"
	"strings"

	"github.com/sbx-build/sbx/sandbox"
)

func main() {
	// Before anything else, because the kernel takes its time.
	begun := begin(os.Args)
	status := run(os.Args, begun)
	begun.Abandon()
	os.Exit(status)
}

// begin begins the sandbox of an ordinary run, if the command line looks like
// one. Nothing depends on the guess but the time it takes.
func begin(args []string) *sandbox.Begun {
	if len(args) < 3 || args[1] != "run" && args[1][:min(1, len(args[1]))] != "-" {
		return nil
	}
	for _, a := range args[1:] {
		if a == "--" {
			return sandbox.Begin()
		}
		// These make a sandbox that begins otherwise.
		for _, flag := range []string{"--root", "--net", "--tmp-size", "--help", "-h"} {
			if strings.HasPrefix(a, flag) {
				return nil
			}
		}
	}
	return nil
}

// run is main without the exit.
func run(args []string, begun *sandbox.Begun) int {
	r := newReport(os.Stderr)
	args, err := verb(args)
	if err != nil {
		return r.fail(err)
	}
	var status int
	if err := newApp(args, r, begun, &status).Run(args); err != nil {
		return r.fail(err)
	}
	return status
}
