// Package overlay is the layer as it lies on disk: what it changes relative to
// the host, and how that comes to the host.
//
// A layer has a pair of directories for the source tree, and one for each
// joined directory: the lower is the host's, the upper holds what builds wrote.
// Where both have a name the upper's counts, and directories merge, except that
//
//	a whiteout, a character device 0:0, deletes the lower's name;
//	an opaque directory, user.overlay.opaque=y, hides the lower's, and so do
//	all directories in it.
//
// Nothing else is honoured: redirects, metacopy, origins and xattr whiteouts are
// switched off at the mount, so where they exist an import or a bug made them.
//
// # What is hostile
//
// All of an upper: names, types, sizes, depth, permissions, and the moment at
// which each of them changes, because a build may run meanwhile. So this package
// goes by descriptors and single names, never by path strings below a pair;
// follows no symlink on either side; opens only what was a regular file or a
// directory, and compares what it opened with what it saw. A fifo or a device is
// never opened. What cannot be read is an error that says which, never an entry
// left out.
//
// Permissions that a build took from its own files are the caller's to overcome:
// the error is fs.ErrPermission, and with CAP_DAC_OVERRIDE in a user namespace
// that maps the files' owners the same call works.
package overlay
