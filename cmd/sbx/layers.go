package main

import (
	"fmt"
	"os"
	"slices"
	"time"

	"github.com/urfave/cli/v2"

	"github.com/sbx-build/sbx/sandbox"
	"github.com/sbx-build/sbx/sandbox/policy"
	"github.com/sbx-build/sbx/sandbox/state"
)

// layerVerbs are the words that follow "layer".
var layerVerbs = []string{"list", "copy", "rm"}

// layerVerb makes one verb of `sbx layer WORD`, so that flags may follow both.
func layerVerb(args []string) ([]string, error) {
	if len(args) > 2 {
		switch word := args[2]; {
		case slices.Contains(layerVerbs, word):
			return append([]string{args[0], "layer " + word}, args[3:]...), nil
		case word == "--help" || word == "-h":
			return []string{args[0], "help", "layer"}, nil
		default:
			if near := nearest(word, layerVerbs); near != "" {
				return nil, usagef("sbx layer "+near, "cannot do %q to a layer: the nearest is %q", word, near)
			}
			return nil, usagef("sbx help layer", "cannot do %q to a layer: it is list, copy or rm", word)
		}
	}
	return nil, usagef("sbx layer list", "cannot tell what to do with layers: it is list, copy or rm")
}

func layerListFlags(o *sandbox.Options) []cli.Flag {
	return append(placeOnly(o, "C", "state"), &cli.BoolFlag{Name: "json", Usage: "print JSON"})
}

// placeOnly are some of the flags of a place.
func placeOnly(o *sandbox.Options, names ...string) []cli.Flag {
	var list []cli.Flag
	for _, f := range placeFlags(o) {
		for _, n := range names {
			if flagName(f) == n {
				list = append(list, f)
			}
		}
	}
	return list
}

// layerJSON is a layer in `sbx layer list --json`.
type layerJSON struct {
	Name    string `json:"name"`
	Tree    string `json:"tree"`
	Gone    bool   `json:"tree_gone"`
	Files   int64  `json:"files"`
	Size    int64  `json:"size"`
	Partial bool   `json:"partial"`
	LastUse string `json:"last_use"`
	User    string `json:"used_by,omitempty"`
	Dir     string `json:"dir"`
}

// layerList is `sbx layer list`.
func layerList(c *cli.Context, o *sandbox.Options, r *report) error {
	if c.Args().Present() {
		return usagef("sbx layer list", "cannot list %q: layer list takes no argument; it lists all layers", c.Args().First())
	}
	store, err := state.Find(o.State, o.Dir, o.Getenv)
	if err != nil {
		return err
	}
	asJSON := c.Bool("json")
	list := []layerJSON{}
	var gone int
	sandbox.Layers(store, func(l sandbox.LayerInfo) {
		e := layerJSON{
			Name: l.Layer.Name, Tree: l.Layer.Source(), Gone: l.Gone, Files: l.Files, Size: l.Size, Partial: l.Partial,
			LastUse: l.LastUse.UTC().Format(time.RFC3339), User: l.User, Dir: l.Layer.Dir,
		}
		list = append(list, e)
		if l.Gone {
			gone++
		}
		if !asJSON {
			fmt.Println(printable(layerLine(e, l.LastUse)))
		}
	})
	if asJSON {
		return printJSON(os.Stdout, map[string]any{"version": 1, "layers": list})
	}
	if len(list) == 0 {
		r.line("there are no layers in %q", store.Root)
	}
	if gone > 0 {
		r.hint("sbx gc --yes   (deletes the layers of source trees that are gone)")
	}
	return nil
}

func layerLine(e layerJSON, used time.Time) string {
	about := size(e.Size)
	if e.Partial {
		about = "> " + about
	}
	line := fmt.Sprintf("%-12s %9s  %s  %s", e.Name, about, used.Local().Format("2006-01-02 15:04"), e.Tree)
	switch {
	case e.User != "":
		line += "  (in use: " + e.User + ")"
	case e.Gone:
		line += "  (the source is gone)"
	}
	return line
}

