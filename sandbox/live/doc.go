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
//	 and mirrored already   as replaced, then the same  MOVED_FROM MOVED_TO, and those
//	replaced                RENAME_EXCHANGE             MOVED_FROM MOVED_TO, of the file
//	                                                    ATTRIB DELETE_SELF IGNORED
//	created                 rename away, link, the same MOVED_FROM CREATE OPEN MODIFY
//	                                                    CLOSE_WRITE
//	 and looked for before  link, the same              CREATE OPEN MODIFY CLOSE_WRITE
//	deleted                 rename away, a directory    MOVED_FROM, of the file as above;
//	                        comes and goes              MOVED_TO DELETE, both ISDIR
//	 and not looked up      a name comes and goes, too  MOVED_TO MOVED_FROM, and those
//	mode or times           fchmodat                    ATTRIB
//	a new directory         fchmodat after the refresh; ATTRIB of its name; CREATE DELETE,
//	                        a name comes and goes       both ISDIR, of .sbx-mirror-…
//	a deleted directory     rmdir, or as a file         DELETE, perhaps after MOVED_TO
//
// What comes of it in the upper is a mirror (overlay.Mirror). It is no change, and when
// the layer is at rest it is removed, by the journal, whoever was killed meanwhile. What
// the layer has a version of its own of is never mirrored; neither is what a mount of
// a sandbox stands on, as the kernel detaches a mount with its mount point. Watched
// files are held across refreshes (hold.go).
//
// One supervisor of a layer does this for each overlay: who gets the lock of it
// (flock(2)); the others wait for the lock, which ends with its holder (charge.go). One
// that is stopped by Ctrl-Z lets go of it before (Suspend). By SIGSTOP it cannot: the
// others look twice a second whether the one in charge is stopped, and one of them takes
// its place; when it goes on, it finds that out before it does anything. It begins when
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
// setting the time of modification alone is IN_MODIFY. A second edit is an exchange,
// because writing into a copy cannot be told from writing over what a build has just put
// there. Exchanged, the old one can be looked at: same inode, size, time, content, and
// nobody has it open for writing (F_SETLEASE). It is deleted only after a while (park.go),
// because a build that is in the middle of open(2) shows nowhere; but at once in a tree
// without .git, where a build might copy it along. Chosen against rename(2), which loses
// a file that a build has renamed there in the meantime, and against the order of the
// arguments in which the last event of the name is IN_MOVED_FROM.
//
// A file that was created on the host can be seen through the overlay already. It is
// renamed away and a copy linked in its place, because there is no other way to
// IN_CREATE: for some ten microseconds a new file is not there. One that was deleted and
// not looked up cannot be unlinked: its name appears and goes once more (blink).
//
// IN_DELETE is of a directory in the name's place (phantom). Chosen against unlink(2) of a
// file, which would delete what a build has just renamed there: rmdir(2) deletes nothing
// that has content, and the price is IN_ISDIR in the mask.
//
// A whiteout that comes of such a name when the host makes one at that very moment is the
// one thing that is taken out of the upper of a mounted overlay directly (unveil). It has no
// inode inside that anybody could hold.
//
// A directory that came into the layer by mirrors is taken out of it before the refresh when
// the host renames it (withdraw). The kernel has one inode inside for each directory of the
// host's that was copied up; while a watch keeps that, the host's new name for it would be
// ESTALE.
//
// # Limits
//
// IN_CREATE of a directory is not to be had: what mkdir(2) makes inside hides the host's
// for as long as it is watched. Programs that read the parent again when they are woken
// find the new directory (tsc, vite, webpack, nodemon, chokidar); those that go by the
// name in IN_CREATE alone (inotifywait -r, Go programs with fsnotify) do not, and must be
// started again to watch it.
//
// Who watches a file itself sees the first edit in place as such, and each later one as
// the replacement of the file: its watch ends with IN_DELETE_SELF, as with most editors.
//
// The events come with others (MOVED_FROM before CREATE, and MOVED_TO before DELETE), and
// several edits of one name within a batch are one.
//
// A file of more than 32 MiB is not mirrored, nor is one with a setuid, setgid or sticky bit,
// or that cannot be read: who watches its directory gets IN_ATTRIB of that directory, and a
// mirror of what it was before is taken away. Nor is what is in a git
// directory outside of the tree, a worktree's or a submodule's: it is shown, and watchers
// there are not woken. Nor are files and directories of an owner or group that has no id
// inside, which cannot be copied up.
//
// A directory that a build has written to, that a process inside holds (working directory,
// descriptor, watch), and that the host renames, is ESTALE under its new name until the
// process lets go. So is, at times, one with mirrors that nobody inside has looked up since
// the last refresh.
//
// A mirror stays as it is where the host cannot be followed: of a file that the host writes
// to by another name (a hard link), and in a directory that the host has made read-only and
// writes to nevertheless. It goes with the last run. Extended attributes that a build gives
// a mirrored file are lost with the next edit on the host.
//
// A tree that is itself moved away or replaced stays the old one for the runs that live;
// that is said (compare).
//
// One in charge that is stopped by SIGSTOP in the middle of a mirror lets nobody else mirror
// until it goes on; what is edited is shown.
package live
