package main

import (
	"encoding/json"
	"fmt"
	"io"
	"os"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/urfave/cli/v2"

	"github.com/sbx-build/sbx/sandbox"
	"github.com/sbx-build/sbx/sandbox/live"
	"github.com/sbx-build/sbx/sandbox/relay"
	"github.com/sbx-build/sbx/sandbox/state"
)

// runOnlyFlags are the flags of run that change nothing of the plan.
func runOnlyFlags(o *sandbox.Options) []cli.Flag {
	return []cli.Flag{
		&cli.BoolFlag{Name: "verbose", Usage: "say at once what the network denies", Destination: &o.Verbose},
		&cli.StringFlag{Name: "join", Usage: "enter the namespaces of the run `RUN`", Destination: &o.Join},
		&cli.BoolFlag{Name: "no-live", Usage: "do not look for what is edited on the host meanwhile", Destination: &o.NoLive},
		&cli.StringSliceFlag{Name: "pull", Usage: "pull what matches `GLOB` when the command has succeeded"},
	}
}

func psFlags(o *sandbox.Options) []cli.Flag {
	return append(listFlags(o), &cli.BoolFlag{Name: "v", Usage: "say what is done to show what is edited on the host"})
}

func listFlags(o *sandbox.Options) []cli.Flag {
	return append(placeOnly(o, "C", "state"), &cli.BoolFlag{Name: "json", Usage: "print JSON"})
}

func stopFlags(o *sandbox.Options) []cli.Flag {
	return append(placeOnly(o, "C", "state"), &cli.BoolFlag{Name: "kill", Usage: "at once, by SIGKILL"})
}

// runJSON is a run in `sbx ps --json`.
type runJSON struct {
	Run     string    `json:"run"`
	PID     int       `json:"pid"`
	Tree    string    `json:"tree"`
	Layer   string    `json:"layer"`
	Dir     string    `json:"directory"`
	Command []string  `json:"command"`
	Start   time.Time `json:"start"`
	// Live is what the run does to show what is edited on the host.
	Live []live.Status `json:"live,omitempty"`
	// Published are the ports of the host's that lead into the sandbox.
	Published []string `json:"published,omitempty"`
	// Silent says that the run does not answer, Stopped that its sbx is stopped.
	Silent  bool `json:"silent,omitempty"`
	Stopped bool `json:"stopped,omitempty"`
}

// listRuns is `sbx ps`.
func listRuns(c *cli.Context, o *sandbox.Options) error {
	if c.Args().Present() {
		return usagef("sbx ps", "cannot list %q: ps takes no argument; it lists all runs", c.Args().First())
	}
	store, err := state.Find(o.State, o.Dir, o.Getenv)
	if err != nil {
		return err
	}
	list := []runJSON{}
	for _, r := range sandbox.Living(store, "") {
		list = append(list, runJSON{r.ID, r.PID, r.Tree, r.Layer, r.Dir, r.Command, time.Unix(r.Started, 0).UTC(), r.Live, r.Published, r.Silent, r.Stopped()})
	}
	if c.Bool("json") {
		return printJSON(os.Stdout, list)
	}
	w := tabwriter.NewWriter(os.Stdout, 0, 0, 2, ' ', 0)
	if len(list) > 0 {
		fmt.Fprintln(w, "RUN\tAGE\tLAYER\tTREE\tCOMMAND")
	}
	for _, r := range list {
		fmt.Fprintf(w, "%s\t%s\t%s\t%s\t%s\n", r.Run, age(r.Start), printable(r.Layer), printable(r.Tree), printable(words(r.Command)))
		if r.Silent {
			w.Flush()
			fmt.Printf("    does not answer%s\n", map[bool]string{true: fmt.Sprintf(": it is stopped (kill -CONT %d)", r.PID)}[r.Stopped])
		}
		if len(r.Published) > 0 {
			w.Flush()
			fmt.Printf("    published %s\n", printable(strings.Join(r.Published, ", ")))
		}
		if c.Bool("v") {
			w.Flush()
			printLive(r.Live)
		}
	}
	return w.Flush()
}

// printLive says of a run what it does to show what is edited on the host.
func printLive(list []live.Status) {
	for _, s := range list {
		if !s.Watching {
			continue
		}
		slow := ""
		if s.Slow {
			slow = ", and not all that there are"
		} else if s.Partial {
			slow = ", and not all in those of package managers"
		}
		fmt.Printf("    watches %s of %s%s; refreshed %s, mirrored %s\n", count(int64(s.Watches), "directory", "directories"), printable(s.Dir), slow,
			count(int64(s.Refreshes), "time", "times"), count(int64(s.Mirrors), "edit", "edits"))
		if s.Replaced {
			fmt.Printf("    moved or replaced since: %s\n", printable(s.Dir))
		}
		for _, path := range s.Held {
			fmt.Printf("    held as it was: %s\n", printable(path))
		}
	}
}

// words is a command for people.
func words(args []string) string {
	text := shell(args)
	if len([]rune(text)) > 60 {
		text = string([]rune(text)[:59]) + "…"
	}
	return strings.ReplaceAll(text, "\t", " ")
}

