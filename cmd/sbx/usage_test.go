package main

import (
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/urfave/cli/v2"

	"github.com/sbx-build/sbx/sandbox"
	"github.com/sbx-build/sbx/sandbox/overlay"
)

// flagLine is a line of the usage that describes a flag.
var flagLine = regexp.MustCompile(`(?m)^    (?:-[a-z], )?--?([A-Za-z][a-z-]*)( |$)`)

// shortLine is one that describes a short form beside it.
var shortLine = regexp.MustCompile(`(?m)^    -([a-z]), --`)

func described(text string) []string {
	var names []string
	for _, m := range flagLine.FindAllStringSubmatch(text, -1) {
		names = append(names, m[1])
	}
	for _, m := range shortLine.FindAllStringSubmatch(text, -1) {
		names = append(names, m[1])
	}
	slices.Sort(names)
	return names
}

// typed are the names of flags as they are typed: showEnv renames one.
func typed(flags []cli.Flag) []string {
	var names []string
	for _, f := range flags {
		for _, n := range f.Names() {
			if n == "show-env" {
				n = "env"
			}
			names = append(names, n)
		}
	}
	slices.Sort(names)
	return names
}

// The usage is written by hand; this keeps it true: every flag of every verb is
// described, and no other.
func TestUsageFlags(t *testing.T) {
	o := &sandbox.Options{}
	for _, tt := range []struct {
		name, text string
		flags      []cli.Flag
	}{
		{"place", placeUsage, placeFlags(o)},
		{"run", placeUsage + runUsage, runFlags(o)},
		{"plan", planUsage, planFlags()},
		{"status", statusUsage, statusFlags()},
		{"diff", diffUsage, diffFlags()},
		{"pull", pullUsage, pullFlags()},
		{"drop", dropUsage, dropFlags()},
		{"export and import", archiveUsage, append(exportFlags(), importFlags()...)},
		{"reset", resetUsage, resetFlags()},
		{"run alone", runOnlyUsage, runOnlyFlags(o)},
	} {
		if got, want := described(tt.text), typed(tt.flags); !slices.Equal(got, want) {
			t.Errorf("%s: the usage describes %q, the flags are %q", tt.name, got, want)
		}
	}
	// These take some of place, which their synopsis names.
	for verb, flags := range map[string][]cli.Flag{"doctor": doctorFlags(o), "layer": layerListFlags(o), "gc": gcFlags(o), "ps": psFlags(o), "log": listFlags(o), "stop": stopFlags(o)} {
		text, err := help(verb)
		if err != nil {
			t.Fatal(err)
		}
		for _, name := range typed(flags) {
			if !strings.Contains(text, dashes(name)+" ") && !strings.Contains(text, dashes(name)+"]") {
				t.Errorf("sbx help %s says nothing of %s", verb, dashes(name))
			}
		}
	}
	if all := described(usage); len(all) != len(described(placeUsage+runUsage+runOnlyUsage+planUsage+statusUsage+diffUsage+pullUsage+dropUsage+resetUsage+layerUsage+archiveUsage+doctorUsage)) {
		t.Errorf("a flag is described outside its place: %q", all)
	}
}

// anyFlag is a flag in running text.
var anyFlag = regexp.MustCompile(`(^|[ ([|])(--[a-z][a-z-]+)`)

// Nowhere does the text promise a flag that no verb has.
func TestUsageNamesNothingElse(t *testing.T) {
	o := &sandbox.Options{}
	known := typed(slices.Concat(runFlags(o), runOnlyFlags(o), planFlags(), statusFlags(), diffFlags(), pullFlags(), dropFlags(), resetFlags(), layerListFlags(o), exportFlags(), importFlags(), gcFlags(o), stopFlags(o), doctorFlags(o)))
	known = append(known, "version", "help", "flag") // --flag stands for any
	for _, m := range anyFlag.FindAllStringSubmatch(usage, -1) {
		if !slices.Contains(known, strings.TrimPrefix(m[2], "--")) {
			t.Errorf("the usage names %s, which there is not", m[2])
		}
	}
}

