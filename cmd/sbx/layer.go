package main

import (
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"

	"github.com/urfave/cli/v2"

	"github.com/sbx-build/sbx/sandbox"
	"github.com/sbx-build/sbx/sandbox/policy"
	"github.com/sbx-build/sbx/sandbox/state"
)

// printPath is `sbx path [FILE]`: where the layer's version of a file is.
func printPath(c *cli.Context, o *sandbox.Options) error {
	if c.Args().Len() > 1 {
		return usagef("sbx path FILE", "cannot print the path: one file at a time")
	}
	s, err := sandbox.Open(*o)
	if err != nil {
		return err
	}
	if c.Args().Len() == 0 {
		fmt.Println(s.Layer.Upper())
		return nil
	}
	file := c.Args().First()
	rel, err := filepath.Rel(s.Tree.Root, resolved(policy.Absolute(file, s.Policy.Dir, s.Policy.Home)))
	if err != nil || rel == ".." || strings.HasPrefix(rel, "../") {
		return usagef("sbx path FILE", "cannot find %q in the layer: it is not below the source tree %q", file, s.Tree.Root)
	}
	if err := s.AtRest("take a file out of"); err != nil {
		return usePull{err, s.Layer.Flag(), file}
	}
	path, err := s.Layer.Find(rel)
	if err != nil {
		return err
	}
	fmt.Println(path)
	return nil
}

// usePull is a path that must not be used now: nobody may change an upper directory
// that is mounted.
type usePull struct {
	error
	flag, file string
}

func (e usePull) Hint() string { return "sbx pull" + e.flag + " " + shell([]string{e.file}) }

// resolved makes the directory of a path real, not its last name: that may be
// missing on the host, or be a symlink of the build's.
func resolved(path string) string {
	dir, name := filepath.Split(filepath.Clean(path))
	for d, rest := filepath.Clean(dir), name; ; d, rest = filepath.Dir(d), filepath.Join(filepath.Base(d), rest) {
		if real, err := filepath.EvalSymlinks(d); err == nil {
			return filepath.Join(real, rest)
		}
		if d == "/" {
			return filepath.Clean(path)
		}
	}
}

func resetFlags() []cli.Flag {
	return []cli.Flag{
		&cli.BoolFlag{Name: "home", Usage: "wipe the layer's private home instead"},
		&cli.BoolFlag{Name: "all", Usage: "wipe both, and the layer itself"},
		&cli.BoolFlag{Name: "force", Usage: "end the runs that have the layer first"},
	}
}

// reset is `sbx reset`.
func reset(c *cli.Context, o *sandbox.Options, r *report) error {
	if c.Args().Present() {
		return usagef("sbx reset", "cannot reset %q: reset takes no path; it wipes the layer", c.Args().First())
	}
	s, err := sandbox.Open(*o)
	if err != nil {
		return err
	}
	w := state.Wipe{Files: !c.Bool("home") || c.Bool("all"), Home: c.Bool("home") || c.Bool("all")}
	if !s.Layer.Exists() {
		r.line("there is nothing to reset: the layer %q of %q does not exist", s.Layer.Name, s.Tree.Root)
		return nil
	}
	if err := s.Reset(w, c.Bool("force")); err != nil {
		return err
	}
	startEmptyTrash(s.Store)
	switch {
	case w.Files && w.Home:
		r.line("wiped the layer %q of %q, its home included", s.Layer.Name, s.Tree.Root)
	case w.Home:
		r.line("wiped the home of the layer %q of %q", s.Layer.Name, s.Tree.Root)
	default:
		r.line("wiped the layer %q of %q; its home is kept (--home wipes it, --all both)", s.Layer.Name, s.Tree.Root)
	}
	return nil
}

// startEmptyTrash deletes what was renamed away, behind the prompt's back.
func startEmptyTrash(s state.Store) {
	cmd := exec.Command("/proc/self/exe", "trash", "--state", s.Root)
	cmd.Dir = "/"
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	if err := cmd.Start(); err == nil {
		cmd.Process.Release()
	}
}

// emptyTrash is the hidden verb that does it.
func emptyTrash(c *cli.Context, o *sandbox.Options) error {
	if c.Args().Present() {
		return usagef("sbx trash", "cannot empty %q: trash takes no argument", c.Args().First())
	}
	store, err := state.Find(o.State, o.Dir, o.Getenv)
	if err != nil {
		return err
	}
	return sandbox.EmptyTrash(store)
}

// settle is the hidden verb by which a run settles its layer in the layer's id map. The
// run has the lock.
func settle(c *cli.Context, o *sandbox.Options) error {
	if !capable() || c.Args().Present() {
		return usagef("sbx status", "cannot settle the layer: that is for a run to do, at its end")
	}
	s, err := sandbox.Open(*o)
	if err != nil {
		return err
	}
	found, err := s.Settle(c.Bool("at-rest"))
	if err != nil {
		return err
	}
	return json.NewEncoder(os.Stdout).Encode(found)
}
