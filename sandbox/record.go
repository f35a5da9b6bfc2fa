package sandbox

import (
	"encoding/json"
	"fmt"
	"path/filepath"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	"golang.org/x/sys/unix"

	"github.com/sbx-build/sbx/sandbox/internal/child"
	"github.com/sbx-build/sbx/sandbox/overlay"
	"github.com/sbx-build/sbx/sandbox/relay"
	"github.com/sbx-build/sbx/sandbox/share"
	"github.com/sbx-build/sbx/sandbox/state"
)

// Record is what a run leaves behind: runs/RUN.json. It is a schema: fields are
// added and never changed.
type Record struct {
	Run     string   `json:"run"`
	Command []string `json:"command"`
	Dir     string   `json:"directory"`
	Tree    string   `json:"tree"`
	Layer   string   `json:"layer"`
	// Joined is the run whose namespaces the command was in (sbx run --join).
	Joined string `json:"joined,omitempty"`
	// Start and End are RFC 3339, in UTC.
	Start time.Time `json:"start"`
	End   time.Time `json:"end"`
	// Exit is the exit status, or 128+n for signal n. Of a run of which sbx itself was
	// killed it is 137, and End when that was found out.
	Exit   int `json:"exit"`
	Signal int `json:"signal,omitempty"`
	// CPU is in seconds, of all processes in the sandbox that have been waited for;
	// MaxRSS is the largest of them, in bytes (getrusage(2)).
	CPU    float64 `json:"cpu"`
	MaxRSS int64   `json:"max_rss"`
	// Changes is how many changes the layer had at the end, as status counts them:
	// a new directory is one. It is missing where that is not known.
	Changes *int `json:"changes,omitempty"`
	// Refreshes is how often this run has refreshed an overlay to show what was
	// edited on the host (package live). Of the runs of a layer one does it for all.
	Refreshes int `json:"refreshes,omitempty"`
	// Mirrors is how many edits it has mirrored for processes that watch.
	Mirrors int `json:"mirrors,omitempty"`
	// Network is what the run had to do with the network, in the order in which it
	// began.
	Network []relay.Contact `json:"network,omitempty"`
}

// record leaves the run's record. A run is not a failure for want of one.
func (s *Session) record(o Options, status Status, end child.Ending, found *overlay.Found, done outcome) {
	r := Record{
		Run: s.Run, Command: share.Shorten(o.Args), Dir: s.Policy.Dir, Tree: s.Tree.Root, Layer: s.Layer.Name, Joined: s.joined,
		Start: s.started.UTC(), End: time.Now().UTC(), Exit: status.ExitCode(),
		CPU:    float64(end.Rusage.Utime.Nano()+end.Rusage.Stime.Nano()) / 1e9,
		MaxRSS: end.Rusage.Maxrss << 10, Refreshes: done.refreshes, Mirrors: done.mirrors,
		Network: done.contacts,
	}
	if status.Wait.Signaled() {
		r.Signal = int(status.Wait.Signal())
	}
	if found != nil {
		r.Changes = &found.Changes
	}
	if s.Store.WriteRecord(s.Run, r.line()) != nil {
		return
	}
	if strings.HasPrefix(s.Run, "00") {
		// One run in 256 tidies up.
		recordKilled(s.Store)
		s.Store.PruneRecords(time.Now(), lives)
	}
}

