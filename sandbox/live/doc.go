// Package live shows inside a sandbox what is saved on the host.
//
// An overlay keeps the names that it has looked up: a file that the host replaces by
// rename, as editors and git do, stays the old one inside, one that it deletes stays
// readable, and one that it adds stays absent where it was looked for before. What is
// written in place is seen at once. When the owner of the overlay reconfigures it, the
// kernel drops those names, as far as nobody holds them, and all is as it is on the
// host (child.Overlay). So:
//
//	host's tree ──inotify──► tree (tree.go) ──what has changed──► Watcher (watch.go)
//	                                                                │ quiet for a moment
//	overlay ◄──────────────── Refresh ◄─────────────────────────────┤
//	host's tree, overlay ──stat──► checker (check.go): what is held ┘ again, later
//
// One supervisor of a layer does this for each overlay: who gets the lock of it
// (flock(2)); the others wait for the lock, which ends with its holder. It begins when
// the command has been running for a while, and does nothing while nobody edits.
//
// # Decisions
//
// A watch of each directory by inotify(7), not package fsnotify: that has neither
// watches relative to a descriptor nor a budget, keeps the path of each directory as
// a string, and makes an event of every write. Not fanotify(7): a user without
// privileges cannot mark a whole file system. Not a look at all times of change: a
// hundred thousand directories take half a second, again and again.
//
// inotify watches are the user's, shared with the editor. A tree gets a quarter of
// them at most, and directories that only package managers and builds write to get
// what the others leave (bulky); what of those is not watched is seen with the next
// change elsewhere. Where others get none, the overlay is refreshed every
// slowInterval, and the user is told.
package live
