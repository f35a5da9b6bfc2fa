// Package seccomp compiles a profile of system calls into a classic BPF program
// for seccomp(2), in Go alone. It is of use without the rest of sbx.
//
//	arch, err := seccomp.Native()
//	program, err := seccomp.Default(seccomp.Options{}).Compile(arch)
//	fmt.Print(program) // the disassembly
//
// A [Profile] is data: rules of names, conditions on arguments and an [Action];
// the first rule that applies decides. [Profile.Compile] is pure and makes a
// program for a machine, not for an ABI: a filter that only knows x86_64 numbers
// leaves i386 open or breaks it. [Default] is the profile for builds.
//
// Decisions:
//
//   - Every ABI of a machine gets the same profile under its own numbers: gcc -m32,
//     wine and 32 bit tests are part of builds. x32 fails with ENOSYS as on most
//     kernels, whatever the profile says. An unknown architecture kills.
//   - Conditions on 32 bit ABIs compare 32 bits, since 64 bit code can call them
//     through int 0x80 with anything in the high halves.
//   - socketcall(2), which i386 has, cannot make sockets: the family is in memory.
//     The price is that 32 bit programs whose libc does not use socket(2) have
//     no sockets; allowing it would give AF_VSOCK to everyone who can execute
//     int 0x80. Revisit when distributions configure glibc for Linux 4.3.
//   - Requests of ioctl(2) are refused by name: TIOCSTI, TIOCLINUX, all of btrfs and
//     bcachefs but clones of files. A list of the allowed ones would have to know
//     every terminal, device and file system that a build may meet.
//   - Refused calls get an errno and do not kill: builds probe.
//   - A balanced tree of comparisons against the number, instead of a list with
//     the calls in most use first: ten to fifteen instructions for every
//     call, and the kernel caches the calls that are always allowed (since 5.11).
//   - All tables are compiled in everywhere and are plain sorted data, with
//     nothing to do at start-up, so that each machine's program can be compiled,
//     printed and tested on the other.
//
// The package does not install programs: after fork(2) that is a matter of raw
// calls, and before it there is no good moment. It requires Linux 4.8 where
// ptrace(2) is allowed: earlier kernels let a tracer change a call after the
// filter saw it. It does not look at memory, so it cannot decide on paths,
// addresses or clone3(2). It does not know big endian machines. It has no
// SECCOMP_RET_USER_NOTIF: see the warning in seccomp_unotify(2).
package seccomp
