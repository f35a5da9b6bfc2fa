package main

import (
	"fmt"
	"strconv"
	"strings"

	"github.com/urfave/cli/v2"
	"golang.org/x/sys/unix"

	"github.com/sbx-build/sbx/sandbox"
	"github.com/sbx-build/sbx/sandbox/policy"
)

// runFlags are the flags of run, plan and why. Those that may be repeated
// append to one list in the order of the command line. None has Aliases: cli
// would set the flag a second time with its String (cli v2, Context.Set).
func runFlags(o *sandbox.Options) []cli.Flag {
	set := func(name, usage string, f func(string) error) cli.Flag {
		return &cli.GenericFlag{Name: name, Usage: usage, Value: value(f)}
	}
	rule := func(name string, access policy.Access, device bool, usage string) cli.Flag {
		return set(name, usage, func(s string) error {
			r, err := policy.ParseRule(access, device, s, o.Dir, o.Home())
			if err == nil {
				o.Rules = append(o.Rules, r)
			}
			return err
		})
	}
	publish := func(name string) cli.Flag {
		return set(name, "lead the host's port `[ADDR:]HOST` to the sandbox's port SANDBOX", func(s string) error {
			p, err := policy.ParsePublish(s)
			if err == nil {
				o.Publish = append(o.Publish, p)
			}
			return err
		})
	}
	return append(placeFlags(o),
		&cli.BoolFlag{Name: "rm", Usage: "use a layer of this run alone, and delete it", Destination: &o.Throwaway},
		rule("ro", policy.ReadOnly, false, "show `SRC[:DST]` read-only"),
		rule("rw", policy.ReadWrite, false, "show `SRC[:DST]`; writes go to the host"),
		rule("cow", policy.CopyOnWrite, false, "show the directory `SRC[:DST]`; writes go to the layer"),
		rule("hide", policy.Hidden, false, "put an empty file or directory in the place of `PATH`"),
		rule("dev", policy.ReadOnly, true, "show the device `PATH`"),
		set("with", "join the directory `DIR[:DST]` to the source tree", func(s string) error {
			w, err := policy.ParseWith(s, o.Dir, o.Home())
			if err == nil {
				o.With = append(o.With, w)
			}
			return err
		}),
		set("env", "pass `NAME`, NAME=VALUE or a pattern", func(s string) error {
			e, err := policy.ParseEnv(s)
			if err == nil {
				o.Env = append(o.Env, e)
			}
			return err
		}),
		set("net", "the network: internet, none or host", func(s string) (err error) {
			o.Network, err = policy.ParseNetwork(s)
			return err
		}),
		set("net-allow", "allow connections to `NAME[:PORT]`, *.SUFFIX, CIDR or localhost:PORT", func(s string) error {
			r, err := policy.ParseNetAllow(s)
			if err == nil {
				o.NetAllow = append(o.NetAllow, r)
			}
			return err
		}),
		publish("publish"),
		publish("p"),
		&cli.BoolFlag{Name: "root", Usage: "be uid 0 inside", Destination: &o.Root},
		&cli.BoolFlag{Name: "allow-userns", Usage: "allow user namespaces inside", Destination: &o.AllowUserns},
		set("tmp-size", "limit /tmp, /var, /run and /dev/shm together", func(s string) (err error) {
			o.TmpSize, err = parseSize(s)
			return err
		}),
		set("max-processes", "limit the processes inside", func(s string) (err error) {
			o.Processes, err = strconv.ParseUint(s, 10, 32)
			if err != nil || o.Processes == 0 {
				return fmt.Errorf("cannot use %q as a number of processes", s)
			}
			return nil
		}),
	)
}

// placeFlags say which tree and which layer.
func placeFlags(o *sandbox.Options) []cli.Flag {
	set := func(name, usage string, f func(string) error) cli.Flag {
		return &cli.GenericFlag{Name: name, Usage: usage, Value: value(f)}
	}
	return []cli.Flag{
		set("C", "run in `DIR`", func(s string) error {
			if err := unix.Chdir(policy.Absolute(s, o.Dir, o.Home())); err != nil {
				return &dirError{s, err}
			}
			dir, err := unix.Getwd()
			o.Dir = dir
			return err
		}),
		set("source", "the source tree is `DIR`", func(s string) error {
			o.Source = policy.Absolute(s, o.Dir, o.Home())
			return nil
		}),
		set("state", "keep layers in `DIR`", func(s string) error {
			o.State = policy.Absolute(s, o.Dir, o.Home())
			return nil
		}),
		set("layer", "use the layer `NAME`", func(s string) error {
			o.Layer = s
			if err := policy.CheckLayer(s); err != nil {
				return usagef("sbx --layer NAME -- COMMAND", "%s", err)
			}
			return nil
		}),
	}
}

// value is a flag whose value a function takes.
type value func(string) error

// flagCause is the last error of a flag's value: package flag keeps its text
// alone, and the hint would be lost.
var flagCause error

func (v value) Set(s string) error {
	flagCause = v(s)
	return flagCause
}
func (v value) String() string { return "" }

// parseSize reads a number of bytes with K, M, G or T.
func parseSize(s string) (int64, error) {
	unit := int64(1)
	digits := s
	if i := strings.IndexAny(s, "KkMmGgTt"); i == len(s)-1 && i > 0 {
		digits = s[:i]
		unit = map[byte]int64{'k': 1 << 10, 'm': 1 << 20, 'g': 1 << 30, 't': 1 << 40}[s[i]|0x20]
	}
	n, err := strconv.ParseInt(digits, 10, 64)
	if err != nil || n <= 0 || n > (1<<62)/unit {
		return 0, fmt.Errorf("cannot use %q as a size: write a number with K, M, G or T", s)
	}
	return n * unit, nil
}

// dirError is a -C that cannot be entered.
type dirError struct {
	dir string
	err error
}

func (e *dirError) Error() string { return fmt.Sprintf("cannot enter %q: %v", e.dir, e.err) }
func (e *dirError) Hint() string  { return "mkdir -p " + shell([]string{e.dir}) }
func (e *dirError) Unwrap() error { return e.err }
