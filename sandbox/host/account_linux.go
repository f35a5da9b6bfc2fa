package host

import (
	"bytes"
	"fmt"
	"os"
	"strconv"
	"strings"

	"github.com/sbx-build/sbx/idmap"
	"github.com/sbx-build/sbx/sandbox/policy"
)

// account reads the caller's lines of passwd(5) and group(5). Users of a
// directory service have none; the environment then names them.
func (f *Facts) account() {
	f.User, f.Group, f.Shell = os.Getenv("USER"), "", "/bin/sh"
	if l := lineByID("/etc/passwd", f.UID); len(l) >= 7 {
		f.User, f.Gecos, f.Shell = l[0], l[4], l[6]
	}
	if l := lineByID("/etc/group", f.GID); len(l) >= 3 {
		f.Group = l[0]
	}
	if !plainName(f.User) {
		f.User = "user"
	}
	if !plainName(f.Group) {
		f.Group = f.User
	}
	if strings.ContainsAny(f.Shell+f.Gecos, ":\n") || f.Shell == "" {
		f.Shell, f.Gecos = "/bin/sh", ""
	}
}

// plainName refuses what would change the shape of a generated passwd(5).
func plainName(s string) bool { return s != "" && !strings.ContainsAny(s, ":\n\t /") }

// lineByID returns the fields of the line whose third field is id.
func lineByID(file string, id uint32) []string {
	data, err := readFile(file)
	if err != nil {
		return nil
	}
	want := strconv.FormatUint(uint64(id), 10)
	for line := range strings.Lines(string(data)) {
		fields := strings.Split(strings.TrimSuffix(line, "\n"), ":")
		if len(fields) >= 3 && fields[2] == want {
			return fields
		}
	}
	return nil
}

// maps chooses the id maps.
func (f *Facts) maps(p policy.Policy) error {
	f.UIDs, f.GIDs = idmap.Identity(f.UID), idmap.Identity(f.GID)
	if f.UID == 0 {
		if m, ok := unusedRange(); ok {
			f.UIDs, f.GIDs, f.Idmapped = m, m, true
			return nil
		}
	}
	if !p.Root {
		return nil
	}
	uids, gids, err := idmap.SubIDs(f.User, f.UID)
	if err != nil {
		return err
	}
	um, uok := idmap.Root(f.UID, uids)
	gm, gok := idmap.Root(f.GID, gids)
	if uok && gok {
		f.UIDs, f.GIDs = um, gm
		return nil
	}
	f.UIDs, f.GIDs = idmap.Map{{Inside: 0, Outside: f.UID, Length: 1}}, idmap.Map{{Inside: 0, Outside: f.GID, Length: 1}}
	f.Warnings = append(f.Warnings,
		fmt.Sprintf("%s has no subordinate ids, so root inside is the only user: chown, su and packages with users of their own will fail", f.User))
	return nil
}

// unusedBase begins a range of ids that no system gives to users: they fit an
// int, which some programs need, and lie above the ranges for subordinate ids
// and of dynamic users.
const unusedBase = 0x7fff0000

// unusedRange maps the ids up to 65534 to ids that nobody has, if the caller's
// own namespace has these: real root has, root in a container mostly not.
func unusedRange() (idmap.Map, bool) {
	for _, file := range []string{"/proc/self/uid_map", "/proc/self/gid_map"} {
		data, err := readFile(file)
		if err != nil {
			return nil, false
		}
		own, err := idmap.ParseMap(bytes.NewReader(data))
		if err != nil {
			return nil, false
		}
		first, ok1 := own.Lookup(unusedBase)
		last, ok2 := own.Lookup(unusedBase + 65534)
		if !ok1 || !ok2 || last-first != 65534 {
			return nil, false
		}
	}
	return idmap.Map{{Inside: 0, Outside: unusedBase, Length: 65535}}, true
}

// NotIdmapped makes the facts of a caller that is root those of one whose files
// cannot be idmapped.
func (f *Facts) NotIdmapped(reason error) {
	f.Idmapped = false
	f.UIDs, f.GIDs = idmap.Identity(f.UID), idmap.Identity(f.GID)
	f.Warnings = append(f.Warnings, fmt.Sprintf("the sandbox runs as root of this machine, without capabilities, because its files cannot be idmapped (%v): run sbx as an ordinary user for full protection", reason))
}
