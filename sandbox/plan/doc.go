// Package plan turns a policy and the facts of the host into a Plan: the list
// of steps that assemble the sandbox, and the command. It is pure, makes no
// system call, and is tested by golden files; `sbx plan` prints what it makes.
//
// Mounts are placed by one rule: parents before children, and of two at one
// path the later. A mount stands either on a tmpfs that sbx made in this run,
// where its mount point is simply created, or on ground that a build could have
// written to in an earlier run (the private home, the tree, a cache), where
// package child walks to it without following symlinks (Place.Ground).
//
// The order of the steps is a matter of safety and of the kernel's rules:
//
//	map_ids, set_ids     an id must be there before anything is made as it
//	private, root        a tmpfs is the root, the host's root lies below Host
//	device, stage        what must not become nodev or read-only
//	seal                 all of the host read-only, nosuid, nodev, in one call
//	mounts               parents first
//	proc                 while the host's proc is in sight; covers Scratch
//	leave_host           the host's root is gone
//	keyring … seccomp    from here on only less is possible
package plan