func TestUsageForm(t *testing.T) {
	for line := range strings.Lines(usage) {
		line = strings.TrimSuffix(line, "\n")
		if len(line) > 80 || strings.ContainsAny(line, "\t\x1b") || strings.TrimRight(line, " ") != line {
			t.Errorf("a line is too long, or has tabs or trailing blanks: %q", line)
		}
	}
	if strings.Contains(usage, "\n\n\n") {
		t.Error("there are two empty lines in a row")
	}
	for _, name := range []string{"SBX ", "SBX_RUN ", "SBX_TREE ", "SBX_LAYER ", "SBX_SOURCE ", "SBX_STATE ", "127 ", "126 ", "125 ", `\:`} {
		if !strings.Contains(usage, name) {
			t.Errorf("the usage says nothing of %q", name)
		}
	}
}

// Each verb has a line in the synopsis and a help of its own, whose text is
// part of the whole.
func TestHelpVerb(t *testing.T) {
	for _, verb := range verbs {
		text, err := help(verb)
		if err != nil {
			t.Errorf("help(%q): %v", verb, err)
			continue
		}
		if !regexp.MustCompile(`^Usage:\n    sbx \[?` + verb + `\b`).MatchString(text) {
			t.Errorf("the help for %s begins with %q", verb, text[:min(60, len(text))])
		}
		for line := range strings.Lines(text) {
			if verb != "help" && !strings.Contains(usage, line) {
				t.Errorf("the help for %s has a line that the usage has not: %q", verb, line)
			}
		}
	}
	for _, tt := range []struct{ verb, text string }{{"rset", `the nearest is "reset"`}, {"xyzzy", "no such verb"}} {
		if _, err := help(tt.verb); err == nil || exitStatus(err) != exitUsage || !strings.Contains(err.Error(), tt.text) {
			t.Errorf("help(%q): %v, want %q", tt.verb, err, tt.text)
		}
	}
}

// Help that was asked for is a result: on stdout, with status 0.
func TestHelpOutput(t *testing.T) {
	c := newCaller(t)
	for _, line := range []string{"--help", "-h", "help"} {
		stdout, stderr, status := c.sbx(t, line)
		if stdout != usage || stderr != "" || status != 0 {
			t.Errorf("sbx %s: status %d, stderr %q, stdout\n%s", line, status, stderr, stdout)
		}
	}
	for _, line := range []string{"help reset", "reset --help", "reset --all --help"} {
		stdout, stderr, status := c.sbx(t, strings.Fields(line)...)
		if want, _ := help("reset"); stdout != want || stderr != "" || status != 0 {
			t.Errorf("sbx %s: status %d, stderr %q, stdout\n%s", line, status, stderr, stdout)
		}
	}
	if stdout, stderr, status := c.sbx(t, "help", "rset"); stdout != "" || status != 2 || !strings.Contains(stderr, "hint: sbx help reset\n") {
		t.Errorf("sbx help rset: status %d, stdout %q, stderr %q", status, stdout, stderr)
	}
}

// The guard's table is printed whole, in a form like that of the usage.
func TestHelpGuard(t *testing.T) {
	text, err := help("guard")
	if err != nil {
		t.Fatal(err)
	}
	words := strings.Fields(text)
	for row := range overlay.GuardTable() {
		if !slices.Contains(words, row.Name) || !strings.Contains(text, "    "+row.Why+":\n") {
			t.Errorf("sbx help guard has no %q: %s", row.Name, row.Why)
		}
	}
	for line := range strings.Lines(text) {
		if len(line) > 81 || strings.TrimRight(line, " \n") != strings.TrimSuffix(line, "\n") {
			t.Errorf("a line is too long, or has trailing blanks: %q", line)
		}
	}
	if _, err := help(""); err != nil || !strings.Contains(usage, guardProse) {
		t.Error("the usage says nothing of the guard")
	}
}
