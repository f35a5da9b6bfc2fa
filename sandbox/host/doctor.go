package host

import (
	"errors"
	"fmt"
	"slices"
	"strings"
)

// Status is how a check ended. The zero value is the one that nobody overlooks.
type Status uint8

const (
	// Fail: no sandbox can be made here until this is repaired.
	Fail Status = iota
	// Warn: a run works, but less well or not with every flag.
	Warn
	// Info is worth knowing, or could not be tried.
	Info
	// OK: it was tried and works.
	OK
)

func (s Status) String() string {
	switch s {
	case OK:
		return "ok"
	case Info:
		return "info"
	case Warn:
		return "warn"
	}
	return "fail"
}

// MarshalText makes the word the form in JSON.
func (s Status) MarshalText() ([]byte, error) { return []byte(s.String()), nil }

// A Check is one thing that a sandbox needs.
type Check struct {
	// Name does not change from version to version.
	Name   string `json:"name"`
	Status Status `json:"status"`
	// Detail says what was found, in words.
	Detail string `json:"detail"`
	// Fix is what repairs it: commands, one a line; "" if there is nothing to
	// repair.
	Fix string `json:"fix"`
}

// A Diagnosis is the answer of `sbx doctor`, and its --json form is the schema:
// later versions may add checks, and fields with another Version.
type Diagnosis struct {
	Version int `json:"version"`
	// OK says that `sbx -- true` works: it was really run.
	OK     bool    `json:"ok"`
	Checks []Check `json:"checks"`
}

// Trials are what came of really doing each thing in a sandbox of its own: nil
// where it worked, ErrNotTried where something else stood in the way.
type Trials struct {
	Clone     error // clone(2) with all the namespaces
	Maps      error // the id maps of user_namespaces(7)
	Tmpfs     error // mount(2) of a tmpfs
	Pivot     error // pivot_root(2)
	Setattr   error // mount_setattr(2) of the whole tree of mounts
	State     error // a directory made in the state directory
	Xattr     error // TryXattr there
	Overlay   error // an overlay with its upper there, and a file written in it
	Live      error // an overlay refreshed, and a tree watched
	Proc      error // a new proc
	Sysfs     error // a new sysfs
	Network   error // a network namespace with lo up
	Interface error // an interface in it, with sbx at its other end
	Filter    error // the seccomp filter of a run
	Scope     error // the Landlock scope
	SubIDs    error // maps of subordinate ids, by the two helpers
	Tree      error // a plan for the current directory
	Run       error // `sbx --rm -- true` in a temporary tree
}

// ErrNotTried is the result of a trial that another's failure made impossible.
var ErrNotTried = errors.New("not tried")

// Untried are trials of which none has been made.
func Untried() Trials {
	e := ErrNotTried
	return Trials{e, e, e, e, e, e, e, e, e, e, e, e, e, e, e, e, e, e}
}

// Diagnose judges what was found and tried. It tries nothing itself.
func Diagnose(m Machine, t Trials) Diagnosis {
	d := Diagnosis{Version: 1, Checks: []Check{
		m.kernel(),
		m.caller(),
		m.surroundings(t),
		m.userNamespaces(t),
		m.appArmor(t),
		m.plain("tmpfs", t.Tmpfs, "can be mounted in a user namespace"),
		m.plain("pivot_root", t.Pivot, "works"),
		m.plain("mount_setattr", t.Setattr, "works, recursively"),
		m.state(t),
		m.overlay(t),
		m.live(t),
		m.etc(),
		m.plain("proc", t.Proc, "a new one can be mounted"),
		m.sysfs(t),
		m.plain("network_namespace", t.Network, "can be made, with lo up"),
		m.network(t),
		m.plain("seccomp", t.Filter, "takes the filter of a run"),
		m.landlock(t),
		m.subIDs(t),
		m.tun(),
		m.limit(),
		m.path(),
		m.tree(t),
	}}
	run := m.plain("run", t.Run, "sbx --rm -- true works, in a temporary source tree")
	failed := slices.ContainsFunc(d.Checks, func(c Check) bool { return c.Status == Fail })
	if failed && run.Status == Fail {
		// What is to be done stands above.
		run = run.fail(t.Run, advice{})
	}
	// A caller that is root maps other ids in a run than in the trials.
	if run.Status == OK && m.UID == 0 {
		failed = false
		for i, c := range d.Checks {
			if c.Status == Fail {
				d.Checks[i].Status = Warn
			}
		}
	}
	d.OK = run.Status == OK && !failed
	d.Checks = append(d.Checks, run)
	return d
}

// plain is a check that is nothing but a trial.
func (m Machine) plain(name string, err error, works string) Check {
	c := Check{Name: name, Detail: works}
	if c.tried(err) {
		return c
	}
	return c.fail(err, m.adviseOn(err))
}

// tried fills the status of a trial that worked or was not made.
func (c *Check) tried(err error) bool {
	switch err {
	case nil:
		c.Status = OK
	case ErrNotTried:
		c.Status, c.Detail = Info, "not tried: a check above failed"
	default:
		return false
	}
	return true
}

// fail is the check with an error and what is to be done about it.
func (c Check) fail(err error, a advice) Check {
	c.Status, c.Fix = Fail, a.fix
	c.Detail = strings.ReplaceAll(err.Error(), "\n", "; ") // of errors.Join
	if a.why != "" {
		c.Detail += "; " + a.why
	}
	return c
}

// adviseOn finds the best advice for an error: its own hint, or what the facts
// say. That one should run the doctor is none.
func (m Machine) adviseOn(err error) advice {
	var h interface{ Hint() string }
	if errors.As(err, &h) && h.Hint() != "" {
		return advice{fix: h.Hint()}
	}
	f, ok := failureOf(err)
	if !ok {
		return advice{}
	}
	list := m.advise(f)
	if list[0] == m.doctor() {
		return advice{}
	}
	a := list[0]
	for _, more := range list[1:] {
		a.why += "; " + more.why
		a.fix += "\n" + more.fix
	}
	return a
}

func (m Machine) userNamespaces(t Trials) Check {
	c := Check{Name: "user_namespaces", Detail: "can be created and used"}
	if limit, ok := m.Sysctls[sysctlUsers]; ok {
		c.Detail += fmt.Sprintf(" (%s = %d)", sysctlUsers, limit)
	}
	for _, err := range []error{t.Clone, t.Maps} {
		if !c.tried(err) {
			return c.fail(err, m.adviseOn(err))
		}
	}
	return c
}

// appArmor is about Ubuntu's restriction. It is to blame only where the first
// things that take a capability failed.
func (m Machine) appArmor(t Trials) Check {
	c := Check{Name: "apparmor", Status: OK}
	switch refused := t.Clone != nil || t.Maps != nil || t.Tmpfs != nil; {
	case !m.restricted() && m.AppArmor == "":
		c.Detail = "not in force"
	case !m.restricted():
		c.Detail = fmt.Sprintf("does not restrict user namespaces (this process is %q)", m.AppArmor)
	case !refused:
		c.Detail = fmt.Sprintf("restricts user namespaces, and lets sbx make them (this process is %q)", m.AppArmor)
	default:
		a := m.profile(fmt.Sprintf("%s is 1: a user namespace of a program without a profile gets no capabilities; this is the profile for %q", sysctlAppArmor, m.Executable))
		c.Status, c.Detail, c.Fix = Fail, a.why, a.fix
	}
	return c
}
