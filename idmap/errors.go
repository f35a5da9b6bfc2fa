package idmap

import (
	"cmp"
	"fmt"
	"os"
	"slices"
	"strings"
)

// HelperMissingError is the error of [Write] when a map needs newuidmap(1) or
// newgidmap(1) and the program is not installed.
type HelperMissingError struct{ Name string }

func (e *HelperMissingError) Error() string {
	return fmt.Sprintf("cannot map a range of ids: the program %s is not installed", e.Name)
}

// Hint returns the command that installs the program on the distribution of
// /etc/os-release (os-release(5)), or "" on one that is not known.
func (e *HelperMissingError) Hint() string {
	release, err := os.ReadFile("/etc/os-release")
	if err != nil {
		return ""
	}
	return installCommand(string(release))
}

// installCommand finds a distribution by the fields ID and ID_LIKE.
func installCommand(release string) string {
	var ids []string
	for line := range strings.Lines(release) {
		key, value, _ := strings.Cut(strings.TrimSpace(line), "=")
		if key == "ID" || key == "ID_LIKE" {
			ids = append(ids, strings.Fields(strings.Trim(value, `"'`))...)
		}
	}
	for _, d := range [...]struct{ id, command string }{
		{"debian", "sudo apt install uidmap"},
		{"ubuntu", "sudo apt install uidmap"},
		{"fedora", "sudo dnf install shadow-utils"},
		{"rhel", "sudo dnf install shadow-utils"},
		{"arch", "sudo pacman -S shadow"},
		{"suse", "sudo zypper install shadow"},
		{"alpine", "sudo apk add shadow-uidmap"},
	} {
		if slices.Contains(ids, d.id) {
			return d.command
		}
	}
	return ""
}

// NoSubIDsError tells that a user has no subordinate ids. File is where they
// would be: /etc/subuid or /etc/subgid.
type NoSubIDsError struct{ User, File string }

func (e *NoSubIDsError) Error() string {
	return fmt.Sprintf("cannot map a range of ids for %q: no subordinate ids are given to this user in %q", e.User, e.File)
}

// Hint returns the usermod(8) command that gives the user 65536 ids, for the
// file where there are none. The ids are free in both files when Hint is
// called: two users with the same ids could touch each other's files. It
// returns "" where no such ids are left.
func (e *NoSubIDsError) Hint() string {
	var taken []span
	var flags []string
	for _, f := range [...]struct{ name, flag string }{
		{subuidFile, "--add-subuids"},
		{subgidFile, "--add-subgids"},
	} {
		ranges, has := allSubIDs(f.name, e.User)
		taken = append(taken, ranges...)
		if f.name == e.File || !has {
			flags = append(flags, f.flag)
		}
	}
	return usermodCommand(e.User, flags, taken)
}

// allSubIDs returns the ranges of all users in file, and whether user has one.
// A file that cannot be read is an empty one: this is for a hint only.
func allSubIDs(file, user string) (taken []span, has bool) {
	f, err := os.Open(file)
	if err != nil {
		return nil, false
	}
	defer f.Close()
	_ = eachSubID(f, func(_ int, owner, start, count string) error {
		// A range that does not fit cannot be in use either.
		if r, err := parseSubRange(start, count); err == nil && r.Length > 0 {
			taken = append(taken, newSpan(r.Start, r.Length))
			has = has || owner == user
		}
		return nil
	})
	return taken, has
}

func usermodCommand(user string, flags []string, taken []span) string {
	first, ok := freeIDs(taken)
	if !ok {
		return ""
	}
	command := "sudo usermod"
	for _, flag := range flags {
		command += fmt.Sprintf(" %s %d-%d", flag, first, first+rootSpan-1)
	}
	return command + " " + shellQuote(user)
}

// freeIDs returns the first of 65536 ids in a row that are not in taken, from
// 100000 on: SUB_UID_MIN of login.defs(5).
func freeIDs(taken []span) (first uint32, ok bool) {
	slices.SortFunc(taken, func(a, b span) int { return cmp.Compare(a.first, b.first) })
	free := span{100000, 100000 + rootSpan}
	for _, t := range taken {
		if t.overlaps(free) {
			free = span{t.end, t.end + rootSpan}
		}
	}
	if free.end > 1<<31 {
		return 0, false
	}
	return uint32(free.first), true
}

// shellQuote quotes s for sh(1), where it is not a plain word.
func shellQuote(s string) string {
	plain := func(r rune) bool {
		return r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= '0' && r <= '9' || strings.ContainsRune("/._-@", r)
	}
	if s != "" && strings.TrimLeftFunc(s, plain) == "" {
		return s
	}
	return "'" + strings.ReplaceAll(s, "'", `'\''`) + "'"
}

// HelperError is the error of [Write] when newuidmap(1) or newgidmap(1) failed.
type HelperError struct {
	Name   string // of the program, without a directory
	Output string // what it printed, at most 64 KiB
	Err    error  // how it ended: *exec.ExitError, or context.DeadlineExceeded

	why  string // what the output means, "" when it says it itself
	hint string
}

func (e *HelperError) Error() string {
	text := strings.Join(strings.Fields(strings.ReplaceAll(e.Output, e.Name+": ", "")), " ")
	switch {
	case text == "" && e.why != "":
		text = e.why
	case text == "" && e.Err != nil:
		text = e.Err.Error()
	case e.why != "":
		text += " (" + e.why + ")"
	}
	return fmt.Sprintf("cannot map a range of ids: %s: %s", e.Name, text)
}

// Unwrap returns how the program ended.
func (e *HelperError) Unwrap() error { return e.Err }

// Hint returns a command that repairs the cause or shows it, or "".
func (e *HelperError) Hint() string { return e.hint }

// WriteError is the error of [Write] for a file that it writes itself.
type WriteError struct {
	File string // "setgroups", "uid_map" or "gid_map"
	PID  int
	Err  error // unix.Errno

	why string // what Err means here
}

func (e *WriteError) Error() string {
	if e.why == "" {
		return fmt.Sprintf("cannot write %s of process %d: %v", e.File, e.PID, e.Err)
	}
	return fmt.Sprintf("cannot write %s of process %d: %s (%v)", e.File, e.PID, e.why, e.Err)
}

// Unwrap returns the errno.
func (e *WriteError) Unwrap() error { return e.Err }

// Hint returns "": what repairs it depends on who called Write and for what.
func (e *WriteError) Hint() string { return "" }
