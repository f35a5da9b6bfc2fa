package main

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/sbx-build/sbx/sandbox"
	"github.com/sbx-build/sbx/sandbox/state"
)

// completionCaller is in a source tree with two layers, and has a command of
// its own to complete.
func completionCaller(t *testing.T) caller {
	t.Helper()
	c := newCaller(t)
	for _, name := range []string{"default", "lonely"} {
		write(t, state.Store{Root: c.state}.Tree(c.tree).Layer(name).Dir+"/lock", "")
	}
	write(t, state.Store{Root: c.state}.Tree(c.tree).Layer("bad\nname").Dir+"/lock", "")
	write(t, c.tree+"/Makefile", "target-one: ; true\ntarget-two: ; true\n")
	write(t, c.tree+"/subdir/file", "")
	write(t, c.bin+"/sbxtool", "#!/bin/sh\n")
	if err := os.Chmod(c.bin+"/sbxtool", 0o755); err != nil {
		t.Fatal(err)
	}
	c.own(t)
	return c
}

// offers is what every shell must offer for a line. A shell may offer more
// where exact is false. The words of a line are those that bash makes of it.
var offers = []struct {
	line  string
	want  []string
	exact bool
}{
	{"sbx re", []string{"reset"}, true},
	{"sbx ", []string{"completion", "diff", "doctor", "drop", "export", "gc", "help", "import", "layer", "path", "plan", "pull", "reset", "run", "status", "why"}, false},
	{"sbx --ne", []string{"--net", "--net-allow"}, true},
	{"sbx --net ", []string{"host", "internet", "none"}, true},
	{"sbx --rm --net h", []string{"host"}, true},
	{"sbx run --net h", []string{"host"}, true},
	{"sbx plan --net=h", []string{"host"}, true},
	{"sbx --layer ", []string{"default", "lonely"}, true},
	{"sbx reset --layer lo", []string{"lonely"}, true},
	{"sbx --source su", []string{"subdir"}, true},
	{"sbx -C su", []string{"subdir"}, true},
	{"sbx --with su", []string{"subdir"}, true},
	{"sbx --ro Mak", []string{"Makefile"}, true},
	{"sbx --ro subdir:Mak", []string{"Makefile"}, true},
	{"sbx --ro=subdir/fi", []string{"subdir/file"}, true},
	{"sbx --env SBX_TEST_M", []string{"SBX_TEST_MAIN"}, true},
	{"sbx -- sbxto", []string{"sbxtool"}, true},
	{"sbx run sbxto", []string{"sbxtool"}, true},
	{"sbx plan --rm sbxto", []string{"sbxtool"}, true},
	{"sbx -- sbxtool --in", []string{"--inner"}, true},
	{"sbx run sbxtool --in", []string{"--inner"}, true},
	{"sbx --ro a:b --net=host -- sbxtool x --in", []string{"--inner"}, true},
	{"sbx run sbxtool --net ", []string{"net-of-tool"}, true},
	{"sbx why SBX_TEST_M", []string{"SBX_TEST_MAIN"}, true},
	{"sbx path Mak", []string{"Makefile"}, true},
	{"sbx status Mak", []string{"Makefile"}, true},
	{"sbx status subdir Mak", []string{"Makefile"}, true},
	{"sbx status --po", []string{"--porcelain"}, true},
	{"sbx diff --na", []string{"--name-only"}, true},
	{"sbx pull Mak", []string{"Makefile"}, true},
	{"sbx pull --dr", []string{"--dry-run"}, true},
	{"sbx pull --all subdir Mak", []string{"Makefile"}, true},
	{"sbx drop --sh", []string{"--shadowed"}, true},
	{"sbx layer ", []string{"copy", "list", "rm"}, true},
	{"sbx layer rm lo", []string{"lonely"}, true},
	{"sbx layer copy default lo", []string{"lonely"}, true},
	{"sbx layer list --js", []string{"--json"}, true},
	{"sbx export --ho", []string{"--home"}, true},
	{"sbx import --fo", []string{"--force"}, true},
	{"sbx gc --y", []string{"--yes"}, true},
	{"sbx reset --h", []string{"--home"}, true},
	{"sbx doctor --j", []string{"--json"}, true},
	{"sbx completion z", []string{"zsh"}, true},
	{"sbx help pl", []string{"plan"}, true},
	{"sbx nothing --ne", nil, true},
}