// age is a duration in one unit, "?" where it is not known.
func age(start time.Time) string {
	d := time.Since(start)
	switch {
	case start.Unix() == 0:
		return "?"
	case d < time.Minute:
		return fmt.Sprintf("%ds", int(d.Seconds()))
	case d < time.Hour:
		return fmt.Sprintf("%dm", int(d.Minutes()))
	case d < 48*time.Hour:
		return fmt.Sprintf("%dh", int(d.Hours()))
	}
	return fmt.Sprintf("%dd", int(d.Hours()/24))
}

// printJSON prints for programs; < and & stay as they are.
func printJSON(w io.Writer, v any) error {
	e := json.NewEncoder(w)
	e.SetEscapeHTML(false)
	e.SetIndent("", "  ")
	return e.Encode(v)
}

// stopRuns is `sbx stop RUN…`.
func stopRuns(c *cli.Context, o *sandbox.Options, r *report) error {
	if !c.Args().Present() {
		return usagef("sbx stop last   (sbx ps lists the runs)", "cannot stop: no run is named")
	}
	store, err := state.Find(o.State, o.Dir, o.Getenv)
	if err != nil {
		return err
	}
	for _, name := range c.Args().Slice() {
		run, err := sandbox.FindRun(store, name)
		if err != nil {
			return err
		}
		if err := sandbox.Stop(store, run, c.Bool("kill")); err != nil {
			return err
		}
		r.line("stopped the run %s: %s", run.ID, words(run.Command))
	}
	return nil
}

// showLog is `sbx log [RUN]`.
func showLog(c *cli.Context, o *sandbox.Options) error {
	if c.Args().Len() > 1 {
		return usagef("sbx log RUN", "cannot show the log: one run at a time")
	}
	store, err := state.Find(o.State, o.Dir, o.Getenv)
	if err != nil {
		return err
	}
	list := sandbox.Records(store)
	if name := c.Args().First(); name != "" {
		for i := len(list) - 1; i >= 0; i-- {
			if name == "last" || strings.HasPrefix(list[i].Run, name) {
				if c.Bool("json") {
					return printJSON(os.Stdout, list[i])
				}
				printRecord(list[i])
				return nil
			}
		}
		return &sandbox.NoRecordError{Run: name}
	}
	if c.Bool("json") {
		if list == nil {
			list = []sandbox.Record{}
		}
		return printJSON(os.Stdout, list)
	}
	w := tabwriter.NewWriter(os.Stdout, 0, 0, 2, ' ', 0)
	if len(list) > 0 {
		fmt.Fprintln(w, "RUN\tSTART\tTIME\tEXIT\tLAYER\tTREE\tCOMMAND")
	}
	for _, r := range list {
		fmt.Fprintf(w, "%s\t%s\t%s\t%d\t%s\t%s\t%s\n", r.Run, r.Start.Local().Format("2006-01-02 15:04:05"), r.End.Sub(r.Start).Round(10*time.Millisecond), r.Exit,
			printable(r.Layer), printable(r.Tree), printable(words(r.Command)))
	}
	return w.Flush()
}

func printRecord(r sandbox.Record) {
	w := tabwriter.NewWriter(os.Stdout, 0, 0, 2, ' ', 0)
	row := func(name, format string, a ...any) {
		fmt.Fprintf(w, "%s\t%s\n", name, printable(fmt.Sprintf(format, a...)))
	}
	row("run", "%s", r.Run)
	row("command", "%s", shell(r.Command))
	row("directory", "%s", r.Dir)
	row("tree", "%s", r.Tree)
	row("layer", "%s", r.Layer)
	row("start", "%s", r.Start.Local().Format(time.RFC3339))
	row("end", "%s", r.End.Local().Format(time.RFC3339))
	if r.Joined != "" {
		row("joined", "%s", printable(r.Joined))
	}
	if r.Signal != 0 {
		row("exit", "%d (signal %d)", r.Exit, r.Signal)
	} else {
		row("exit", "%d", r.Exit)
	}
	row("cpu", "%.2f s", r.CPU)
	row("peak memory", "%.1f MiB", float64(r.MaxRSS)/(1<<20))
	if r.Refreshes > 0 {
		row("edits shown", "%s", count(int64(r.Refreshes), "refresh", "refreshes"))
	}
	if r.Mirrors > 0 {
		row("edits mirrored", "%d", r.Mirrors)
	}
	if r.Changes != nil {
		row("layer had", "%s", count(int64(*r.Changes), "change", "changes"))
	}
	w.Flush()
	printContacts(r.Network)
}

// printContacts lists what a run had to do with the network.
func printContacts(list []relay.Contact) {
	if len(list) == 0 {
		return
	}
	w := tabwriter.NewWriter(os.Stdout, 0, 0, 2, ' ', 0)
	fmt.Fprintln(w, "\nNETWORK\tPROTO\tCOUNT\tUP\tDOWN\tFIRST\tLAST")
	for _, c := range list {
		place, proto := c.Place(), c.Proto
		if c.Name != "" && c.Addr != "" {
			place += " (" + c.Addr + ")"
		}
		if proto == "" {
			proto = "name"
		}
		fmt.Fprintf(w, "%s\t%s\t%d\t%s\t%s\t%s\t%s", printable(place), proto, c.Count, size(int64(c.Up)), size(int64(c.Down)),
			c.First.Local().Format("15:04:05"), c.Last.Local().Format("15:04:05"))
		if c.Denied != "" {
			fmt.Fprintf(w, "\tdenied: %s", printable(c.Denied))
		}
		fmt.Fprintln(w)
	}
	w.Flush()
}
