package main

import (
	"os"
	"runtime"
)

// The sandbox is tied to the thread that made it (PR_SET_PDEATHSIG): it must be
// the main thread, which ends with the process and not before.
func init() { runtime.LockOSThread() }

func main() {
	os.Exit(run(os.Args))
}

// run is main without the exit.
func run(args []string) int {
	r := newReport(os.Stderr)
	args, err := verb(args)
	if err != nil {
		return r.fail(err)
	}
	var status int
	if err := newApp(r, &status).Run(args); err != nil {
		return r.fail(err)
	}
	return status
}