// line is the record as JSON. Package json would learn the type by reflection, which
// takes a short run longer than anything else at its end.
func (r Record) line() []byte {
	b := []byte(`{"run":`)
	b = appendJSON(b, r.Run)
	b = append(b, `,"command":[`...)
	for i, arg := range r.Command {
		if i > 0 {
			b = append(b, ',')
		}
		b = appendJSON(b, arg)
	}
	b = append(b, `],"directory":`...)
	b = appendJSON(b, r.Dir)
	b = append(b, `,"tree":`...)
	b = appendJSON(b, r.Tree)
	b = append(b, `,"layer":`...)
	b = appendJSON(b, r.Layer)
	if r.Joined != "" {
		b = append(b, `,"joined":`...)
		b = appendJSON(b, r.Joined)
	}
	b = append(b, `,"start":"`...)
	b = r.Start.AppendFormat(b, time.RFC3339Nano)
	b = append(b, `","end":"`...)
	b = r.End.AppendFormat(b, time.RFC3339Nano)
	b = append(b, `","exit":`...)
	b = strconv.AppendInt(b, int64(r.Exit), 10)
	if r.Signal != 0 {
		b = append(b, `,"signal":`...)
		b = strconv.AppendInt(b, int64(r.Signal), 10)
	}
	b = append(b, `,"cpu":`...)
	b = strconv.AppendFloat(b, r.CPU, 'f', 6, 64)
	b = append(b, `,"max_rss":`...)
	b = strconv.AppendInt(b, r.MaxRSS, 10)
	if r.Changes != nil {
		b = append(b, `,"changes":`...)
		b = strconv.AppendInt(b, int64(*r.Changes), 10)
	}
	if r.Refreshes != 0 {
		b = append(b, `,"refreshes":`...)
		b = strconv.AppendInt(b, int64(r.Refreshes), 10)
	}
	if r.Mirrors != 0 {
		b = append(b, `,"mirrors":`...)
		b = strconv.AppendInt(b, int64(r.Mirrors), 10)
	}
	if len(r.Network) > 0 {
		if network, err := json.Marshal(r.Network); err == nil {
			b = append(append(b, `,"network":`...), network...)
		}
	}
	return append(b, "}\n"...)
}

// appendJSON appends a JSON string (RFC 8259, section 7). Bytes that are no UTF-8
// become the replacement character, as package json has it.
func appendJSON(b []byte, s string) []byte {
	b = append(b, '"')
	for _, c := range s {
		switch {
		case c == '"' || c == '\\':
			b = append(b, '\\', byte(c))
		case c < ' ' || c == 0x7f:
			b = fmt.Appendf(b, `\u%04x`, c)
		default:
			b = utf8.AppendRune(b, c)
		}
	}
	return append(b, '"')
}

func lives(dir state.RunDir) bool {
	_, err := share.Ask(dir.Path)
	return !share.Gone(err)
}

// recordKilled writes the records of runs that were killed before they could: of what they
// have said of themselves at their start.
func recordKilled(s state.Store) {
	for _, dir := range s.Runs() {
		if lives(dir) {
			continue
		}
		run, err := share.Said(dir.Path)
		if err != nil || filepath.Base(dir.Path) != run.ID {
			continue // it had not come so far, or is another version's
		}
		if unix.Kill(run.PID, 0) != unix.ESRCH {
			continue // it is ending, and writes its own
		}
		r := Record{
			Run: run.ID, Command: run.Command, Dir: run.Dir, Tree: run.Tree, Layer: run.Layer,
			Start: time.Unix(run.Started, 0).UTC(), End: time.Now().UTC(), Exit: 128 + int(unix.SIGKILL), Signal: int(unix.SIGKILL),
		}
		s.WriteRecord(run.ID, r.line()) // unless there is one
	}
}

// Records lists the runs that have ended, the newest last.
func Records(s state.Store) []Record {
	recordKilled(s)
	var list []Record
	for _, f := range s.Records() {
		var r Record
		if data, err := f.Read(); err == nil && json.Unmarshal(data, &r) == nil && r.Run == f.ID {
			list = append(list, r)
		}
	}
	return list
}

// NoRecordError is a run of which there is no record.
type NoRecordError struct{ Run string }

func (e *NoRecordError) Error() string {
	return fmt.Sprintf("cannot find the run %q: there is no record of it", e.Run)
}

// Hint lists the records.
func (e *NoRecordError) Hint() string { return "sbx log" }
