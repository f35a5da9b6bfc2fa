package overlay

import "golang.org/x/sys/unix"

// DropEmpty removes an empty file or directory of the layer of which the host has nothing,
// and directories above it that are empty then. No mount has the upper.
func (o *Opened) DropEmpty(path string) {
	for path != "" && o.upper >= 0 {
		parent, name := split(path)
		if fd, err := OpenBeneath(o.lower, path, unix.O_PATH); err == nil || err != unix.ENOENT && err != unix.ENOTDIR {
			if err == nil {
				unix.Close(fd)
			}
			return
		}
		dir, err := OpenBeneath(o.upper, parent, unix.O_RDONLY|unix.O_DIRECTORY)
		if err != nil {
			return
		}
		st, err := StatAt(dir, name)
		switch {
		case err != nil:
		case st.IsDir():
			err = unix.Unlinkat(dir, name, unix.AT_REMOVEDIR)
		case st.IsRegular() && st.Size == 0 && st.Nlink == 1:
			err = unix.Unlinkat(dir, name, 0)
		default:
			err = unix.ENOTEMPTY
		}
		unix.Close(dir)
		if err != nil {
			return
		}
		path = parent
	}
}
