package sandbox

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/sbx-build/sbx/sandbox/internal/child"
	"github.com/sbx-build/sbx/sandbox/policy"
)

// Options is what was typed, parsed but not yet looked up.
type Options struct {
	// Args is the command; it may be empty for anything but Run.
	Args []string
	// Dir is the real working directory, -C applied (getcwd(2)).
	Dir string
	// Environ is the caller's environment, as of os.Environ.
	Environ []string

	Source, State, Layer string
	Throwaway            bool
	// Trial is a run of sbx's own, which leaves no trace.
	Trial bool
	// NoLive leaves the sandbox with what the host had when a file was first used.
	NoLive bool
	// Join is the run whose namespaces the command enters, or "last".
	Join     string
	Rules    []policy.Rule
	With     []policy.With
	Network  policy.Network
	NetAllow []policy.NetRule
	Publish  []policy.Publish
	// Verbose tells of denied connections at once, and not only at the end.
	Verbose           bool
	Env               []policy.EnvRule
	Root, AllowUserns bool
	TmpSize           int64
	Processes         uint64

	// Warn is told what the user should know, a line each, and Say what has happened;
	// nil drops it.
	Warn, Say func(line string)
}

func (o Options) say(format string, a ...any) {
	if o.Say != nil {
		o.Say(fmt.Sprintf(format, a...))
	}
}

func (o Options) warn(format string, a ...any) {
	if o.Warn != nil {
		o.Warn(fmt.Sprintf(format, a...))
	}
}

// Getenv looks a variable up in the caller's environment.
func (o Options) Getenv(name string) string {
	for i := len(o.Environ) - 1; i >= 0; i-- {
		if v, ok := strings.CutPrefix(o.Environ[i], name+"="); ok {
			return v
		}
	}
	return ""
}

// Status is how the command ended.
type Status struct {
	Wait unix.WaitStatus
	// Manifests are the manifest and lock files that the run has changed in the
	// layer, relative to the working directory; LayerFlag is the flag for the layer.
	Manifests []string
	LayerFlag string
}

// ExitCode is the command's exit status, or 128+n for signal n.
func (s Status) ExitCode() int {
	if s.Wait.Signaled() {
		return 128 + int(s.Wait.Signal())
	}
	return s.Wait.ExitStatus()
}

// Reraise ends sbx by the signal that ended the command, so that a shell or
// make(1) sees a signal and not a status. Otherwise, and where the signal does
// not kill, it returns.
func (s Status) Reraise() {
	if s.Wait.Signaled() {
		child.Die(s.Wait.Signal())
	}
}

// DescriptorError is a standard descriptor that would be a way out.
type DescriptorError struct {
	FD  int
	Why string
}

func (e *DescriptorError) Error() string {
	return fmt.Sprintf("cannot hand on file descriptor %d: %s", e.FD, e.Why)
}

// Hint is a command line that avoids the error.
func (e *DescriptorError) Hint() string {
	if e.FD == 0 {
		return "sbx -- COMMAND </dev/null"
	}
	return fmt.Sprintf("sbx -- COMMAND %d>/dev/null", e.FD)
}

// standard are the modes of the standard descriptors that are regular files, 0 of others.
type standard [3]uint32

// checkDescriptors refuses what would show the host: through a directory's
// descriptor, /proc/self/fd/N/.. leads to the host's root.
func checkDescriptors() (modes standard, err error) {
	for fd := range modes {
		var st unix.Stat_t
		if err := unix.Fstat(fd, &st); err != nil {
			continue // closed; the Go runtime opens /dev/null there
		}
		switch st.Mode & unix.S_IFMT {
		case unix.S_IFDIR:
			return modes, &DescriptorError{fd, "it is a directory, and the build could leave the sandbox through it"}
		case unix.S_IFREG:
			modes[fd] = st.Mode
		}
		flags, err := unix.FcntlInt(uintptr(fd), unix.F_GETFL, 0)
		if err == nil && flags&unix.O_PATH != 0 {
			return modes, &DescriptorError{fd, "it was opened with O_PATH"}
		}
	}
	return modes, nil
}

// disarm takes back that a command has made a file of the host's, to which a standard
// descriptor is redirected, set-user-ID or set-group-ID: it would be a program of the
// caller's that anybody may run.
func (s standard) disarm(o Options) {
	for fd, was := range s {
		var st unix.Stat_t
		if was == 0 || unix.Fstat(fd, &st) != nil || st.Mode&unix.S_IFMT != unix.S_IFREG {
			continue
		}
		if armed := st.Mode & (unix.S_ISUID | unix.S_ISGID) &^ was; armed != 0 {
			name := [...]string{"input", "output", "error"}[fd]
			if err := unix.Fchmod(fd, st.Mode&0o7777&^armed); err != nil {
				o.warn("the command has made the file of standard %s set-user-ID or set-group-ID: %v", name, err)
			} else {
				o.warn("the command had made the file of standard %s set-user-ID or set-group-ID: that was taken back", name)
			}
		}
	}
}

// newRun makes the name of a run. The runtime has random bits at hand, seeded by
// the kernel (getauxval(3), AT_RANDOM).
func newRun() string { return fmt.Sprintf("%012x", rand.Uint64()>>16) }

// Home is the caller's $HOME, a real path; it need not exist. "" if there is
// none.
func (o Options) Home() string {
	h := o.Getenv("HOME")
	if !filepath.IsAbs(h) {
		return ""
	}
	if real, err := filepath.EvalSymlinks(h); err == nil {
		return real
	}
	return filepath.Clean(h)
}

// workingDir returns the real working directory, and $PWD where that is another
// way to the same directory.
func workingDir(o Options) (real, logical string, err error) {
	if o.Dir == "" {
		return "", "", errors.New("cannot find the working directory: it has been deleted")
	}
	pwd := o.Getenv("PWD")
	if !filepath.IsAbs(pwd) || pwd == o.Dir || filepath.Clean(pwd) != pwd {
		return o.Dir, "", nil
	}
	a, errA := os.Stat(pwd)
	b, errB := os.Stat(o.Dir)
	if errA == nil && errB == nil && os.SameFile(a, b) {
		return o.Dir, pwd, nil
	}
	return o.Dir, "", nil
}
