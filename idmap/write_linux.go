package idmap

import (
	"errors"
	"fmt"
	"os"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// Write gives the process pid its uid and gid map. The process is a child of the
// caller that has not been waited for, so that the number cannot be another's,
// in a new user namespace whose parent is the caller's, and it is dumpable
// (prctl(2), PR_SET_DUMPABLE): else its files in /proc belong to root. It has to
// wait until Write has returned: its ids do not exist before.
//
// Maps that hold one id each, which is the caller's own outside, are written
// directly; so are all maps of a caller with uid 0, as long as the kernel lets
// it: since Linux 5.12 it needs CAP_SETFCAP even for its own uid 0. Other maps are given to newuidmap(1) and newgidmap(1), both at the same
// time and for at most 10 s. They take as outside ids what /etc/subuid and
// /etc/subgid give to the caller, see [SubIDs], and one id that is its own.
//
// With a gid map of one id, setgroups(2) is denied in the namespace, for good
// (user_namespaces(7)): else a process could leave a group that is denied
// access. With more gids it works inside.
//
// Either both maps are written or an error is returned; after an error the
// namespace may have one of them, and is of no more use, as a map can be written
// once. Errors are *[WriteError], *[HelperMissingError], *[NoSubIDsError],
// *[HelperError], or two of them joined; maps that are not valid are refused
// before anything is written.
func Write(pid int, uids, gids Map) error {
	if err := checkBoth(pid, uids, gids); err != nil {
		return err
	}
	if onlyOwn(uids, os.Geteuid()) && onlyOwn(gids, os.Getegid()) {
		return writeDirectly(pid, uids, gids)
	}
	if os.Geteuid() != 0 {
		return writeByHelpers(pid, uids, gids)
	}
	err := writeDirectly(pid, uids, gids)
	if !refused(err) {
		return err
	}
	// Root without CAP_SETUID, as in some containers, may yet have subordinate ids.
	// When it has none, the kernel's refusal says more than that of the helpers.
	if writeByHelpers(pid, uids, gids) != nil {
		return err
	}
	return nil
}

func checkBoth(pid int, uids, gids Map) error {
	if pid <= 0 {
		return fmt.Errorf("internal error: idmap.Write of process %d", pid)
	}
	var errs []error
	if faults := uids.faults(); len(faults) > 0 {
		errs = append(errs, fmt.Errorf("cannot write uid_map: %s", strings.Join(faults, "; ")))
	}
	if faults := gids.faults(); len(faults) > 0 {
		errs = append(errs, fmt.Errorf("cannot write gid_map: %s", strings.Join(faults, "; ")))
	}
	return errors.Join(errs...)
}

// onlyOwn tells whether the map holds one id, which is outside the one given.
func onlyOwn(m Map, id int) bool { return m.Single() && m[0].Outside == uint32(id) }

// refused tells whether err is the kernel's refusal of the first of the maps,
// after which the namespace still has none.
func refused(err error) bool {
	var e *WriteError
	return errors.As(err, &e) && e.File == "uid_map" && errors.Is(e.Err, unix.EPERM)
}

// writeDirectly writes setgroups before gid_map: without CAP_SETGID the kernel
// takes a gid map only when setgroups(2) is denied (Linux 3.19), and after the
// map that cannot be set any more.
func writeDirectly(pid int, uids, gids Map) error {
	if gids.Single() {
		if err := writeFile(pid, "setgroups", "deny"); err != nil {
			return explained(pid, "setgroups", nil, err)
		}
	}
	if err := writeFile(pid, "uid_map", uids.String()); err != nil {
		return explained(pid, "uid_map", uids, err)
	}
	if err := writeFile(pid, "gid_map", gids.String()); err != nil {
		return explained(pid, "gid_map", gids, err)
	}
	return nil
}

// writeFile writes text in one write(2), as the kernel wants it for a map.
func writeFile(pid int, name, text string) error {
	f, err := os.OpenFile(procFile(pid, name), os.O_WRONLY, 0)
	if err != nil {
		return err
	}
	defer f.Close()
	_, err = f.WriteString(text)
	return err
}

func procFile(pid int, name string) string {
	return "/proc/" + strconv.Itoa(pid) + "/" + name
}
