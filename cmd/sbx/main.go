package main

import "os"

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
