package host

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"syscall"
)

// Explain gives hints for a sandbox that could not be made: commands that can be
// pasted, each with its reason behind a #. The facts are read now, after the
// failure. An error that is not about the making of a sandbox gives none.
func Explain(err error) []string {
	f, ok := failureOf(err)
	if !ok {
		return nil
	}
	m := Look(stateOf(err))
	var hints []string
	for _, a := range m.advise(f) {
		hints = append(hints, a.String())
	}
	return hints
}

// stateOf is the directory that a failed step was about, where the error knows
// it, else the place where the state is by default.
func stateOf(err error) string {
	var layer interface{ Layer() string }
	if errors.As(err, &layer) && layer.Layer() != "" {
		return layer.Layer()
	}
	if dir := os.Getenv("SBX_STATE"); dir != "" {
		return dir
	}
	if dir := os.Getenv("XDG_STATE_HOME"); filepath.IsAbs(dir) {
		return filepath.Join(dir, "sbx")
	}
	if home := os.Getenv("HOME"); filepath.IsAbs(home) {
		return filepath.Join(home, ".local", "state", "sbx")
	}
	return ""
}

// advice is a cause in words and a command that removes it; either may be "".
type advice struct{ why, fix string }

// String is the command with the cause as a comment: one line for a shell.
func (a advice) String() string {
	switch {
	case a.fix == "":
		return "# " + a.why
	case a.why == "":
		return a.fix
	}
	return a.fix + "   # " + a.why
}

// A failure is a call of the sandbox's making that the kernel refused.
type failure struct {
	task  string // the object of the message, after "cannot"
	call  string // as in section 2 of the manual
	errno syscall.Errno
}

// failureOf takes an error apart. The errors of the raw child have the form
// "cannot <task>: <call>(2): <cause>" and wrap the errno. That package cannot
// be imported here, since its plans are made of this one's facts.
func failureOf(err error) (f failure, ok bool) {
	if err == nil || !errors.As(err, &f.errno) {
		return f, false
	}
	text := err.Error()
	// The last one: a path in the task may hold anything.
	end := strings.LastIndex(text, "(2): ")
	if end < 0 {
		return f, false
	}
	start := strings.LastIndex(text[:end], ": ")
	if start < 0 {
		return f, false
	}
	f.call = text[start+2 : end]
	_, f.task, ok = strings.Cut(text[:start], "cannot ")
	return f, ok
}

// about says whether the task begins with these words.
func (f failure) about(words ...string) bool {
	for _, w := range words {
		if strings.HasPrefix(f.task, w) {
			return true
		}
	}
	return false
}

// advise is the table of what can be done about a failure.
func (m Machine) advise(f failure) []advice {
	switch {
	case f.about("create the sandbox's namespaces"):
		return m.aboutClone(f.errno)
	case f.about("map the user ids"):
		return m.aboutMaps(f.errno)
	case f.about("make the sandbox's network interface", "listen at"):
		return m.aboutInterface()
	case f.about("mount /proc"):
		return m.aboutProc(f.errno)
	case f.call == "dup3" && f.errno == syscall.EBADF:
		return []advice{{"at most " + amount(m.Nofile[1]) + " are allowed here", "sudo prlimit --pid $$ --nofile=1024:4096"}}
	case f.about("overlay "):
		return m.aboutOverlay(f.errno)
	case f.errno == syscall.ENOSPC && strings.Contains(f.call, "mount"):
		return []advice{m.raise("fs.mount-max", 200000, "the number of mounts in a mount namespace is limited")}
	case f.call == "mount_setattr", f.call == "openat2", f.call == "close_range", f.call == "open_tree", f.call == "move_mount":
		if f.errno == syscall.ENOSYS || f.errno == syscall.EPERM && m.Filtered {
			return m.aboutCalls(f)
		}
	case f.call == "keyctl" && f.errno == syscall.EDQUOT:
		return []advice{m.raise("kernel.keys.maxkeys", 2000, "the keys of this user are used up")}
	case f.call == "clone" && f.errno == syscall.EAGAIN:
		return m.aboutClone(f.errno)
	}
	if f.errno == syscall.EPERM || f.errno == syscall.EACCES {
		return m.aboutPowers()
	}
	return []advice{m.doctor()}
}

// doctor is where one looks when nothing better is known.
func (m Machine) doctor() advice {
	return advice{"tries each thing that a run needs", "sbx doctor"}
}

// aboutCalls is for system calls that are younger than the rest.
func (m Machine) aboutCalls(f failure) []advice {
	if !m.newEnough() {
		return []advice{{why: "the kernel " + m.Release + " is too old: sbx needs Linux " + minimumKernel + " or newer"}}
	}
	if m.Filtered {
		return []advice{m.container("a system call filter refuses " + f.call + "(2)")}
	}
	return []advice{m.doctor()}
}
