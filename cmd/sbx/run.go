package main

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"slices"

	"github.com/urfave/cli/v2"

	"github.com/sbx-build/sbx/sandbox"
	"github.com/sbx-build/sbx/sandbox/policy"
)

// runCommand is `sbx run`.
func runCommand(args []string, o *sandbox.Options, r *report, pulls []string, begun *sandbox.Begun, status *int) error {
	o.Args = args
	if len(o.Args) == 0 {
		return usagef("sbx -- make", "cannot run: no command is given")
	}
	if v := o.Args[0]; os.Args[1] != "run" && !slices.Contains(os.Args, "--") && slices.Contains(verbs, v) {
		return usagef("sbx "+v+" [FLAG…]   (or, to run the program: sbx … -- "+v+")", "cannot tell whether %q is a verb or the command: verbs come first, and a command follows --", v)
	}
	if o.Join != "" && (o.Throwaway || o.Layer != "" || o.Network != policy.Internet || len(o.Rules)+len(o.With)+len(o.NetAllow)+len(o.Publish) > 0 || len(pulls) > 0) {
		return usagef("sbx run --join "+o.Join+" -- "+shell(o.Args), "cannot use rules, layers, --net or --pull together with --join: the command has what the run has")
	}
	if o.Network == policy.Host && len(o.NetAllow)+len(o.Publish) > 0 {
		return usagef("sbx --net host -- "+shell(o.Args), "cannot use --net-allow or --publish together with --net host: the command has all of the host's network, and its ports")
	}
	for _, p := range o.Publish {
		if slices.ContainsFunc(o.NetAllow, func(r policy.NetRule) bool { return r.Localhost && r.Port == p.Sandbox }) {
			return usagef(fmt.Sprintf("sbx -p %d -- %s", p.Sandbox, shell(o.Args)), "cannot publish port %d: inside, --net-allow localhost:%d makes it the host's own", p.Sandbox, p.Sandbox)
		}
	}
	if o.Throwaway && len(pulls) > 0 {
		return usagef("sbx --pull "+shell(pulls[:1])+" -- "+shell(o.Args), "cannot use --pull together with --rm: nothing of the layer is left to pull")
	}
	if o.Throwaway && o.Layer != "" {
		return usagef("sbx --rm -- "+shell(o.Args), "cannot use --rm together with --layer: a throw-away layer has no name")
	}
	end, err := begun.Run(*o)
	if err != nil {
		return err
	}
	end.Reraise()
	*status = end.ExitCode()
	switch {
	case len(pulls) > 0 && *status == 0:
		if s, err := sandbox.Open(*o); err == nil && s.Mapped() && pullWithin(o, pulls, status) {
			return nil
		}
		err := pullPaths(o, r, status, sandbox.PullRequest{Request: sandbox.Request{Paths: pulls}, Wanted: true})
		if errors.Is(err, fs.ErrPermission) && pullWithin(o, pulls, status) {
			return nil
		}
		return err
	case len(end.Manifests) > 0:
		names := shell(end.Manifests)
		r.line("changed in the layer: %s; sbx pull%s %s", names, end.LayerFlag, names)
	}
	return nil
}

func planFlags() []cli.Flag {
	return []cli.Flag{
		&cli.BoolFlag{Name: "show-env"}, // typed as --env, see showEnv
		&cli.BoolFlag{Name: "seccomp"},
	}
}

// printPlan is `sbx plan`.
func printPlan(c *cli.Context, o *sandbox.Options) error {
	o.Args = c.Args().Slice()
	if len(o.Args) == 0 {
		o.Args = []string{"true"}
	}
	if c.Bool("seccomp") {
		filter, err := sandbox.Filter(*o)
		if err == nil {
			fmt.Print(filter)
		}
		return err
	}
	if c.Bool("show-env") {
		s, err := sandbox.Open(*o)
		if err == nil {
			printEnv(s.Vars)
		}
		return err
	}
	_, p, err := sandbox.Prepare(*o)
	if err == nil {
		fmt.Print(p)
	}
	return err
}

// printEnv lists what the command gets, with values, and then what it does not
// get, without.
func printEnv(vars []policy.Var) {
	for _, v := range vars {
		if v.Pass {
			fmt.Printf("pass  %s=%s  (%s)\n", v.Name, printable(v.Value), v.Why)
		}
	}
	for _, v := range vars {
		if !v.Pass {
			fmt.Printf("drop  %s  (%s)\n", printable(v.Name), v.Why)
		}
	}
}