// checkOffers compares what a shell printed, a word a line, with offers. Shells
// differ in what they print before and behind the part that was typed.
func checkOffers(t *testing.T, complete func(t *testing.T, line string) string) {
	for _, tt := range offers {
		var got []string
		for word := range strings.Lines(complete(t, tt.line)) {
			word, _, _ = strings.Cut(strings.TrimSuffix(word, "\n"), "\t")
			word = strings.TrimRight(word, "/ ")
			for _, prefix := range []string{"--net=", "--ro=", "subdir:"} {
				word = strings.TrimPrefix(word, prefix)
			}
			if word != "" && !slices.Contains(got, word) {
				got = append(got, word)
			}
		}
		slices.Sort(got)
		for _, w := range tt.want {
			if !slices.Contains(got, w) && !slices.Contains(got, filepath.Base(w)) {
				t.Errorf("%q: %q is not offered, but %q", tt.line, w, got)
			}
		}
		if tt.exact && len(got) > len(tt.want) {
			t.Errorf("%q: %q are offered, want %q", tt.line, got, tt.want)
		}
	}
}

// script asks sbx for the completion script and stores it where the caller can
// read it.
func (c caller) script(t *testing.T, shellName string) string {
	t.Helper()
	stdout, stderr, status := c.sbx(t, "completion", shellName)
	if status != 0 || stderr != "" {
		t.Fatalf("sbx completion %s: status %d, %s", shellName, status, stderr)
	}
	file := c.bin + "/completion." + shellName
	write(t, file, stdout)
	return file
}

// TestCompletionBash calls the function as bash does, in a bash without the
// package bash-completion. bash splits words at = and : too (COMP_WORDBREAKS).
func TestCompletionBash(t *testing.T) {
	need(t, "bash")
	c := completionCaller(t)
	file := c.script(t, "bash")
	const driver = `. "$1"
_tool() {
    case $3 in --net) COMPREPLY=(net-of-tool) ;; *) COMPREPLY=($(compgen -W --inner -- "$2")) ;; esac
}
complete -F _tool sbxtool
COMP_LINE=$2 COMP_POINT=${#2}
shift 2
COMP_WORDS=("$@") COMP_CWORD=$(($# - 1))
_sbx sbx "${COMP_WORDS[COMP_CWORD]}" "${COMP_WORDS[COMP_CWORD-1]}"
((${#COMPREPLY[@]} == 0)) || printf '%s\n' "${COMPREPLY[@]}"
`
	checkOffers(t, func(t *testing.T, line string) string {
		args := append([]string{"--norc", "--noprofile", "-c", driver, "bash", file, line}, bashWords(line)...)
		stdout, stderr, status := finish(t, c.command("bash", args...))
		if stderr != "" || status > 1 {
			t.Errorf("%q: status %d, %s", line, status, stderr)
		}
		return stdout
	})
}

// bashWords splits a line as readline does for COMP_WORDS.
func bashWords(line string) []string {
	var words []string
	for i, field := range strings.Split(line, " ") {
		if i > 0 && field == "" {
			words = append(words, "")
			continue
		}
		for field != "" {
			n := strings.IndexAny(field, "=:")
			switch {
			case n < 0:
				n = len(field)
			case n == 0:
				n = 1
			}
			words = append(words, field[:n])
			field = field[n:]
		}
	}
	return words
}

