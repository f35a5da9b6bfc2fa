package idmap

import (
	"errors"
	"fmt"
	"os"

	"golang.org/x/sys/unix"
)

// facts are what tells apart the many reasons for one errno. They are read after
// a failure, and each is at its zero value when it could not be.
type facts struct {
	caps      uint64 // the caller's effective capabilities, bit n for number n
	written   bool   // the namespace has this map already
	inherited bool   // the process is in the caller's own user namespace
	own       Map    // the caller's own map of the same kind
}

// explained turns an error of writing the file name of a process into a
// WriteError that tells what it means.
func explained(pid int, name string, m Map, err error) error {
	err = cause(err)
	var errno unix.Errno
	if !errors.As(err, &errno) {
		return &WriteError{File: name, PID: pid, Err: err}
	}
	return &WriteError{File: name, PID: pid, Err: errno, why: meaning(name, m, errno, readFacts(pid, name))}
}

func readFacts(pid int, name string) facts {
	f := facts{caps: effective()}
	kind := name
	if name == "setgroups" {
		kind = "gid_map"
	}
	if m, err := readMap(procFile(pid, kind)); err == nil {
		f.written = len(m) > 0
	}
	f.own, _ = readMap("/proc/self/" + kind) // nil: not known
	ours, err1 := os.Readlink("/proc/self/ns/user")
	theirs, err2 := os.Readlink(procFile(pid, "ns/user"))
	f.inherited = err1 == nil && err2 == nil && ours == theirs
	return f
}

// effective returns the effective capabilities of this thread (capget(2)).
func effective() uint64 {
	header := unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}
	var data [2]unix.CapUserData
	if err := unix.Capget(&header, &data[0]); err != nil {
		return 0
	}
	return uint64(data[1].Effective)<<32 | uint64(data[0].Effective)
}

func readMap(path string) (Map, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	return ParseMap(f)
}

// meaning is the one table of what an errno says about a map: the rules are in
// user_namespaces(7), the code is kernel/user_namespace.c:map_write and
// proc_setgroups_write. It returns "" for an errno that speaks for itself.
func meaning(name string, m Map, errno unix.Errno, f facts) string {
	switch errno {
	case unix.ENOENT, unix.ESRCH:
		return "the process has ended, or /proc is not that of its pid namespace"
	case unix.EACCES:
		if f.inherited { // setgroups is opened by the owner of the namespace only
			return refusal(name, m, f)
		}
		return "the process is another user's or not dumpable, or a security module such as AppArmor forbids it"
	case unix.EROFS:
		return "/proc is mounted read-only"
	case unix.EINVAL:
		return "this kernel takes no such map; before Linux 4.15 it had 5 extents at most"
	case unix.EPERM:
		return refusal(name, m, f)
	}
	return ""
}

func refusal(name string, m Map, f facts) string {
	switch {
	case f.inherited:
		return "the process is not in a user namespace of its own"
	case f.written:
		return "the namespace has this map already, and it can be written once"
	case name == "setgroups":
		return "the caller does not own the user namespace"
	}
	if text := unknownOutside(m, f.own); text != "" {
		return text
	}
	number, capability := unix.CAP_SETUID, "CAP_SETUID"
	if name == "gid_map" {
		number, capability = unix.CAP_SETGID, "CAP_SETGID"
	}
	_, mapsRoot := m.Reverse(0)
	switch {
	case name == "uid_map" && mapsRoot && f.caps&(1<<unix.CAP_SETFCAP) == 0:
		return "the caller lacks CAP_SETFCAP, which mapping uid 0 of its own user namespace takes since Linux 5.12"
	case f.caps&(1<<number) == 0:
		return "without " + capability + " the kernel lets a caller map its own id only"
	}
	return "the kernel tells no more; see user_namespaces(7)"
}

// unknownOutside tells which extent of m the caller's namespace cannot provide.
// The ids outside are ids inside own, and an extent must lie within one of own.
func unknownOutside(m, own Map) string {
	if len(own) == 0 {
		return ""
	}
	for _, e := range m {
		switch _, ok := own.Lookup(e.Outside); {
		case !ok:
			return fmt.Sprintf("id %d is not mapped in the caller's own user namespace", e.Outside)
		case !own.holdsSpan(e.outside()):
			return fmt.Sprintf("ids %d to %d do not lie within one extent of the caller's own map", e.Outside, e.outside().end-1)
		}
	}
	return ""
}
