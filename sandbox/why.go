package sandbox

import (
	"fmt"
	"path/filepath"
	"strings"

	"github.com/sbx-build/sbx/sandbox/policy"
)

// Answer says what a build gets of a path, of a variable, of a command or of a host.
type Answer struct {
	// Subject is what was asked for, and where it leads.
	Subject string
	// Text is what becomes of it, and by which rule.
	Text string
	// Purpose and Flags would change that: "show it", --ro PATH. Flags is nil
	// where nothing could.
	Purpose string
	Flags   []string
}

// Why explains a word: the path that it is, the variable of the caller's
// environment, the command on its $PATH, or each of these, or the host. It runs nothing and
// changes nothing on disk.
func Why(o Options, word string) ([]Answer, error) {
	o.Args = []string{"true"}
	s, p, f, err := prepare(o)
	if err != nil {
		return nil, err
	}
	v := newView(s, p, f, o)
	if word == "" {
		return nil, fmt.Errorf("cannot explain %q: it is empty", word)
	}
	path := policy.Absolute(word, s.Policy.Dir, o.Getenv("HOME"))
	if strings.Contains(word, "/") || word == "~" || word == "." || word == ".." {
		return []Answer{v.path(word, path)}, nil
	}
	var answers []Answer
	// Also what only the layer has.
	if _, shown := v.look(path); shown || v.onHost(path) {
		answers = append(answers, v.path("./"+word, path))
	}
	if a, ok := variable(s.Vars, word); ok {
		answers = append(answers, a)
	}
	if a, ok := v.command(word, searchPath(s.Vars)); ok {
		answers = append(answers, a)
	}
	if a, ok := unset(o.Env, s.Policy.Tree, word); ok && len(answers) == 0 {
		answers = append(answers, a)
	}
	if a, ok := s.host(word); ok && len(answers) == 0 {
		answers = append(answers, a)
	}
	if len(answers) == 0 {
		return nil, fmt.Errorf("cannot explain %q: there is no such file here, no such variable, no such command on $PATH, and it is no host", word)
	}
	return answers, nil
}

// variable explains a variable that the caller has, or that sbx sets.
func variable(vars []policy.Var, name string) (Answer, bool) {
	for _, v := range vars {
		switch {
		case v.Name != name:
		case !v.Pass:
			return Answer{name, "not passed to the command: " + v.Why, "pass it", []string{"--env", name}}, true
		case v.Why == "set by sbx":
			return Answer{Subject: name, Text: fmt.Sprintf("set by sbx to %q", v.Value)}, true
		default:
			// Not the value: what --env names may be a secret.
			return Answer{Subject: name, Text: "passed to the command (" + v.Why + ")"}, true
		}
	}
	return Answer{}, false
}

// unset explains a word that looks like the name of a variable, which the
// caller does not have.
func unset(rules []policy.EnvRule, tree, name string) (Answer, bool) {
	if name == "" || strings.ContainsRune(name, '=') {
		return Answer{}, false
	}
	v := policy.Environment([]string{name + "="}, rules, nil, tree)[0]
	if v.Pass {
		return Answer{name, "not set; if it were, it would be passed (" + v.Why + ")", "set it inside", []string{"--env", name + "=VALUE"}}, true
	}
	// A lower-case word that no rule knows is rather a command's name.
	if strings.Trim(name, "ABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_") != "" || name[0] >= '0' && name[0] <= '9' {
		return Answer{}, false
	}
	return Answer{name, "not set; if it were, it would not be passed: " + v.Why, "set it inside", []string{"--env", name + "=VALUE"}}, true
}

// command explains the command of this name: the first on the search path of
// the sandbox that is shown there, else the first that the host has.
func (v view) command(name string, search []string) (Answer, bool) {
	var missed *Answer
	for _, dir := range search {
		if !filepath.IsAbs(dir) {
			dir = filepath.Join(v.dir, dir) // an empty entry is the working directory
		}
		file := filepath.Join(dir, name)
		if mode, ok := v.disk.stat(file); !ok || mode.IsDir() || mode.Perm()&0o111 == 0 {
			continue
		}
		a, shown := v.look(file)
		a.Subject = name + " -> " + a.Subject
		if !shown && missed == nil {
			// What lies beside it belongs to it, as a rule.
			if a.Flags != nil {
				a.Flags = []string{"--ro", v.typed(dir)}
			}
			missed = &a
		}
		if !shown {
			continue
		}
		if missed != nil {
			a.Text += fmt.Sprintf("; %s comes first on $PATH but is not in the sandbox", strings.TrimPrefix(missed.Subject, name+" -> "))
			a.Purpose, a.Flags = missed.Purpose, missed.Flags
		}
		return a, true
	}
	if missed == nil {
		return Answer{}, false
	}
	return *missed, true
}
