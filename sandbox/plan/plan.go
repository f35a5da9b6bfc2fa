package plan

import (
	"fmt"
	"io"
	"strings"

	"github.com/syndtr/gocapability/capability"
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
type Namespaces struct{ Net bool }

// String lists them in the words of namespaces(7).
func (n Namespaces) String() string {
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
	// Watch are the tmpfs mounts to look at when the command has ended: a
	// full one explains a failed build.
	Watch []string
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

// capabilityName is the name in capabilities(7).
func capabilityName(c int) string { return "cap_" + capability.Cap(c).String() }
