package main

import (
	"strings"

	"github.com/sbx-build/sbx/sandbox/overlay"
)

const guardProse = `The guard. What comes out of a layer is what the host then runs, so not all of
it comes by itself. Refused, unless --unsafe names it, is
    a name that git, a shell, an editor or an agent acts upon merely because it
    is there, as .git, .envrc, .vscode/ or AGENTS.md; sbx help guard has all;
    a symlink that is absolute, that leaves the tree, be it through other
    symlinks, or that leads into .git;
    what looks like a git repository without a .git around it;
    .gitattributes with a filter, diff or merge driver that the host has not.
Devices, fifos and sockets never come, nor do the bits set-user-ID, set-group-ID
and sticky. Noted, and pulled, is what runs when you build or push: makefiles
and the like, the scripts of package.json and composer.json that differ, and
files of CI. No list is complete: what you run after a pull is as trustworthy as
the build was.
`

// guardHelp is `sbx help guard`: the guard's table.
func guardHelp() string {
	var b strings.Builder
	b.WriteString(guardProse)
	level, why := overlay.Level(0), ""
	var names []string
	end := func() {
		if len(names) == 0 {
			return
		}
		b.WriteString("    " + why + ":\n")
		line := "       "
		for _, n := range names {
			if len(line)+1+len(n) > 80 {
				b.WriteString(line + "\n")
				line = "       "
			}
			line += " " + n
		}
		b.WriteString(line + "\n")
		names = nil
	}
	for row := range overlay.GuardTable() {
		if row.Level != level || row.Why != why {
			end()
		}
		if row.Level != level {
			b.WriteString(map[overlay.Level]string{overlay.Refuse: "\nRefused, at any depth and in any case; * stands for any characters:\n", overlay.Note: "\nNoted:\n"}[row.Level])
		}
		level, why = row.Level, row.Why
		names = append(names, row.Name)
	}
	end()
	return b.String()
}
