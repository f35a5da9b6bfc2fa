package host

import (
	"errors"
	"fmt"
	"path/filepath"
	"slices"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/sbx-build/sbx/sandbox/policy"
	"github.com/sbx-build/sbx/sandbox/toolconf"
)

// conf reads the configuration of tools and removes the credentials. Where a rule
// shows or hides a file, or the tree has it, there is nothing to do.
func (f *Facts) conf(p policy.Policy) {
	for _, file := range p.Conf {
		if ruled(p, file.Target) {
			continue
		}
		r, ok := f.clean(file, p.Home)
		if ok && r.Data != "" {
			f.Conf = append(f.Conf, Conf{file.Target, r.Data, r.Dropped})
		}
	}
	for _, file := range toolconf.Etc {
		path := "/etc/" + file.Target
		// A directory on the way that is a symlink cannot be merged with one of the
		// layer's.
		if dir := filepath.Dir(path); kindAt(path) == Absent || kindAt(dir) != Dir {
			continue
		}
		data, err := readConf(path)
		if err != nil {
			continue // not for the caller to read, inside neither
		}
		r := toolconf.Clean(file.Format, data, p.Home)
		if r.Data != string(data) {
			f.EtcConf = append(f.EtcConf, Conf{file.Target, r.Data, r.Dropped})
		}
	}
}

func (f *Facts) clean(file toolconf.File, home string) (r toolconf.Result, ok bool) {
	data, err := readConf(file.Source)
	switch {
	case err == unix.ENOENT || err == unix.ENOTDIR || err == unix.ELOOP:
		return r, false
	case err == nil:
		r = toolconf.Clean(file.Format, data, home)
	default:
		r.Bad = err.Error()
	}
	if r.Bad != "" {
		f.Warnings = append(f.Warnings, fmt.Sprintf("%q is not in the sandbox: %s", file.Source, r.Bad))
		return r, false
	}
	if len(r.Lost) > 0 {
		f.Warnings = append(f.Warnings, fmt.Sprintf("%q appears without what is not understood in it, so that requests may go elsewhere than outside: %s", file.Source, strings.Join(r.Lost, ", ")))
	}
	return r, true
}

// ruled says whether a path is the tree's, a joined directory's, or that of a rule
// which the user typed.
func ruled(p policy.Policy, path string) bool {
	at := func(target string) bool { return path == target || policy.Below(path, target) }
	return at(p.Tree) ||
		slices.ContainsFunc(p.With, func(w policy.With) bool { return at(w.Target) }) ||
		slices.ContainsFunc(p.Rules, func(r policy.Rule) bool { return r.Origin.Flag != "" && at(r.Target) })
}

// readConf reads a file of the user's own, which may be a symlink to where dotfiles
// are kept, and must not hang where it is a fifo.
func readConf(path string) ([]byte, error) {
	fd, err := unix.Open(path, unix.O_RDONLY|unix.O_NONBLOCK|unix.O_NOCTTY|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, err
	}
	defer unix.Close(fd)
	var st unix.Stat_t
	switch err := unix.Fstat(fd, &st); {
	case err != nil:
		return nil, err
	case st.Mode&unix.S_IFMT != unix.S_IFREG:
		return nil, errors.New("it is not a regular file")
	case st.Size > toolconf.MaxSize:
		return nil, fmt.Errorf("it is larger than %d KiB", toolconf.MaxSize>>10)
	}
	buf := make([]byte, st.Size+1)
	n := 0
	for n < len(buf) {
		m, err := unix.Read(fd, buf[n:])
		switch {
		case err == unix.EINTR:
			continue
		case err != nil:
			return nil, err
		case m == 0 || int64(n+m) == st.Size:
			return buf[:n+m], nil
		}
		n += m
	}
	return buf[:st.Size], nil // it grows meanwhile
}
