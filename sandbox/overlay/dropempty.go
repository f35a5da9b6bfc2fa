package overlay

import "golang.org/x/sys/unix"

// Absent are a path and those above it that neither the layer nor the host has anything at,
// the longest first.
func (o *Opened) Absent(path string) (list []string) {
	for path != "" && o.lacks(path) {
		list = append(list, path)
		path, _ = split(path)
	}
	return list
}

func (o *Opened) lacks(path string) bool {
	for _, root := range [...]int{o.lower, o.upper} {
		if root < 0 {
			continue
		}
		fd, err := OpenBeneath(root, path, unix.O_PATH)
		if err == nil {
			unix.Close(fd)
		}
		if err != unix.ENOENT && err != unix.ENOTDIR {
			return false
		}
	}
	return true
}

// DropEmpty removes, in their order, the files and directories of the layer that are empty.
// No mount has the upper.
func (o *Opened) DropEmpty(paths []string) {
	for _, path := range paths {
		parent, name := split(path)
		dir, err := OpenBeneath(o.upper, parent, unix.O_RDONLY|unix.O_DIRECTORY)
		if err != nil {
			continue
		}
		if st, err := StatAt(dir, name); err != nil {
		} else if st.IsDir() {
			unix.Unlinkat(dir, name, unix.AT_REMOVEDIR)
		} else if st.IsRegular() && st.Size == 0 && st.Nlink == 1 {
			unix.Unlinkat(dir, name, 0)
		}
		unix.Close(dir)
	}
}
