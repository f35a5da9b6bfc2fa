package main

import (
	"bufio"
	"fmt"
	"os"

	"github.com/urfave/cli/v2"

	"github.com/sbx-build/sbx/sandbox"
	"github.com/sbx-build/sbx/sandbox/overlay"
	"github.com/sbx-build/sbx/sandbox/state"
)

func exportFlags() []cli.Flag {
	return []cli.Flag{&cli.BoolFlag{Name: "home", Usage: "the private home too"}}
}

// exportLayer is `sbx export >FILE`.
func exportLayer(c *cli.Context, o *sandbox.Options, r *report, status *int) error {
	if c.Args().Present() {
		return usagef("sbx export >"+shell([]string{c.Args().First()}), "cannot export to %q: the archive goes to standard output", c.Args().First())
	}
	if isTerminal(os.Stdout) {
		return usagef("sbx export >layer.tar.zst", "cannot export to a terminal: the archive goes to standard output")
	}
	s, err := sandbox.Open(*o)
	if err != nil {
		return err
	}
	if !s.Layer.Exists() {
		return noLayer(s)
	}
	if mayRead(o) || s.Mapped() && !capable() {
		// Of an archive that has begun nothing can be taken back.
		code, err := again(*o, nil)
		if err == nil || s.Mapped() {
			*status = code
			return err
		}
	}
	m := newMeter(r, "exported")
	out := bufio.NewWriterSize(os.Stdout, 1<<20)
	err = s.Export(out, c.Bool("home"), overlay.ExportOptions{
		Skip: func(path, why string, lost bool) {
			r.line("not exported: %s: %s", path, why)
			if lost {
				*status = exitPartly
			}
		},
		Progress: m.show,
	})
	m.end()
	if err == nil {
		if err = out.Flush(); err != nil {
			err = fmt.Errorf("cannot write the archive: %w", err)
		}
	}
	return err
}

func importFlags() []cli.Flag {
	return []cli.Flag{&cli.BoolFlag{Name: "force", Usage: "replace a layer that has files"}}
}

// importLayer is `sbx import <FILE`.
func importLayer(c *cli.Context, o *sandbox.Options, r *report) error {
	if c.Args().Present() {
		return usagef("sbx import <"+shell([]string{c.Args().First()}), "cannot import from %q: the archive comes from standard input", c.Args().First())
	}
	if isTerminal(os.Stdin) {
		return usagef("sbx import <layer.tar.zst", "cannot import from a terminal: the archive comes from standard input")
	}
	s, err := sandbox.Open(*o)
	if err != nil {
		return err
	}
	m := newMeter(r, "imported")
	err = s.Import(os.Stdin, c.Bool("force"), m.show)
	m.end()
	if e, ok := err.(*state.ExistsError); ok {
		e.Fix = "sbx import --layer OTHER <FILE   (or --force, which replaces it)"
	}
	if err == nil {
		r.line("imported the layer %q of %q", s.Layer.Name, s.Tree.Root)
	}
	return err
}
