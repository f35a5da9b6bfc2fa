package live

import (
	"golang.org/x/sys/unix"

	"github.com/sbx-build/sbx/sandbox/overlay"
)

// set notes what the mirror is; nothing: there is none.
func (m *mirror) set(e *edit, list ...overlay.Mirror) error {
	if len(list) == 0 {
		delete(m.seen, e.path)
	}
	err := m.notes.SetMirrors(e.path, list...)
	if err == nil {
		e.was = list
	}
	return err
}

// copyUp notes a directory, and those above, that get into the layer with what is done in
// it; copiedUp notes what they have become there.
func (m *mirror) copyUp(dir string) error {
	for ; dir != "" && !m.upper(dir).Exists(); dir, _ = split(dir) {
		fd, err := overlay.OpenBeneath(m.merged, dir, unix.O_PATH|unix.O_DIRECTORY)
		if err != nil {
			return err
		}
		st, err := overlay.StatFd(fd)
		unix.Close(fd)
		if err == nil {
			err = m.notes.SetMirrors(dir, overlay.Mirror{Mode: st.Mode})
		}
		if err != nil {
			return err
		}
	}
	return nil
}

func (m *mirror) copiedUp(dir string) {
	for ; dir != ""; dir, _ = split(dir) {
		was := m.notes.Mirrors(dir)
		if len(was) == 0 {
			return
		}
		if up := m.upper(dir); was.Looks(up) && (len(was) > 1 || was[0].Size == 0) {
			m.notes.SetMirrors(dir, overlay.Mirror{Mode: up.Mode, Size: int64(up.Ino)})
		}
	}
}
