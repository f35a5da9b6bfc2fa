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
// Events of inotify(7) are another matter: a process inside that watches a file learns
// nothing of what happens below the overlay. So what the host does to a file that is
// watched inside is done once more, through the overlay, before the refresh:
//
//	/proc/PID/fdinfo ──inodes──► watched (watchers.go)
//	what has changed ──────────► mirror (mirror.go): which paths, and what
//	                               │ noted in the journal, then done (swap.go)
//	overlay ◄──────────────────────┘ looked at, and taken back if a build was there
//
//	host                    through the overlay         events inside
//	written in place        open, set its time, close   OPEN MODIFY CLOSE_WRITE
//	replaced, or created    RENAME_EXCHANGE             MOVED_FROM MOVED_TO, of the file
//	                                                    ATTRIB DELETE_SELF IGNORED
//	deleted                 rename away, unlink         MOVED_FROM, of the file as above
//	 and not looked up      a name comes and goes       MOVED_TO MOVED_FROM
//	mode or times           fchmodat                    ATTRIB
//	a directory             fchmodat after the refresh  ATTRIB
//
// What comes of it in the upper is a mirror (overlay.Mirror). It is no change, and when
// the layer is at rest it is removed, by the journal, whoever was killed meanwhile. What
// the layer has a version of its own of is never mirrored; neither is what a mount of
// a sandbox stands on, as the kernel detaches a mount with its mount point. Watched
// files are held across refreshes (hold.go).
//
// One supervisor of a layer does this for each overlay: who gets the lock of it
// (flock(2)); the others wait for the lock, which ends with its holder. One that is
// stopped by Ctrl-Z lets go of it before (Suspend); by SIGSTOP it cannot. It begins
// when the command has been running for a while, and does nothing while nobody edits.
//
// # Decisions
//
// A watch of each directory by inotify(7), not package fsnotify: that has neither
// watches relative to a descriptor nor a budget, keeps the path of each directory as
// a string, and makes an event of every write. Not fanotify(7): a user without
// privileges cannot mark a whole file system. Not a look at all times of change: a
// hundred thousand directories take half a second, again and again.
//
// inotify watches are the user's, shared with the editor. The trees of a run get a
// quarter of them at most, and directories that only package managers and builds write
// to get what the others leave, and not many (bulky): what of those is not watched is
// seen with the next change elsewhere, or after bulkyInterval. Where others get none,
// the overlay is refreshed every slowInterval, and the user is told. Both cost a build
// that has many names cached, which is why not every tree is refreshed so.
//
// Mirrors go into the upper of a mounted overlay by the overlay alone. Chosen against
// touching a file and unlinking the upper's copy behind the overlay's back: the next
// open for writing inside fails with ENOENT. And against a temporary name that comes
// and goes in the directory: who watches the file sees nothing, and who watches the
// directory another name.
//
// First the mirror, then the refresh: after it the name is another inode, and the
// watches of the old one are lost without an event. For the same reason watched files
// are held: a refresh drops the name of a file that nobody has open.
//
// In place only where the upper has no copy yet: overlayfs copies the host's file
// itself, every byte is compared before anybody inside is told (overlay.CopiedUp), and
// setting the time of modification alone is IN_MODIFY. A second edit is an exchange, because writing into a copy cannot
// be told from writing over what a build has just put there. Exchanged, the old one can
// be looked at: same inode, size, time, content, and nobody has it open for writing
// (F_SETLEASE). Chosen against rename(2), which loses a file that a build has renamed
// there in the meantime, and against the order of the arguments in which the last event
// of the name is IN_MOVED_FROM. IN_DELETE and IN_CREATE are therefore IN_MOVED_FROM and
// IN_MOVED_TO inside, which tools take alike.
//
// A file that was created on the host can be seen through the overlay already, and one
// that was deleted and not looked up cannot be unlinked: the one is exchanged with a
// copy, of the other the name appears and goes once more (blink).
package live
