// Package sandbox runs a command in a rootless sandbox, over a copy-on-write
// layer of its source tree. This is the architecture of sbx.
//
// # Pipeline
//
//	flags  ->  policy  ->  plan  ->  table  ->  process  ->  status
//	(typed)    (wanted)    (data)    (system    (the raw     (exit code)
//	                                  calls)     child)
//	                ^ the host is probed once, between policy and plan
//
// Each arrow is a function, and nothing goes back. A reader follows a run from
// Begun.Run: Open makes the policy (session.go), host.Probe looks at the
// machine, plan.Build makes the plan, package child compiles it into a table of
// system calls and has a cloned process run that, package supervise waits.
// `sbx plan` prints the plan; an error names the step of it that failed.
//
//	policy          what is wanted; rules, environment, built-in tables; pure
//	host            what the machine is; the only prober
//	plan            the steps; pure
//	internal/child  the raw child; with nonblock the only package with unsafe
//	supervise       signals, terminal, waiting
//	toolconf        tools' configuration, and how it reads without credentials; pure
//	state           what lies on disk, and the only writer there
//	overlay         what a layer changes, and the way of that to the host
//	share           how the runs of a layer find each other
//	live            what is saved on the host is seen inside
//	network         who may be connected to, and by which name
//	relay           carries packets and bytes between the sandbox and the network
//	internal/nonblock  system calls of the relay that never wait
//	internal/early  what must be done before the standard library's inits
//
// # Processes
//
//	sbx              in the host's namespaces; waits, passes signals on, lends mounts
//	 └─ init         pid 1; cloned, never executed: a table of system calls
//	     └─ command  in a session and process group of its own
//
// The runs of a layer are as many such trees, with namespaces of their own, and
// one overlay mount of each upper directory:
//
//	first run                      another run
//	  pid 1 mounts, and sends sbx    sbx asks the first for a copy (borrow.go)
//	  a detached copy (child.Lent)   pid 1 mounts the copy, and sends its sbx
//	  sbx answers (publish.go) ────► another, and so on
//
// The mount lives for as long as one of them does. Who starts or ends has the
// layer's lock (state.Lock); the last to end brings the layer into order
// (Session.settle).
//
// # What holds inside
//
//   - The root is a tmpfs that is read-only, apart from /tmp, /var, /run and
//     /dev/shm. The host's root is detached. What is shown of the host is
//     read-only, nosuid and nodev, or copy-on-write, unless a rule says --rw.
//   - No capability in any set, none to be had: bounding set empty, the securebits by
//     which uid 0 gets some locked, no_new_privs, no new user namespaces.
//   - No name on the way to a mount is followed if a build could have made it a
//     symlink, neither on the host (sources) nor inside (mount points).
//   - A network namespace with loopback, and an interface of which sbx has the other
//     end. Each connection is one that sbx makes, if the policy allows it.
//   - Only descriptors 0 to 2, an environment from an allow-list, no keyring, no
//     process, signal, socket or terminal shared with anything outside.
//   - What cannot be enforced is an error. Where a kernel lacks something that is
//     only a second line (Landlock's scopes), it is left out.
//
// # Decisions
//
// The child is begun before the policy is known, and before the Go runtime
// (package child, entry.go). Chosen against doing one after the other: making
// namespaces takes the kernel as long as the runtime takes to start, and a fork
// costs least when nothing has been touched yet. The first steps of a plan must
// therefore not depend on the policy, of which only whether there is a network is
// guessed (relayed); a plan that begins otherwise costs a second clone. The steps that
// follow are those that do without the layer (Plan.Outside), so that sbx can make that
// ready meanwhile. The price is an entry point of our own (-ldflags=-E=sbx_start) with a
// hundred lines that run without a runtime; without the flag sbx clones later, and
// is otherwise the same. Revisit when making namespaces becomes cheap.
//
// The runs of a layer share its mounts by copies that each sandbox sends before its
// command exists. Chosen against entering the first run's mount namespace, which
// the command could have prepared, and against one run at a time. A copy of a
// detached mount can be made only where it is mounted: a short-lived process does
// that in a mount namespace of its own (child.Copies). Hiding and read-only rules
// below the tree hold for all runs of a layer (Session.agree), because without the
// rule another run could unlink what the mask stands on.
//
// A run becomes known to others some milliseconds after its start
// (publishAfter), and holds the lock until then: a short run pays nothing for what
// only long ones need.
//
// What is saved on the host while a run lives is shown by reconfiguring the overlay
// (package live). Chosen against a new mount, which processes that run would not see,
// and against FUSE, which costs a build more than all of the rest. The descriptor for
// that is made once, by a short-lived process in the user namespace that owns the
// overlay; sbx then uses it itself, as the one who made that namespace.
//
// The network is relayed by sbx itself (package relay). Chosen against a program
// beside it, as slirp4netns, which would have to be there; against handing sockets of
// the host to the build by seccomp, which it could make listen on the host; and
// against proxies in the environment, which most programs do not know. The price is
// that each byte goes through sbx, at about four tenths of the speed of loopback.
//
// Overlays with an upper are mounted volatile. Chosen against a plain mount:
// its end writes back everything that is dirty on the upper's file system, other
// programs' data included, so that `sbx -- true` after a large build took as
// long as the disk needed. The price: fsync(2) inside does nothing, and files
// written shortly before the machine goes down may be incomplete. The next run
// notices that the machine went down and says so.
//
// Built-in rules below $HOME share one overlay of $HOME, of which only their
// directories are bound. Chosen against an overlay each, of which ten take as
// long as all the rest, and against read-only binds, which leave sockets open.
//
// The configuration of tools is copied into the private home, without credentials
// (package toolconf), by a step of the plan. Chosen against a read-only bind, because
// `git config --global` and `npm config set` are part of many builds, and against
// showing none, because npm would then ask the public registry for a company's
// packages. A copy that the build has not changed is replaced when the host's changes;
// whether it has is told by hashes beside the layer (state.Seeds). What a build has
// put there stays: it owns its home. Where the plan and another run differ at that
// moment, the later rename(2) wins.
//
// One pivot_root, not two: the tmpfs is mounted over /proc, becomes the root,
// and the host's root, put below it, is detached at the end. The host's paths
// keep their names with a prefix, and ours have their final ones from the start.
//
// status walks the uppers and compares bytes. Chosen against the times and inode
// numbers that make git fast: a build can set the times, and copying a file up
// gives it another inode. It reads no file whose size differs, and stops at the
// first difference. Directories are gone into by descriptors, of which a bounded
// number is open, and again from the top where more would be needed; ".." leads
// wherever a build has moved the directory.
//
// The end of a run does not read again what the last one's has found to differ.
// There the time of change decides, which a build cannot set, of a layer at rest,
// in which no mapping can change a file without it; and what a clock that was set
// back hides is a copy that stays in the layer, not a change that is not shown.
//
// A verb that meets a file which a build has closed to its owner starts again in
// a user namespace, where sbx has CAP_DAC_OVERRIDE over the caller's own files.
// Chosen against chmod: status changes nothing, and the layer may be mounted.
//
// A caller that is root gets ids that nobody has, and its files by idmapped
// mounts. Chosen against running as kuid 0 without capabilities, which passes
// every plain check of ownership; that remains where files cannot be idmapped,
// as on the overlay that is the root of a container, and a warning says so.
//
// An upper that was mounted when sbx was killed is probed before it is touched
// (plan.BuildProbe), because two mounts of one upper diverge without an error.
//
// # What is not protected
//
// The kernel: a bug in it is a way out. Quotas and limits that the host keeps
// per user are shared. A regular file that is redirected into the sandbox can be
// opened again through /proc/self/fd, also for writing, as the command may change its mode;
// that it is not left set-user-ID is seen to when sbx ends, not while it runs, and
// not where it is killed.
// What is taken out of the layer and executed on the host is the user's
// decision. Time, load and the size of the memory can be seen.
package sandbox
