package host

import (
	"fmt"
	"math"
	"slices"
	"strings"
)

// caller is the check of who calls.
func (m Machine) caller() Check {
	c := Check{Name: "capabilities", Status: OK, Detail: fmt.Sprintf("uid %d has none, and none is needed", m.UID)}
	switch {
	case m.UID == 0 && len(m.Missing) == 0:
		c.Status, c.Detail = Info, "root, with all of them"
	case m.UID == 0:
		c.Status, c.Detail = Info, "root, without "+brief(m.Missing)
		if slices.Contains(m.Missing, "cap_setfcap") {
			c.Status, c.Detail = Warn, c.Detail+"; without cap_setfcap root may not map uid 0"
		}
	case len(m.Extra) > 0:
		c.Status, c.Detail = Info, fmt.Sprintf("uid %d has %s; none is needed, and the build gets none", m.UID, brief(m.Extra))
	}
	if m.UID == 0 && !m.Nested {
		c.Detail += "; called by an ordinary user, sbx protects better"
	}
	return c
}

// subIDs are for --root alone.
func (m Machine) subIDs(t Trials) Check {
	c := Check{Name: "subordinate_ids", Detail: fmt.Sprintf("%s has some, and newuidmap(1) and newgidmap(1) map them", m.User)}
	if c.tried(t.SubIDs) {
		return c
	}
	c = c.fail(t.SubIDs, m.adviseOn(t.SubIDs))
	c.Status = Warn
	if m.NoNewPrivs && c.Fix == "" {
		c.Detail += "; this process has no_new_privs, and setuid programs have no effect"
	}
	c.Detail += "; only --root wants them"
	return c
}

// Below these limits builds fail in ways that nobody understands.
const (
	lowProcesses = 256
	lowFiles     = 256
)

func (m Machine) limit() Check {
	c := Check{Name: "limits", Status: OK}
	var low, fix []string
	if m.Nofile[0] < lowFiles {
		low, fix = append(low, fmt.Sprintf("%d open files", m.Nofile[0])), append(fix, "ulimit -n "+amount(m.Nofile[1]))
	}
	if m.Processes < lowProcesses {
		low, fix = append(low, fmt.Sprintf("%d processes of this user", m.Processes)), append(fix, "ulimit -u unlimited")
	}
	if m.FileSize != math.MaxUint64 {
		low, fix = append(low, fmt.Sprintf("files of %d bytes", m.FileSize)), append(fix, "ulimit -f unlimited")
	}
	if low != nil {
		c.Status, c.Fix = Warn, strings.Join(fix, "\n")
		c.Detail = "the shell's limits allow no more than " + strings.Join(low, ", ")
		return c
	}
	c.Detail = fmt.Sprintf("open files %s (at most %s), processes %s", amount(m.Nofile[0]), amount(m.Nofile[1]), amount(m.Processes))
	return c
}

func amount(n uint64) string {
	if n == math.MaxUint64 {
		return "unlimited"
	}
	return fmt.Sprint(n)
}

// path is about the other programs of our name: Docker's and Vercel's
// sandboxes are called sbx, too.
func (m Machine) path() Check {
	c := Check{Name: "path", Status: OK, Detail: fmt.Sprintf("no other program is called sbx (this is %q)", m.Executable)}
	switch {
	case len(m.Earlier) > 0:
		c.Status = Warn
		c.Detail = fmt.Sprintf("another program is called sbx and comes first in PATH: %s (this is %q)", brief(m.Earlier), m.Executable)
		c.Fix = "alias sbx=" + shellWord(m.Executable)
	case len(m.Later) > 0:
		c.Status = Info
		c.Detail = fmt.Sprintf("another program is called sbx, later in PATH: %s (this is %q)", brief(m.Later), m.Executable)
	case !m.OnPath:
		c.Status = Info
		c.Detail = fmt.Sprintf("%q is in no directory of PATH", m.Executable)
		c.Fix = m.sudo() + "install " + shellWord(m.Executable) + " /usr/local/bin/sbx"
	}
	return c
}

// tree is the only check that is about the current directory.
func (m Machine) tree(t Trials) Check {
	c := Check{Name: "tree", Detail: "the current directory can be run in"}
	if c.tried(t.Tree) {
		return c
	}
	c = c.fail(t.Tree, m.adviseOn(t.Tree))
	c.Status = Warn
	return c
}
