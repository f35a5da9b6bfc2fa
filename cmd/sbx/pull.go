package main

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"strings"

	"github.com/urfave/cli/v2"

	"github.com/sbx-build/sbx/sandbox"
	"github.com/sbx-build/sbx/sandbox/overlay"
)

func pullFlags() []cli.Flag {
	return []cli.Flag{
		&cli.BoolFlag{Name: "all", Usage: "pull everything, deletions too"},
		&cli.StringSliceFlag{Name: "include", Usage: "only what matches `GLOB`"},
		&cli.BoolFlag{Name: "keep", Usage: "the layer keeps its copies"},
		&cli.BoolFlag{Name: "dry-run", Usage: "print what would be pulled"},
		&cli.BoolFlag{Name: "unsafe", Usage: "pull what the guard refuses"},
	}
}

// pull is `sbx pull PATH…`.
func pull(c *cli.Context, o *sandbox.Options, r *report, status *int) error {
	paths := c.Args().Slice()
	if len(paths) == 0 && !c.Bool("all") {
		return usagef("sbx pull PATH…   (or sbx pull --all)", "cannot pull: no path is given")
	}
	if err := flagsFirst("pull", paths, pullFlags()); err != nil {
		return err
	}
	if c.Bool("unsafe") && len(paths) == 0 {
		return usagef("sbx pull --unsafe PATH…", "cannot use --unsafe without paths: it is for what is named")
	}
	return pullPaths(o, r, status, sandbox.PullRequest{
		Request: sandbox.Request{Paths: paths, All: c.Bool("all"), Include: c.StringSlice("include")},
		Unsafe:  c.Bool("unsafe"), Keep: c.Bool("keep"), DryRun: c.Bool("dry-run"),
		Wanted: o.Getenv(wantedName) != "",
	})
}

// pullPaths pulls, and says what became of it.
func pullPaths(o *sandbox.Options, r *report, status *int, q sandbox.PullRequest) error {
	s, err := sandbox.Open(*o)
	if err != nil {
		return err
	}
	if mayRead(o) {
		// Halfway through, what has been pulled would be nothing to pull any more.
		look, closed := q, error(nil)
		look.DryRun, look.Report = true, func(_ sandbox.Pair, out overlay.Outcome) {
			if out.Closed {
				closed = out.Err
			}
		}
		if _, err := s.Pull(look); err == nil && closed != nil {
			return closed
		}
	}
	p := &pulling{session: s, report: r, dry: q.DryRun}
	meter := newMeter(r, "pulled")
	q.Report, q.Progress = p.outcome, meter.show
	unmet, err := s.Pull(q)
	meter.end()
	if err == nil && p.closed != nil && mayRead(o) {
		return p.closed // once more, with permissions
	}
	for _, line := range p.lines {
		r.line("%s", line)
	}
	if err != nil {
		return err
	}
	p.end(unmet, status)
	return nil
}

// pulling collects what becomes of a pull.
type pulling struct {
	session *sandbox.Session
	report  *report
	dry     bool

	done, bytes, bad int64
	lines            []string
	refused          []string // what --unsafe would bring
	unnamed          []string
	closed           error
}

func (p *pulling) outcome(pair sandbox.Pair, out overlay.Outcome) {
	name := (&picked{Pair: pair}).shown(p.session.Policy.Dir, out.Change.Path)
	for _, text := range out.Say {
		if out.Done() {
			p.lines = append(p.lines, fmt.Sprintf("%s: %s", name, text))
		}
	}
	switch {
	case out.Err != nil:
		p.bad++
		p.lines = append(p.lines, out.Err.Error())
		if out.Closed {
			p.closed = out.Err
		}
	case len(out.Refused) > 0:
		p.bad++
		p.lines = append(p.lines, fmt.Sprintf("not pulled: %s: %s", name, strings.Join(out.Refused, "; ")))
		if !out.Never {
			p.refused = append(p.refused, name)
		}
	case out.Unnamed:
		p.unnamed = append(p.unnamed, name)
		p.lines = append(p.lines, fmt.Sprintf("not pulled: %s: the layer has deleted it, and it was not named by its own path", name))
	default:
		p.done++
		p.bytes += out.Change.Upper.Size
		if p.dry {
			if out.Change.IsDir() {
				name += "/"
			}
			fmt.Printf("%c  %s\n", out.Change.Kind.Letter(), printable(name))
		}
	}
}

