package main

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"syscall"

	"github.com/urfave/cli/v2"
	"golang.org/x/sys/unix"

	"github.com/sbx-build/sbx/sandbox"
)

// A build may take the permissions of its files away, from their owner too. In a
// user namespace of its own sbx has the capabilities to read them all the same,
// because they belong to the caller.

// resumeName is the variable by which such a sbx knows of it: how much of the
// result has been written, and whether a terminal gets it.
const resumeName = "SBX_RESUME"

// resumed says how an earlier sbx has begun; ok is false if there was none.
func resumed(getenv func(string) string) (skip int64, terminal, ok bool) {
	n, err := fmt.Sscanf(getenv(resumeName), "%d,%t", &skip, &terminal)
	return max(skip, 0), terminal, err == nil && n == 2
}

// readable makes an action that met a file without permissions start again
// where those do not matter. out is the result so far, or gives nil if there is
// none; it has not been flushed.
func readable(o *sandbox.Options, status *int, action func(*cli.Context) (*output, error)) cli.ActionFunc {
	return func(c *cli.Context) error {
		out, err := action(c)
		if err == nil || !errors.Is(err, fs.ErrPermission) || os.Geteuid() == 0 {
			return finished(out, err)
		}
		if _, _, again := resumed(o.Getenv); again || capable() {
			return finished(out, err)
		}
		code, e := again(*o, out)
		if e != nil {
			return finished(out, err) // what could not be read is what matters
		}
		if out != nil {
			out.end()
		}
		*status = code
		return nil
	}
}

// mapped makes an action on a layer with more ids than the caller's begin in the
// layer's map: halfway through, what has been done would be nothing to do any more.
func mapped(o *sandbox.Options, status *int, action cli.ActionFunc) cli.ActionFunc {
	return func(c *cli.Context) error {
		if s, err := sandbox.Open(*o); err == nil && s.Mapped() && !capable() {
			if code, err := again(*o, nil); err == nil {
				*status = code
				return nil
			}
		}
		return action(c)
	}
}

// wantedName is the variable by which sbx pull knows that it is for a run's --pull.
const wantedName = "SBX_WANTED"

// pullWithin is the --pull of a run whose layer has more ids than the caller's, or what
// the caller may not read. done is false where it has not begun.
func pullWithin(o *sandbox.Options, pulls []string, status *int) (done bool) {
	s, err := sandbox.Open(*o)
	if err != nil || capable() {
		return false
	}
	args := []string{"sbx", "pull", "-C", o.Dir, "--state", s.Store.Root, "--source", s.Tree.Root, "--layer", s.Layer.Name, "--"}
	code, err := within(s, append(args, pulls...), append(os.Environ(), wantedName+"=1"), os.Stdout)
	if err == nil {
		*status = code
	}
	return err == nil
}

func finished(out *output, err error) error {
	if out == nil {
		return err
	}
	return out.close(err)
}

// capable says whether this process has the capability already.
func capable() bool {
	h := unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}
	var d [2]unix.CapUserData
	return unix.Capget(&h, &d[0]) == nil && d[0].Effective&(1<<unix.CAP_DAC_OVERRIDE) != 0
}

// again runs the same command line in a user namespace with the ids of the
// layer.
func again(o sandbox.Options, out *output) (status int, err error) {
	resume := fmt.Sprintf("%s=0,%t", resumeName, false)
	to := os.Stdout
	if out != nil {
		resume = fmt.Sprintf("%s=%d,%t", resumeName, out.written, out.terminal)
		to = out.to
	}
	env := append(os.Environ(), resume)
	s, err := sandbox.Open(o)
	if err != nil {
		return 0, err
	}
	return within(s, os.Args, env, to)
}

// within runs a command line of sbx's in such a namespace.
func within(s *sandbox.Session, args, env []string, to *os.File) (status int, err error) {
	if s.Mapped() {
		if to != os.Stdout {
			if err := unix.Dup3(int(to.Fd()), 1, 0); err != nil {
				return 0, err
			}
		}
		end, err := s.Within(args, env)
		return end.ExitCode(), err
	}
	uid, gid := os.Geteuid(), os.Getegid()
	cmd := exec.Command("/proc/self/exe", args[1:]...)
	cmd.Args[0] = args[0]
	cmd.Env = env
	cmd.Stdin, cmd.Stdout, cmd.Stderr = os.Stdin, to, os.Stderr
	cmd.SysProcAttr = &syscall.SysProcAttr{
		Cloneflags:                 syscall.CLONE_NEWUSER,
		UidMappings:                []syscall.SysProcIDMap{{ContainerID: uid, HostID: uid, Size: 1}},
		GidMappings:                []syscall.SysProcIDMap{{ContainerID: gid, HostID: gid, Size: 1}},
		GidMappingsEnableSetgroups: false,
		AmbientCaps:                []uintptr{unix.CAP_DAC_OVERRIDE, unix.CAP_DAC_READ_SEARCH, unix.CAP_FOWNER},
		Pdeathsig:                  syscall.SIGKILL,
	}
	err = cmd.Run()
	var exit *exec.ExitError
	if errors.As(err, &exit) && exit.Exited() {
		return exit.ExitCode(), nil
	}
	if exit != nil {
		return exitFailed, nil
	}
	return 0, err
}
