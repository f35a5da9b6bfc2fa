package main

import (
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"runtime/debug"
	"slices"
	"strings"

	"github.com/urfave/cli/v2"
	"github.com/xrash/smetrics"

	"github.com/sbx-build/sbx/sandbox"
)

// verbs are the words that may stand first. Everything else that stands first
// is a flag of run, or a mistake.
var verbs = []string{"run", "plan", "why", "path", "status", "diff", "pull", "drop", "reset", "layer", "export", "import", "gc", "ps", "stop", "log", "doctor", "completion", "help"}

// verb puts "run" in front where the command line starts with a flag, and
// refuses a word that is none of ours: a command must follow `--`, so that a
// new verb never changes what an old command line means.
func verb(args []string) ([]string, error) {
	if len(args) < 2 {
		return nil, usagef("sbx -- make", "cannot run: no command is given")
	}
	switch first := args[1]; {
	case first == "--help" || first == "-h":
		return []string{args[0], "help"}, nil
	case first == "--version" || first == "-v":
		return []string{args[0], "version"}, nil
	case strings.HasPrefix(first, "-"):
		return append([]string{args[0], "run"}, args[1:]...), nil
	default:
		if first == "trash" && len(args) == 4 || first == "settle" && len(args) >= 8 || first == "version" {
			return args, nil
		}
		if first == "layer" {
			return layerVerb(args)
		}
		for _, v := range verbs {
			if first == v {
				return showEnv(args), nil
			}
		}
		if near := nearest(first, verbs); near != "" {
			return nil, usagef("sbx "+near+"   (or, to run the program: sbx -- "+shell(args[1:])+")", "cannot do %q: there is no such verb; the nearest is %q", first, near)
		}
		return nil, usagef("sbx -- "+shell(args[1:]), "cannot do %q: there is no such verb, and a command follows --", first)
	}
}

// showEnv gives the flag of `sbx plan --env` a name of its own: --env takes a
// value there too, because plan takes the flags of run, and is meant alone where
// no value follows.
func showEnv(args []string) []string {
	if args[1] != "plan" {
		return args
	}
	out := append([]string(nil), args...)
	for i, a := range out {
		if a == "--" {
			break
		}
		if a == "--env" && (i+1 == len(out) || strings.HasPrefix(out[i+1], "-")) {
			out[i] = "--show-env"
		}
	}
	return out
}

// nearest is the word that was probably meant, or "".
func nearest(word string, list []string) string {
	best, score := "", 0.85
	for _, w := range list {
		if s := smetrics.JaroWinkler(word, w, 0.7, 4); s > score {
			best, score = w, s
		}
	}
	return best
}

// shell quotes a command line for a shell.
func shell(args []string) string {
	words := make([]string, len(args))
	for i, a := range args {
		words[i] = a
		if a == "" || strings.Trim(a, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_-./=:,@%+") != "" {
			words[i] = "'" + strings.ReplaceAll(a, "'", `'\''`) + "'"
		}
	}
	return strings.Join(words, " ")
}

// newApp is the command line of one verb; making the flags of all takes longer
// than to parse a line. status is the exit status of what was done.
func newApp(args []string, o *sandbox.Options, r *report, begun *sandbox.Begun, status *int) *cli.App {
	c := command(args[1], o, r, begun, status)
	all := flagNames(c.Flags)
	c.Flags = onLine(c.Flags, args)
	c.HideHelp = true
	c.OnUsageError = func(c *cli.Context, err error, _ bool) error { return flagError(c, all, err) }
	return &cli.App{
		Name:            "sbx",
		HideHelp:        true,
		HideHelpCommand: true,
		HideVersion:     true,
		Writer:          os.Stdout,
		ErrWriter:       io.Discard,
		// A comma belongs to the value: --env A=1,2.
		DisableSliceFlagSeparator: true,
		ExitErrHandler:            func(*cli.Context, error) {},
		Commands:                  []*cli.Command{c},
	}
}

// onLine are the flags that the command line may name: cli runs regular
// expressions over every flag that it is given, which takes a third of a
// millisecond for all.
func onLine(flags []cli.Flag, args []string) []cli.Flag {
	line := strings.Join(args, "\x00")
	return slices.DeleteFunc(flags, func(f cli.Flag) bool { return !strings.Contains(line, "-"+flagName(f)) })
}

func flagNames(flags []cli.Flag) []string {
	names := make([]string, len(flags))
	for i, f := range flags {
		names[i] = flagName(f)
	}
	return names
}

func flagName(f cli.Flag) string {
	switch f := f.(type) {
	case *cli.GenericFlag:
		return f.Name
	case *cli.BoolFlag:
		return f.Name
	}
	return f.Names()[0]
}

