package policy

import (
	"fmt"
	"strings"

	"github.com/sbx-build/sbx/sandbox/toolconf"
)

// Policy is what the user wants of one run.
type Policy struct {
	// Tree is the real path of the source tree.
	Tree string
	// With are further directories that join the tree's layer.
	With []With
	// Home is the caller's $HOME, a real path, or empty where there is none.
	Home string
	// Rules are the built-in rules followed by the user's, in order.
	Rules []Rule
	// Conf are the files of tools that appear in Home without credentials.
	Conf    []toolconf.File
	Network Network
	// NetAllow adds to what the network gives, Publish gives servers inside to the
	// host.
	NetAllow []NetRule
	Publish  []Publish
	// Dir is the working directory inside, a real path.
	Dir string
	// LogicalDir is $PWD where that names Dir by way of symlinks, else "".
	LogicalDir string
	// Root asks for uid 0 inside.
	Root bool
	// AllowUserns lifts the refusal of user namespaces inside.
	AllowUserns bool
	// TmpSize limits /tmp, /var, /run and /dev/shm together, in bytes; 0 is
	// half of the memory, the kernel's default for tmpfs(5).
	TmpSize int64
	// Processes limits the processes of the sandbox (RLIMIT_NPROC, per user
	// namespace since Linux 5.14); 0 leaves the caller's limit.
	Processes uint64
}

// With is a directory outside the tree that is joined to it: the same layer,
// copy-on-write.
type With struct {
	Source, Target string
	// Flag is what was typed.
	Flag string
}

// ParseWith reads the value of --with.
func ParseWith(value, dir, home string) (With, error) {
	flag := "--with " + value
	source, target, err := SplitPair(value)
	if err != nil {
		return With{}, &RuleError{Flag: flag, Reason: err.Error()}
	}
	if home == "" && (atHome(source) || atHome(target)) {
		return With{}, &RuleError{Flag: flag, Reason: "~ means nothing, because $HOME is not set"}
	}
	w := With{Source: Absolute(source, dir, home), Flag: flag}
	w.Target = w.Source
	if target != "" {
		w.Target = Absolute(target, dir, home)
	}
	r := Rule{Access: CopyOnWrite, Source: w.Source, Target: w.Target, Origin: Origin{Flag: flag}}
	return w, checkTarget(r)
}

// CheckLayer refuses a layer name that could leave the directory of layers or
// confuse a terminal.
func CheckLayer(name string) error {
	reason := ""
	switch {
	case name == "":
		reason = "it is empty"
	case len(name) > 64:
		reason = "it is longer than 64 bytes"
	case strings.HasPrefix(name, "."):
		reason = "it starts with a dot"
	case strings.Trim(name, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789._+-@") != "":
		for _, c := range name {
			if !strings.ContainsRune("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789._+-@", c) {
				reason = fmt.Sprintf("it contains %q", c)
				break
			}
		}
	}
	if reason == "" {
		return nil
	}
	return fmt.Errorf("cannot use %q as a layer name: %s; letters, digits and . _ + - @ are allowed", name, reason)
}
