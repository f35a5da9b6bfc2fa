package plan

import (
	"fmt"
	"io"
	"reflect"
	"strings"

	"github.com/syndtr/gocapability/capability"

	"github.com/sbx-build/sbx/idmap"
)

// Host is where the host's root is between NewRoot and LeaveHost, and Scratch
// the directory for what is needed only while the root is assembled: lower
// layers, masks, staged binds. Proc is mounted over Scratch, so nothing of it
// is left inside.
const (
	Host    = "/.host"
	Scratch = "/proc"
	// LayerName is the layer's directory in Scratch.
	LayerName = "layer"
)

// Namespaces are the namespaces that the sandbox does not share with the host.
// User, mount, pid, ipc, uts and cgroup namespaces are always new.
type Namespaces struct {
	Net bool
	// Shared says that no namespace is new: those of another run are joined.
	Shared bool
	// User says that the user namespace alone is new: for sbx itself, with other ids.
	User bool
}

// String lists them in the words of namespaces(7).
func (n Namespaces) String() string {
	if n.Shared {
		return line("namespaces", "those of another run")
	}
	if n.User {
		return line("namespaces", "user")
	}
	s := "user mount pid ipc uts cgroup"
	if n.Net {
		s += " net"
	}
	return line("namespaces", s)
}

// Exec is the command, at the end of the plan.
type Exec struct {
	// Args is the command line; Args[0] is looked up in Path where it has no
	// slash, inside the sandbox, as execvp(3) does.
	Args []string
	// Env are KEY=VALUE strings.
	Env []string
	// Path are the directories to search.
	Path []string
	// KeepIgnored are the signals that stay ignored.
	KeepIgnored []int
}

// String is the command line, quoted where needed.
func (e Exec) String() string {
	words := make([]string, len(e.Args))
	for i, a := range e.Args {
		words[i] = show(a)
		if a == "" {
			words[i] = `""`
		}
	}
	return line("exec", strings.Join(words, " "))
}

// Plan is everything that will be done, in order. It is data: equal policies
// on equal hosts give equal plans.
type Plan struct {
	Namespaces Namespaces
	Steps      []Step
	Exec       Exec
	// LayerDirs are directories of the layer, relative to it, that must exist
	// before the plan runs; WorkDirs among them must be empty.
	LayerDirs, WorkDirs []string
	// Idmapped are host paths of which the parent makes idmapped mounts, for
	// a caller that is root (mount_setattr(2), MOUNT_ATTR_IDMAP).
	Idmapped []Idmapped
	// Watch are the tmpfs mounts to look at when the command has ended: a
	// full one explains a failed build.
	Watch []string
}

// Idmapped is a mount that only real root can make: on it the caller's files
// belong to ids that the sandbox has, and on disk to the caller still.
type Idmapped struct {
	Source   string
	ReadOnly bool
}

// WriteTo prints the plan, one step a line.
func (p Plan) WriteTo(w io.Writer) (int64, error) {
	n, err := io.WriteString(w, p.String())
	return int64(n), err
}

// String is the plan as text, stable in its columns.
func (p Plan) String() string {
	var b strings.Builder
	fmt.Fprintln(&b, p.Namespaces)
	for _, s := range p.Steps {
		fmt.Fprintln(&b, s)
	}
	fmt.Fprintln(&b, p.Exec)
	return b.String()
}

// capabilityNames are the names in capabilities(7).
func capabilityNames(list []int) string {
	if len(list) == 0 {
		return "none"
	}
	names := make([]string, len(list))
	for i, c := range list {
		names[i] = "cap_" + capability.Cap(c).String()
	}
	return strings.Join(names, " ")
}

// First are the steps with which the plan of an ordinary run begins, whatever else
// its policy says: they can be done before the policy is known. wire is nil for a run
// without a network.
func First(uid, gid uint32, landlock int, wire *Interface) []Step {
	b := &builder{made: map[string]bool{}}
	b.first(idmap.Identity(uid), idmap.Identity(gid), false, false, true, landlock, wire)
	return b.plan.Steps
}

// Outside is how many steps do not touch the layer on disk. They can be done while sbx
// makes the layer ready.
func (p Plan) Outside() int {
	for i, s := range p.Steps {
		if _, ok := s.(Open); ok {
			return i
		}
	}
	return len(p.Steps)
}

// HasPrefix says whether steps begin with first.
func HasPrefix(steps, first []Step) bool {
	return len(steps) >= len(first) && reflect.DeepEqual(steps[:len(first)], first)
}
