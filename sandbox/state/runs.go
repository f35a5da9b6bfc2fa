package state

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// RunDir is the directory of a run that lives, runs/RUN. What a run leaves when it
// has ended is the file runs/RUN.json.
type RunDir struct{ Path string }

// RunPath is where a run has its directory.
func (s Store) RunPath(id string) string { return filepath.Join(s.Root, "runs", id) }

// MakeRun makes the directory of a run.
func (s Store) MakeRun(id string) (RunDir, error) {
	d := RunDir{s.RunPath(id)}
	if err := os.MkdirAll(d.Path, 0o700); err != nil {
		return d, &Error{Do: "make", What: "the directory of the run", Err: err, Fix: "sbx --state DIR -- COMMAND"}
	}
	return d, nil
}

// Remove removes the directory of a run.
func (d RunDir) Remove() {
	if d.Path == "" {
		return
	}
	unix.Unlink(filepath.Join(d.Path, "socket"))
	unix.Unlink(filepath.Join(d.Path, "run"))
	unix.Rmdir(d.Path)
}

// Runs lists the directories of runs, some of which may have been killed.
func (s Store) Runs() []RunDir {
	entries, _ := os.ReadDir(filepath.Join(s.Root, "runs"))
	var list []RunDir
	for _, e := range entries {
		if e.IsDir() {
			list = append(list, RunDir{s.RunPath(e.Name())})
		}
	}
	return list
}

// Bounds of the records that are kept.
const (
	maxRecords   = 200
	maxRecordAge = 60 * 24 * time.Hour
)

// WriteRecord leaves a run's record.
func (s Store) WriteRecord(id string, data []byte) error {
	file := s.RunPath(id) + ".json"
	err := writeSmall(file, data)
	if err == unix.ENOENT {
		if err = os.MkdirAll(filepath.Dir(file), 0o700); err == nil {
			err = writeSmall(file, data)
		}
	}
	return err
}

// writeSmall makes a small file, without the runtime's poller.
func writeSmall(file string, data []byte) error {
	fd, err := unix.Open(file, unix.O_WRONLY|unix.O_CREAT|unix.O_EXCL|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0o600)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	n, err := unix.Write(fd, data)
	if err == nil && n < len(data) {
		err = unix.ENOSPC
	}
	return err
}

// Record is the record of a run that has ended.
type Record struct {
	ID, Path string
	Time     time.Time
}

// Read reads it.
func (r Record) Read() ([]byte, error) { return readSmall(r.Path) }

// Records lists the records, the newest last.
func (s Store) Records() []Record {
	entries, _ := os.ReadDir(filepath.Join(s.Root, "runs"))
	var list []Record
	for _, e := range entries {
		id, ok := strings.CutSuffix(e.Name(), ".json")
		if info, err := e.Info(); ok && err == nil && info.Mode().IsRegular() {
			list = append(list, Record{id, s.RunPath(e.Name()), info.ModTime()})
		}
	}
	slices.SortFunc(list, func(a, b Record) int { return a.Time.Compare(b.Time) })
	return list
}

// PruneRecords deletes the records beyond what is kept, and what killed runs have
// left. alive says whether a run lives.
func (s Store) PruneRecords(now time.Time, alive func(RunDir) bool) (removed int) {
	list := s.Records()
	for i, r := range list {
		if len(list)-i > maxRecords || now.Sub(r.Time) > maxRecordAge {
			if os.Remove(r.Path) == nil {
				removed++
			}
		}
	}
	for _, d := range s.Runs() {
		st, err := os.Lstat(d.Path)
		if err == nil && now.Sub(st.ModTime()) > time.Minute && !alive(d) {
			d.Remove()
			removed++
		}
	}
	return removed
}
