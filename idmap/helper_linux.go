package idmap

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/user"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// helperTimeout bounds newuidmap(1) and newgidmap(1) together. They take some
// milliseconds, unless the subordinate ids come from a network service.
const helperTimeout = 10 * time.Second

// helper is one of the two programs, which differ in nothing else.
type helper struct {
	name string // newuidmap
	file string // of the user's subordinate ids
	m    Map
	path string
}

// writeByHelpers runs both programs at the same time: each takes 2 to 9 ms.
func writeByHelpers(pid int, uids, gids Map) error {
	return runHelpers(pid, uids, gids, programDirs(), helperTimeout)
}

func runHelpers(pid int, uids, gids Map, dirs []string, timeout time.Duration) error {
	helpers := [...]helper{
		{name: "newuidmap", file: subuidFile, m: uids},
		{name: "newgidmap", file: subgidFile, m: gids},
	}
	for i, h := range helpers {
		path, ok := findProgram(h.name, dirs)
		if !ok {
			return &HelperMissingError{Name: h.name}
		}
		helpers[i].path = path
	}
	ctx, cancel := context.WithTimeout(context.Background(), timeout)
	defer cancel()
	failures := make(chan error, 1)
	go func() { failures <- helpers[1].run(ctx, pid) }()
	uidErr := helpers[0].run(ctx, pid)
	gidErr := <-failures

	var noUIDs, noGIDs *NoSubIDsError
	if errors.As(uidErr, &noUIDs) && errors.As(gidErr, &noGIDs) {
		return uidErr // one command gives both, see Hint
	}
	return errors.Join(uidErr, gidErr)
}

// run gives the map to the program: "newuidmap PID INSIDE OUTSIDE LENGTH ...".
func (h helper) run(ctx context.Context, pid int) error {
	args := append([]string{strconv.Itoa(pid)}, strings.Fields(h.m.String())...)
	output, err := runProgram(ctx, h.path, args...)
	if err == nil {
		return nil
	}
	if ctx.Err() != nil {
		return &HelperError{Name: h.name, Output: output, Err: ctx.Err(), why: "it was stopped, as it did not end in time"}
	}
	return h.explain(pid, output, cause(err))
}

// explain finds what the message of a program means, from facts read now.
func (h helper) explain(pid int, output string, err error) error {
	e := &HelperError{Name: h.name, Output: output, Err: err}
	switch {
	case strings.Contains(output, "not allowed"):
		name, uid := caller()
		if none, known := hasNoSubIDs(h.file, name, uid); known && none {
			return &NoSubIDsError{User: name, File: h.file}
		}
		e.why = fmt.Sprintf("%q does not give this range to %q", h.file, name)
		e.hint = "getsubids " + shellQuote(name)
		if h.file == subgidFile {
			e.hint = "getsubids -g " + shellQuote(name)
		}
	case strings.Contains(output, "owned by a different user"):
		e.why = "the caller's group is not the one in its passwd entry, as after newgrp(1), or the process is not dumpable"
	case strings.Contains(output, "Cannot determine your user name"):
		e.why = fmt.Sprintf("uid %d has no passwd entry", os.Getuid())
	case strings.Contains(output, "Operation not permitted"):
		e.why, e.hint = h.powerless(pid)
	}
	return e
}

// powerless tells why the kernel refused the map to the program itself. If it
// is not the map, then the program lives by its setuid bit, or by a file
// capability in its place, and several things take the effect of both away.
func (h helper) powerless(pid int) (why, hint string) {
	kind := "uid_map"
	if h.file == subgidFile {
		kind = "gid_map"
	}
	f := readFacts(pid, kind)
	if f.inherited || f.written || unknownOutside(h.m, f.own) != "" {
		return refusal(kind, h.m, f), ""
	}
	if on, err := unix.PrctlRetInt(unix.PR_GET_NO_NEW_PRIVS, 0, 0, 0, 0); err == nil && on == 1 {
		return "no_new_privs is set, which takes the effect of setuid programs away", ""
	}
	var mount unix.Statfs_t
	if err := unix.Statfs(h.path, &mount); err == nil && mount.Flags&unix.ST_NOSUID != 0 {
		return fmt.Sprintf("%q is on a file system mounted nosuid", h.path), ""
	}
	info, err := os.Stat(h.path)
	if err != nil || info.Mode()&fs.ModeSetuid != 0 {
		return "the kernel refused the map; see user_namespaces(7)", ""
	}
	if _, err := unix.Getxattr(h.path, "security.capability", nil); errors.Is(err, unix.ENODATA) {
		return fmt.Sprintf("%q has neither the setuid bit nor a file capability", h.path), "sudo chmod u+s " + shellQuote(h.path)
	}
	return "the kernel refused the map; see user_namespaces(7)", ""
}

// caller returns the login name of the real uid, which is what the programs go
// by, or the uid in decimal where there is no name to be found.
func caller() (name string, uid uint32) {
	uid = uint32(os.Getuid())
	u, err := user.LookupId(strconv.FormatUint(uint64(uid), 10))
	if err != nil {
		return strconv.FormatUint(uint64(uid), 10), uid
	}
	return u.Username, uid
}

// hasNoSubIDs tells whether the user has no range in file; known is false when
// that cannot be found out.
func hasNoSubIDs(file, name string, uid uint32) (none, known bool) {
	uids, gids, err := SubIDs(name, uid)
	if err != nil {
		return false, false
	}
	if file == subgidFile {
		return len(gids) == 0, true
	}
	return len(uids) == 0, true
}
