package toolconf

import (
	"fmt"
	"strings"
)

// writer collects what is kept and what is dropped.
type writer struct {
	b       strings.Builder
	dropped []string
	lost    []string
	bad     string
	home    string
}

// clean cleans a value. A directory that a tool writes to must be in $HOME: elsewhere
// it is not in the sandbox, and the tool would fail instead of taking its default.
func (w *writer) clean(k kind, v string) (clean string, ok bool) {
	clean, ok = k.clean(v)
	return clean, ok && (k != directory || w.inHome(clean))
}

func (w *writer) inHome(path string) bool {
	for _, home := range []string{w.home, "~", "$HOME", "${HOME}", "${user.home}", "${env.HOME}"} {
		if rest, ok := strings.CutPrefix(path, home); ok && home != "" && (rest == "" || rest[0] == '/') {
			return !strings.Contains(rest+"/", "/../")
		}
	}
	return path == "" || path[0] != '/' && path[0] != '$' && path[0] != '~'
}

// maxDropped bounds the list of what was dropped.
const maxDropped = 100

// drop notes a key that is left out.
func (w *writer) drop(key string) {
	if len(w.dropped) < maxDropped {
		w.dropped = append(w.dropped, key)
	}
}

// dropKey notes a key, or, where what stands for the key may be anything, its
// line.
func (w *writer) dropKey(key string, line int) {
	if !isName(key) || Credential(key) {
		key = lineName(line)
	}
	w.drop(key)
}

// refuse is dropKey for a key whose value is not understood. Of one that routes
// requests the user must know: without it they go elsewhere.
func (w *writer) refuse(k kind, key string, line int) {
	w.dropKey(key, line)
	if k.routes() && isName(key) && len(w.lost) < maxDropped {
		w.lost = append(w.lost, key)
	}
}

// lineName names a line; 0 is one of which the number is not known.
func lineName(line int) string {
	if line == 0 {
		return "a key of another form"
	}
	return fmt.Sprintf("line %d", line)
}

func (w *writer) result() Result {
	if w.bad != "" {
		return Result{Bad: w.bad}
	}
	return Result{Data: w.b.String(), Dropped: w.dropped, Lost: w.lost}
}

// isName says whether s can be a key that is worth being shown: the value of
// a line that was not understood must not be taken for one.
func isName(s string) bool {
	return s != "" && len(s) <= 100 && only(s, func(c byte) bool { return alnum(c) || strings.IndexByte("_-.:/@[]*", c) >= 0 })
}

// lines are the lines of a text, without their ends (LF or CRLF).
func lines(text string) []string {
	list := strings.Split(text, "\n")
	for i, l := range list {
		list[i] = strings.TrimSuffix(l, "\r")
	}
	return list
}
