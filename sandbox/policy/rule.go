package policy

import (
	"fmt"
	"path/filepath"
	"strings"
)

// Access says what the sandbox may do with a path. The zero value is the safe
// one.
type Access uint8

const (
	// Hidden puts an empty, unwritable file or directory in the path's place.
	Hidden Access = iota
	// ReadOnly shows the host's file or directory.
	ReadOnly
	// CopyOnWrite shows the host's directory; what is written goes into the
	// layer.
	CopyOnWrite
	// ReadWrite shows the host's file or directory and writes go to the host.
	ReadWrite
)

// String gives the word that is the flag's name too.
func (a Access) String() string {
	switch a {
	case Hidden:
		return "hide"
	case ReadOnly:
		return "ro"
	case CopyOnWrite:
		return "cow"
	case ReadWrite:
		return "rw"
	}
	return fmt.Sprintf("Access(%d)", uint8(a))
}

// Rule shows or hides one path. Of two rules the one with the longer target
// wins below that target; of two with the same target the last.
type Rule struct {
	Access Access
	// Source is the absolute path on the host; empty for Hidden.
	Source string
	// Target is the absolute path inside.
	Target string
	// Device binds a device node, or a directory of them (--dev).
	Device bool
	// Dir says that a Hidden target that does not exist is a directory.
	Dir bool
	// Optional drops the rule where the source does not exist. All built-in
	// rules are; a rule that the user typed is not.
	Optional bool
	// Literal shows a source that is a symlink as that symlink, as /bin on
	// a merged-/usr system, instead of what it points to.
	Literal bool
	// Origin says where the rule comes from: the flag as typed, or the name
	// of a built-in set.
	Origin Origin
}

// Origin tells the user where a rule comes from.
type Origin struct {
	// Flag is what was typed, empty for a built-in rule.
	Flag string
	// Builtin names the built-in set: "system", "toolchain", "cache".
	Builtin string
}

// String gives "--ro ~/x" or "built in: cache".
func (o Origin) String() string {
	if o.Flag != "" {
		return o.Flag
	}
	return "built in: " + o.Builtin
}

// String is the rule as a flag.
func (r Rule) String() string {
	name := "--" + r.Access.String()
	if r.Device {
		name = "--dev"
	}
	source := r.Source
	if r.Access == Hidden {
		source = r.Target
	}
	if r.Target == "" || source == r.Target {
		return name + " " + Escape(source)
	}
	return name + " " + Escape(source) + ":" + Escape(r.Target)
}

// Escape writes a path so that SplitPair reads it back: `\` and `:` get a
// backslash.
func Escape(path string) string {
	return strings.NewReplacer(`\`, `\\`, `:`, `\:`).Replace(path)
}

// SplitPair takes SRC[:DST] apart. `\:` is a colon that belongs to a path and
// `\\` a backslash; any other backslash stands for itself.
func SplitPair(s string) (source, target string, err error) {
	var parts []string
	var b strings.Builder
	for i := 0; i < len(s); i++ {
		switch {
		case s[i] == '\\' && i+1 < len(s) && (s[i+1] == ':' || s[i+1] == '\\'):
			i++
			b.WriteByte(s[i])
		case s[i] == ':':
			parts = append(parts, b.String())
			b.Reset()
		default:
			b.WriteByte(s[i])
		}
	}
	parts = append(parts, b.String())
	switch {
	case len(parts) > 2:
		return "", "", fmt.Errorf(`it has %d colons: write SRC[:DST], and \: for a colon in a path`, len(parts)-1)
	case parts[0] == "" || parts[len(parts)-1] == "":
		return "", "", fmt.Errorf("a path is empty")
	case strings.ContainsRune(s, 0):
		return "", "", fmt.Errorf("it contains a NUL byte")
	case len(parts) == 1:
		return parts[0], "", nil
	}
	return parts[0], parts[1], nil
}

// ParseRule reads the value of --ro, --rw, --cow, --hide or --dev. Relative
// paths start at dir, `~/` at home. The target defaults to the source as
// typed; that it may be a symlink is the prober's business.
func ParseRule(access Access, device bool, value, dir, home string) (Rule, error) {
	r := Rule{Access: access, Device: device}
	r.Origin.Flag = "--" + access.String() + " " + value
	if device {
		r.Origin.Flag = "--dev " + value
	}
	source, target, err := SplitPair(value)
	if err != nil {
		return Rule{}, &RuleError{Flag: r.Origin.Flag, Reason: err.Error()}
	}
	if access == Hidden && target != "" {
		return Rule{}, &RuleError{Flag: r.Origin.Flag, Reason: "--hide takes one path; there is nothing to show elsewhere"}
	}
	if home == "" && (atHome(source) || atHome(target)) {
		return Rule{}, &RuleError{Flag: r.Origin.Flag, Reason: "~ means nothing, because $HOME is not set"}
	}
	r.Dir = strings.HasSuffix(source, "/")
	r.Source = Absolute(source, dir, home)
	r.Target = r.Source
	if target != "" {
		r.Target = Absolute(target, dir, home)
	}
	if access == Hidden {
		r.Source = ""
	}
	if err := checkTarget(r); err != nil {
		return Rule{}, err
	}
	return r, nil
}

// kernelPlaces are built anew in every sandbox; a rule below them would either
// do nothing or undo a protection.
var kernelPlaces = []string{"/proc", "/sys", "/dev", "/.host"}

func checkTarget(r Rule) error {
	refuse := func(format string, a ...any) error {
		return &RuleError{Flag: r.Origin.Flag, Reason: fmt.Sprintf(format, a...)}
	}
	if r.Target == "/" {
		return refuse("the target is /, which the sandbox assembles itself")
	}
	if r.Device {
		if !Below(r.Source, "/dev") || !Below(r.Target, "/dev") {
			return refuse("a device is below /dev, on the host and inside")
		}
		return nil
	}
	for _, p := range kernelPlaces {
		if r.Target == p || Below(r.Target, p) {
			if p == "/dev" && r.Access != Hidden {
				return refuse("%s is the sandbox's own; --dev PATH adds a device", p)
			}
			return refuse("%s is the sandbox's own, not the host's", p)
		}
		if r.Source == p || Below(r.Source, p) {
			return refuse("%s of the host would let the build see or change the machine", p)
		}
	}
	if r.Source == "/" {
		return refuse("/ would show everything; name the directories that the build needs")
	}
	return nil
}

// Below says whether path is strictly below dir. Both are clean and absolute.
func Below(path, dir string) bool {
	if dir == "/" {
		return path != "/" && strings.HasPrefix(path, "/")
	}
	return len(path) > len(dir) && path[len(dir)] == '/' && strings.HasPrefix(path, dir)
}

// Absolute makes a typed path absolute. The shell expands `~/x` alone but not
// in `a:~/x`, so it is done here too.
func Absolute(p, dir, home string) string {
	if p == "~" {
		return home
	}
	if rest, ok := strings.CutPrefix(p, "~/"); ok {
		return filepath.Join(home, rest)
	}
	if filepath.IsAbs(p) {
		return filepath.Clean(p)
	}
	return filepath.Join(dir, p)
}

// atHome says whether Absolute needs the home directory.
func atHome(p string) bool { return p == "~" || strings.HasPrefix(p, "~/") }

// RuleError is a rule that cannot be meant.
type RuleError struct {
	// Flag is the rule as typed.
	Flag   string
	Reason string
}

func (e *RuleError) Error() string {
	return fmt.Sprintf("cannot use the rule %q: %s", e.Flag, e.Reason)
}
