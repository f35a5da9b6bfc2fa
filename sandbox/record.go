package sandbox

import (
	"encoding/json"
	"fmt"
	"time"

	"github.com/sbx-build/sbx/sandbox/internal/child"
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
	// Start and End are RFC 3339, in UTC.
	Start time.Time `json:"start"`
	End   time.Time `json:"end"`
	// Exit is the exit status, or 128+n for signal n.
	Exit   int `json:"exit"`
	Signal int `json:"signal,omitempty"`
	// CPU is in seconds, of all processes in the sandbox that have been waited for;
	// MaxRSS is the largest of them, in bytes (getrusage(2)).
	CPU    float64 `json:"cpu"`
	MaxRSS int64   `json:"max_rss"`
}

// maxCommand bounds the words of a command that are recorded, and each of them.
const maxCommand = 64

// record leaves the run's record. A run is not a failure for want of one.
func (s *Session) record(o Options, status Status, end child.Ending) {
	r := Record{
		Run: s.Run, Command: shorten(o.Args), Dir: s.Policy.Dir, Tree: s.Tree.Root, Layer: s.Layer.Name,
		Start: s.started.UTC(), End: time.Now().UTC(), Exit: status.ExitCode(),
		CPU:    float64(end.Rusage.Utime.Nano()+end.Rusage.Stime.Nano()) / 1e9,
		MaxRSS: end.Rusage.Maxrss << 10,
	}
	if status.Wait.Signaled() {
		r.Signal = int(status.Wait.Signal())
	}
	data, err := json.Marshal(r)
	if err != nil || s.Store.WriteRecord(s.Run, append(data, '\n')) != nil {
		return
	}
	if s.Run[0] == '0' {
		// One run in sixteen tidies up.
		s.Store.PruneRecords(time.Now(), lives)
	}
}

func lives(dir state.RunDir) bool {
	_, err := share.Ask(dir.Path)
	return err == nil
}

func shorten(args []string) []string {
	var list []string
	for i, a := range args {
		if i == maxCommand {
			return append(list, "…")
		}
		if len(a) > maxCommand {
			a = a[:maxCommand] + "…"
		}
		list = append(list, a)
	}
	return list
}

// Records lists the runs that have ended, the newest last.
func Records(s state.Store) []Record {
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