// command is the table of verbs.
func command(verb string, o *sandbox.Options, r *report, begun *sandbox.Begun, status *int) *cli.Command {
	// open has a verb begin again where permissions that a build took from its
	// files do not matter.
	open := func(f func(*cli.Context) error) cli.ActionFunc {
		return readable(o, status, func(c *cli.Context) (*output, error) { return nil, f(c) })
	}
	// first is open, for a verb that changes something.
	first := func(f func(*cli.Context) error) cli.ActionFunc { return mapped(o, status, open(f)) }
	switch verb {
	case "run":
		return &cli.Command{Name: verb, Flags: append(runFlags(o), runOnlyFlags(o)...), Action: func(c *cli.Context) error {
			return runCommand(c.Args().Slice(), o, r, c.StringSlice("pull"), begun, status)
		}}
	case "plan":
		return &cli.Command{Name: verb, Flags: append(runFlags(o), planFlags()...), Action: func(c *cli.Context) error { return printPlan(c, o) }}
	case "why":
		return &cli.Command{Name: verb, Flags: runFlags(o), Action: func(c *cli.Context) error { return why(c, o) }}
	case "path":
		return &cli.Command{Name: verb, Flags: placeFlags(o), Action: func(c *cli.Context) error { return printPath(c, o) }}
	case "status":
		return &cli.Command{Name: verb, Flags: append(placeFlags(o), statusFlags()...), Action: readable(o, status, func(c *cli.Context) (*output, error) { return printStatus(c, o, r) })}
	case "diff":
		return &cli.Command{Name: verb, Flags: append(placeFlags(o), diffFlags()...), Action: readable(o, status, func(c *cli.Context) (*output, error) { return printDiff(c, o, r, status) })}
	case "pull":
		return &cli.Command{Name: verb, Flags: append(placeFlags(o), pullFlags()...), Action: first(func(c *cli.Context) error { return pull(c, o, r, status) })}
	case "drop":
		return &cli.Command{Name: verb, Flags: append(placeFlags(o), dropFlags()...), Action: first(func(c *cli.Context) error { return drop(c, o, r, status) })}
	case "layer list":
		return &cli.Command{Name: verb, Flags: layerListFlags(o), Action: func(c *cli.Context) error { return layerList(c, o, r) }}
	case "layer copy":
		return &cli.Command{Name: verb, Flags: placeOnly(o, "C", "source", "state"), Action: open(func(c *cli.Context) error { return layerCopy(c, o, r, status) })}
	case "layer rm":
		return &cli.Command{Name: verb, Flags: placeOnly(o, "C", "source", "state"), Action: func(c *cli.Context) error { return layerRemove(c, o, r) }}
	case "export":
		return &cli.Command{Name: verb, Flags: append(placeFlags(o), exportFlags()...), Action: func(c *cli.Context) error { return exportLayer(c, o, r, status) }}
	case "import":
		return &cli.Command{Name: verb, Flags: append(placeFlags(o), importFlags()...), Action: func(c *cli.Context) error { return importLayer(c, o, r) }}
	case "gc":
		return &cli.Command{Name: verb, Flags: gcFlags(o), Action: func(c *cli.Context) error { return gc(c, o, r) }}
	case "ps":
		return &cli.Command{Name: verb, Flags: psFlags(o), Action: func(c *cli.Context) error { return listRuns(c, o) }}
	case "stop":
		return &cli.Command{Name: verb, Flags: stopFlags(o), Action: func(c *cli.Context) error { return stopRuns(c, o, r) }}
	case "log":
		return &cli.Command{Name: verb, Flags: listFlags(o), Action: func(c *cli.Context) error { return showLog(c, o) }}
	case "reset":
		return &cli.Command{Name: verb, Flags: append(placeFlags(o), resetFlags()...), Action: func(c *cli.Context) error { return reset(c, o, r) }}
	case "doctor":
		return &cli.Command{Name: verb, Flags: doctorFlags(o), Action: func(c *cli.Context) error { return doctor(c, o, status) }}
	case "completion":
		return &cli.Command{Name: verb, Flags: placeFlags(o), Action: func(c *cli.Context) error { return completion(c, o) }}
	case "trash":
		return &cli.Command{Name: verb, Flags: placeFlags(o), Action: func(c *cli.Context) error { return emptyTrash(c, o) }}
	case "settle":
		return &cli.Command{Name: verb, Flags: append(placeFlags(o), &cli.BoolFlag{Name: "at-rest"}), Action: func(c *cli.Context) error { return settle(c, o) }}
	case "version":
		return &cli.Command{Name: verb, Action: func(*cli.Context) error { fmt.Println(version()); return nil }}
	}
	return &cli.Command{Name: "help", Action: func(c *cli.Context) error { return printHelp(c.Args().First()) }}
}

// flagError puts the flag package's words into ours.
func flagError(c *cli.Context, names []string, err error) error {
	var h interface{ Hint() string }
	if errors.As(err, &h) {
		return err
	}
	if errors.As(flagCause, &h) {
		return flagCause
	}
	if errors.Is(err, flag.ErrHelp) {
		word, _, _ := strings.Cut(c.Command.Name, " ")
		return printHelp(word)
	}
	text := err.Error()
	if name, ok := strings.CutPrefix(text, "flag provided but not defined: -"); ok {
		if near := nearest(name, names); near != "" {
			return usagef("sbx "+c.Command.Name+" "+dashes(near)+" …", "cannot use the flag %s: there is none; the nearest is %s", dashes(name), dashes(near))
		}
		return usagef("sbx help "+c.Command.Name, "cannot use the flag %s: there is none", dashes(name))
	}
	if name, ok := strings.CutPrefix(text, "flag needs an argument: -"); ok {
		return usagef("sbx help "+c.Command.Name, "cannot use the flag %s: its value is missing", dashes(strings.TrimPrefix(name, "-")))
	}
	if rest, ok := strings.CutPrefix(text, "invalid value "); ok {
		// invalid value "x" for flag -ro: cannot use the rule …
		if _, cause, ok := strings.Cut(rest, ": "); ok {
			return usagef("sbx help "+c.Command.Name, "%s", cause)
		}
	}
	return usagef("sbx help "+c.Command.Name, "cannot understand the command line: %s", text)
}

func dashes(name string) string {
	if len(name) == 1 {
		return "-" + name
	}
	return "--" + strings.TrimLeft(name, "-")
}

// version comes from the build: the module's version, or the commit.
func version() string {
	info, ok := debug.ReadBuildInfo()
	if !ok {
		return "sbx (unknown version)"
	}
	v := info.Main.Version
	for _, s := range info.Settings {
		if s.Key == "vcs.revision" && (v == "" || v == "(devel)") {
			v = s.Value
		}
	}
	return fmt.Sprintf("sbx %s %s", v, info.GoVersion)
}
