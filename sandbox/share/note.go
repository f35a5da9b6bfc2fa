package share

import (
	"bytes"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
)

// NoteName is the file in the directory of a run that says what it is, for when it
// does not answer. As long as it does, its socket counts.
const NoteName = "run"

// note writes it.
func note(dir string, run Run) error {
	run.Command = Shorten(run.Command)
	data, err := json.Marshal(run)
	if err != nil {
		return err
	}
	return os.WriteFile(filepath.Join(dir, NoteName), data, 0o600)
}

// Said is what a run has said of itself when it was made known, whether it lives or not.
func Said(dir string) (run Run, err error) {
	data, err := os.ReadFile(filepath.Join(dir, NoteName))
	if err == nil {
		err = json.Unmarshal(data, &run)
	}
	return run, err
}

// silent is the run in a directory that lives and does not answer; pid is 0 where it
// is not known otherwise.
func silent(dir string, pid int) Run {
	run, err := Said(dir)
	if err != nil {
		run = Run{} // of another version of sbx
	}
	run.ID, run.Silent = filepath.Base(dir), true
	if pid > 0 {
		run.PID = pid // who made the socket (unix(7))
	}
	return run
}

// Stopped says whether the sbx of a run is stopped, as by Ctrl-Z: it answers when it
// goes on.
func (r Run) Stopped() bool { return r.PID > 0 && stopped(r.PID) }

// stopped says so of a process, by its state in proc_pid_stat(5).
func stopped(pid int) bool {
	data, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	i := bytes.LastIndexByte(data, ')')
	return err == nil && i >= 0 && len(data) > i+2 && (data[i+2] == 'T' || data[i+2] == 't')
}

// maxCommand bounds the words of a command that are recorded, and each of them.
const maxCommand = 64

// Shorten is a command as it is written down: arguments may be long, and secret.
func Shorten(args []string) []string {
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
