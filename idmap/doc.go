// Package idmap computes, checks and writes the id maps of a user namespace:
// which uid and gid inside stands for which outside (user_namespaces(7)).
//
// The package is in four parts, from pure to impure:
//
//   - [Map] is the content of /proc/PID/uid_map or gid_map: parsed, printed,
//     checked and looked up. Nothing here touches the system.
//   - [Identity], [Root] and [Unprivileged] choose a map. They are pure: the
//     same arguments give the same map, so that files kept on disk under one
//     map have the same owners in the next session.
//   - [SubIDs] finds the subordinate ids that an administrator gave to a user:
//     in /etc/subuid and /etc/subgid (subuid(5), subgid(5)), or from
//     getsubids(1) where /etc/nsswitch.conf says that they are kept elsewhere.
//   - [Write] gives a new user namespace its maps. It is called by the parent,
//     for a child that waits.
//
// A program that maps only its own id needs no file and no helper:
//
//	uids := idmap.Identity(uint32(os.Geteuid()))
//	gids := idmap.Identity(uint32(os.Getegid()))
//	err := idmap.Write(pid, uids, gids)
//
// With subordinate ids, uid 0 and the system's other ids exist inside as well,
// and newuidmap(1) and newgidmap(1) are run:
//
//	subuids, subgids, err := idmap.SubIDs(name, uid)
//	uids, ok := idmap.Root(uid, subuids)
//
// # Ids are 32 bits, less one
//
// The id 4294967295 is (uid_t)-1 and means "no change" to setresuid(2) and
// chown(2). The kernel maps it never, neither inside nor outside, and shows it
// in place of an id that the reader's own namespace does not hold.
//
// # Errors
//
// Messages have the form "cannot <verb> <object>: <cause>". The types
// [*HelperMissingError], [*NoSubIDsError], [*HelperError] and [*WriteError]
// have a method Hint, which gives a command that can be pasted into a shell, or
// "" where no single command helps. Hints are put together when asked for.
//
// # What it does not do
//
// It creates no namespace, starts no sandbox and changes no ids of the calling
// process. It never edits /etc/subuid, and it takes no lesser map when the one
// asked for is refused: that is an error, and the choice is the caller's. For
// a child started by os/exec with one map known beforehand, the fields
// UidMappings and GidMappings of syscall.SysProcAttr do without this package.
package idmap
