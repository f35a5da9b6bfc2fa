package supervise

import "golang.org/x/sys/unix"

// terminals remembers the settings of the terminals among descriptors 0 to 2, and
// the flags of the descriptors: the build has them in hand, and could leave the
// caller's shell without echo, or with reads that do not wait.
type terminals map[int]terminal

type terminal struct {
	settings *unix.Termios
	flags    int
}

func rememberTerminals() terminals {
	t := terminals{}
	for fd := range 3 {
		settings, err := unix.IoctlGetTermios(fd, unix.TCGETS)
		if err != nil {
			continue
		}
		if flags, err := unix.FcntlInt(uintptr(fd), unix.F_GETFL, 0); err == nil {
			t[fd] = terminal{settings, flags}
		}
	}
	return t
}

// restore puts them back, if sbx is still in the foreground: a background process
// would be stopped by SIGTTOU (termios(3)).
func (t terminals) restore() {
	for fd, was := range t {
		group, err := unix.IoctlGetInt(fd, unix.TIOCGPGRP)
		if err == nil && group == unix.Getpgrp() {
			unix.FcntlInt(uintptr(fd), unix.F_SETFL, was.flags)
			unix.IoctlSetTermios(fd, unix.TCSETS, was.settings)
		}
	}
}
