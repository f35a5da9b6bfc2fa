package sandbox

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/sbx-build/sbx/sandbox/policy"
)

// Answer says what a build gets of a path, of a variable or of a command.
type Answer struct {
	// Subject is what was asked for, and where it leads.
	Subject string
	// Text is what becomes of it, and by which rule.
	Text string
	// Purpose and Flags change that: "show it", --ro PATH. Flags is nil where
	// there is nothing to change, or nothing that could.
	Purpose string
	Flags   []string
}

// Why explains a word: the path that it is, the variable of the caller's
// environment, the command on its $PATH, or all of these. It runs nothing and
// changes nothing on disk.
func Why(o Options, word string) ([]Answer, error) {
	o.Args = []string{"true"}
	s, p, f, err := prepare(o)
	if err != nil {
		return nil, err
	}
	v := newView(s, p, f, o)
	var answers []Answer
	path := policy.Absolute(word, s.Policy.Dir, s.Policy.Home)
	isPath := strings.Contains(word, "/") || word == "~" || word == "." || word == ".."
	if !isPath {
		_, isPath = v.disk.stat(path)
	}
	if isPath {
		answers = append(answers, v.path(word, path))
	}
	if strings.Contains(word, "/") {
		return answers, nil
	}
	if a, ok := variable(s.Vars, word); ok {
		answers = append(answers, a)
	}
	if a, ok := v.command(word, searchPath(s.Vars)); ok {
		answers = append(answers, a)
	}
	if len(answers) == 0 && policy.IsEnvName(word) {
		answers = append(answers, unset(o, s, word))
	}
	if len(answers) == 0 {
		return nil, fmt.Errorf("cannot explain %q: it is no file here, no variable of the environment and no command on $PATH", word)
	}
	return answers, nil
}
