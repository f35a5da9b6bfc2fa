// Package share lets the runs of a layer find each other.
//
// Two overlay mounts of one upper directory both succeed and then diverge, so the
// runs of a layer share one. The supervisor of each run holds detached copies of
// its mounts, and descriptors of its namespaces, which the sandbox has sent before
// its command existed; it hands them on over a socket in the run's directory:
//
//	runs/RUN/socket    who connects learns what the run is, and gets descriptors
//	runs/RUN/run       what it is, for when it does not answer
//
// That somebody answers is what says that the run lives. The directories above are
// closed to other users, and both sides compare the other's uid (SO_PEERCRED in
// unix(7)). Nothing inside a sandbox can reach the socket, unless a rule shows the
// state directory: such a client is refused (checkOutside). Nothing here trusts
// what a sandbox has written.
package share