func TestCompletionZsh(t *testing.T) {
	need(t, "zsh")
	c := completionCaller(t)
	file := c.script(t, "zsh")
	const tool = `
_sbxtool() {
    if [[ $words[CURRENT-1] == --net ]]; then compadd net-of-tool; else compadd -- --inner; fi
}
compdef _sbxtool sbxtool
`
	script, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	write(t, file, string(script)+tool)
	for _, name := range []string{"complete.zsh", "inner.zsh"} {
		text, err := os.ReadFile("testdata/" + name)
		if err != nil {
			t.Fatal(err)
		}
		write(t, c.bin+"/"+name, string(text))
	}
	args := []string{"-f", c.bin + "/complete.zsh", file}
	for _, tt := range offers {
		args = append(args, tt.line)
	}
	stdout, stderr, status := finish(t, c.command("zsh", args...))
	if stderr != "" || status != 0 {
		t.Fatalf("status %d, %s", status, stderr)
	}
	checkOffers(t, func(t *testing.T, line string) string {
		_, answer, ok := strings.Cut(stdout, "== "+line+"\n")
		if !ok {
			t.Errorf("%q: no answer in\n%s", line, stdout)
		}
		answer, _, _ = strings.Cut(answer, "== ")
		return answer
	})
}

func TestCompletionFish(t *testing.T) {
	need(t, "fish")
	c := completionCaller(t)
	file := c.script(t, "fish")
	const driver = `source $argv[1]
function __tool_net; test (commandline -opc)[-1] = --net; end
complete -c sbxtool -f
complete -c sbxtool -n __tool_net -a net-of-tool
complete -c sbxtool -n 'not __tool_net' -l inner
complete -C $argv[2]
`
	checkOffers(t, func(t *testing.T, line string) string {
		stdout, stderr, status := finish(t, c.command("fish", "-c", driver, file, line))
		if stderr != "" || status != 0 {
			t.Errorf("%q: status %d, %s", line, status, stderr)
		}
		return stdout
	})
}

// Every flag of run, and every verb, is known to every script.
func TestCompletionKnowsAll(t *testing.T) {
	o := &sandbox.Options{}
	for _, shellName := range []string{"bash", "zsh", "fish"} {
		data, err := completions.ReadFile("completion/sbx." + shellName)
		if err != nil {
			t.Fatal(err)
		}
		text := string(data)
		for _, name := range typed(slices.Concat(runFlags(o), runOnlyFlags(o), statusFlags(), diffFlags(), pullFlags(), dropFlags(), resetFlags(), layerListFlags(o), exportFlags(), importFlags(), gcFlags(o), doctorFlags(o))) {
			flag := dashes(name)
			if shellName == "fish" && len(name) > 1 {
				flag = "-l " + name + " "
			} else if shellName == "fish" {
				flag = "-s " + name + " "
			}
			if !strings.Contains(text, flag) {
				t.Errorf("%s: nothing for %s", shellName, dashes(name))
			}
		}
		for _, v := range verbs {
			if !strings.Contains(text, v) {
				t.Errorf("%s: nothing for the verb %s", shellName, v)
			}
		}
	}
}

func TestCompletionRefuses(t *testing.T) {
	c := newCaller(t)
	for _, args := range [][]string{{}, {"tcsh"}, {""}, {"../app"}, {"bash", "zsh"}} {
		stdout, stderr, status := c.sbx(t, append([]string{"completion"}, args...)...)
		if status != 2 || stdout != "" || !strings.Contains(stderr, "hint: sbx completion bash\n") {
			t.Errorf("sbx completion %q: status %d, stdout %q, stderr %q", args, status, stdout, stderr)
		}
	}
	// A tree without layers has nothing to list.
	if stdout, stderr, status := c.sbx(t, "completion", "layers"); stdout+stderr != "" || status != 0 {
		t.Errorf("sbx completion layers: status %d, %q, %q", status, stdout, stderr)
	}
}
