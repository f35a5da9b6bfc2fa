package supervise

import "golang.org/x/sys/unix"

// terminals remembers the settings of the terminals among descriptors 0 to 2:
// the build has them in hand, and could leave the caller's shell without echo.
type terminals map[int]*unix.Termios

func rememberTerminals() terminals {
	t := terminals{}
	for fd := range 3 {
		if settings, err := unix.IoctlGetTermios(fd, unix.TCGETS); err == nil {
			t[fd] = settings
		}
	}
	return t
}

// restore puts the settings back, if sbx is still in the foreground: a
// background process would be stopped by SIGTTOU (termios(3)).
func (t terminals) restore() {
	for fd, settings := range t {
		group, err := unix.IoctlGetInt(fd, unix.TIOCGPGRP)
		if err == nil && group == unix.Getpgrp() {
			unix.IoctlSetTermios(fd, unix.TCSETS, settings)
		}
	}
}