// end says what was done, and what to do about what was not.
func (p *pulling) end(unmet sandbox.Unmet, status *int) {
	for _, path := range unmet.Same {
		p.report.line("nothing to pull: the layer does not change %q", path)
	}
	for _, path := range unmet.Nothing {
		p.bad++
		p.report.line("cannot pull %q: neither the layer nor the host has it", path)
	}
	flag := p.session.Layer.Flag()
	if len(p.unnamed) > 0 {
		p.report.hint("sbx pull" + flag + " " + few(p.unnamed) + "   (deletes it on the host)")
	}
	if len(p.refused) > 0 {
		p.report.hint("sbx diff" + flag + " " + few(p.refused) + "\nsbx pull --unsafe" + flag + " " + few(p.refused) + "   (if that is wanted)")
	}
	switch {
	case p.dry && p.done > 0:
		p.report.line("would pull %s", count(p.done, "change", "changes"))
	case p.done > 0:
		p.report.line("pulled %s", count(p.done, "change", "changes"))
	case p.bad == 0 && len(unmet.Same)+len(p.unnamed) == 0:
		p.report.line("nothing to pull from the layer %q", p.session.Layer.Name)
	}
	if p.bad > 0 {
		*status = exitPartly
	}
}

// few are the first of some paths, as a shell reads them.
func few(paths []string) string {
	if len(paths) > 5 {
		return shell(paths[:5]) + " …"
	}
	return shell(paths)
}

// flagsFirst refuses a flag behind a path, which would be taken for one.
func flagsFirst(verb string, paths []string, flags []cli.Flag) error {
	if last := os.Args[max(1, len(os.Args)-len(paths)-1)]; last == "--" {
		return nil
	}
	for i, p := range paths {
		for _, f := range flags {
			if i > 0 && (p == dashes(flagName(f)) || strings.HasPrefix(p, dashes(flagName(f))+"=")) {
				return usagef("sbx "+verb+" "+p+" "+shell(paths[:i]), "cannot use %s behind a path: flags come first", p)
			}
		}
	}
	return nil
}

// mayRead says whether to try again, with permissions that a build cannot take.
func mayRead(o *sandbox.Options) bool {
	_, _, again := resumed(o.Getenv)
	return !again && !capable() && os.Geteuid() != 0
}

func dropFlags() []cli.Flag {
	return []cli.Flag{
		&cli.BoolFlag{Name: "all", Usage: "drop everything"},
		&cli.BoolFlag{Name: "shadowed", Usage: "drop what the host has changed since"},
	}
}

// drop is `sbx drop PATH…`.
func drop(c *cli.Context, o *sandbox.Options, r *report, status *int) error {
	paths := c.Args().Slice()
	all, shadowed := c.Bool("all"), c.Bool("shadowed")
	if len(paths) == 0 && !all && !shadowed {
		return usagef("sbx drop PATH…   (or sbx drop --shadowed)", "cannot drop: no path is given")
	}
	if err := flagsFirst("drop", paths, dropFlags()); err != nil {
		return err
	}
	s, err := sandbox.Open(*o)
	if err != nil {
		return err
	}
	var done, bad int64
	var everything bool
	var closed error
	var lines []string
	unmet, err := s.Drop(sandbox.DropRequest{
		Request:  sandbox.Request{Paths: paths, All: all || shadowed && len(paths) == 0},
		Shadowed: shadowed,
		Report: func(p sandbox.Pair, path string, err error) {
			if err == nil {
				done++
				everything = everything || path == ""
				return
			}
			bad++
			lines = append(lines, err.Error())
			if errors.Is(err, fs.ErrPermission) {
				closed = err
			}
		},
	})
	if err == nil && closed != nil && mayRead(o) {
		return closed
	}
	for _, line := range lines {
		r.line("%s", line)
	}
	if err != nil {
		return err
	}
	for _, path := range unmet.Same {
		r.line("nothing to drop: the layer does not change %q", path)
	}
	for _, path := range unmet.Nothing {
		bad++
		r.line("cannot drop %q: neither the layer nor the host has it", path)
	}
	switch {
	case everything && len(paths) == 0 && bad == 0:
		r.line("dropped all that the layer %q changed: the host's version shows again", s.Layer.Name)
	case done > 0:
		r.line("dropped %s: the host's version shows again", count(done, "path", "paths"))
	case bad == 0 && len(unmet.Same) == 0:
		r.line("nothing to drop in the layer %q", s.Layer.Name)
	}
	if bad > 0 {
		*status = exitPartly
	}
	return nil
}