// layerCopy is `sbx layer copy A B`.
func layerCopy(c *cli.Context, o *sandbox.Options, r *report, status *int) error {
	if c.Args().Len() != 2 {
		return usagef("sbx layer copy FROM TO", "cannot copy a layer: it takes two names, %d are given", c.Args().Len())
	}
	from, to := c.Args().Get(0), c.Args().Get(1)
	for _, name := range []string{from, to} {
		if err := policy.CheckLayer(name); err != nil {
			return usagef("sbx layer copy FROM TO", "%s", err)
		}
	}
	if from == to {
		return usagef("sbx layer copy FROM TO", "cannot copy the layer %q to itself", from)
	}
	o.Layer = from
	s, err := sandbox.Open(*o)
	if err != nil {
		return err
	}
	if !s.Layer.Exists() {
		return noLayer(s)
	}
	if s.Mapped() && !capable() {
		end, err := s.Within(os.Args, os.Environ())
		*status = end.ExitCode()
		return err
	}
	m := newMeter(r, "copied")
	err = s.CopyLayer(to, m.show)
	m.end()
	if e, ok := err.(*state.ExistsError); ok {
		e.Fix = "sbx layer rm " + to
	}
	if err == nil {
		r.line("copied the layer %q of %q to %q", from, s.Tree.Root, to)
	}
	return err
}

func noLayer(s *sandbox.Session) error {
	return usagef("sbx layer list", "cannot find the layer %q of %q: there is none", s.Layer.Name, s.Tree.Root)
}

// layerRemove is `sbx layer rm NAME…`.
func layerRemove(c *cli.Context, o *sandbox.Options, r *report) error {
	if !c.Args().Present() {
		return usagef("sbx layer rm NAME", "cannot delete a layer: no name is given")
	}
	for _, name := range c.Args().Slice() {
		if err := policy.CheckLayer(name); err != nil {
			return usagef("sbx layer rm NAME", "%s", err)
		}
		o.Layer = name
		s, err := sandbox.Open(*o)
		if err != nil {
			return err
		}
		if !s.Layer.Exists() {
			return noLayer(s)
		}
		if _, err := s.Layer.Remove(); err != nil {
			return err
		}
		startEmptyTrash(s.Store)
		r.line("deleted the layer %q of %q, its home included", name, s.Tree.Root)
	}
	return nil
}

func gcFlags(o *sandbox.Options) []cli.Flag {
	return append(placeOnly(o, "C", "state"), &cli.BoolFlag{Name: "yes", Usage: "delete the layers of trees that are gone"})
}

// gc is `sbx gc`.
func gc(c *cli.Context, o *sandbox.Options, r *report) error {
	if c.Args().Present() {
		return usagef("sbx gc", "cannot collect %q: gc takes no argument", c.Args().First())
	}
	store, err := state.Find(o.State, o.Dir, o.Getenv)
	if err != nil {
		return err
	}
	found, err := sandbox.Collect(store, c.Bool("yes"))
	for _, t := range found.Trees {
		what := "its source tree is gone"
		if c.Bool("yes") {
			what = "deleted, because " + what
		}
		r.line("layers of %q: %s", t.Source, what)
	}
	for _, l := range found.Busy {
		r.line("the layer %q of %q is in use, and was left alone", l.Name, l.Source())
	}
	if len(found.Trees) > 0 && !c.Bool("yes") {
		r.hint("sbx gc --yes   (deletes them; a disk that is not mounted looks the same)")
	}
	if n := int64(len(found.Leftovers)); n > 0 {
		r.line("deleted %s", count(n, "layer that was left over", "layers that were left over"))
	}
	if n := int64(found.Trash); n > 0 {
		r.line("emptied the trash (%s)", count(n, "directory", "directories"))
	}
	if err == nil && len(found.Trees)+len(found.Leftovers)+found.Trash == 0 {
		r.line("there is nothing to collect in %q", store.Root)
	}
	return err
}
