package main

import (
	"fmt"
	"os"
	"time"
)

// meter shows on a terminal how far something is that takes longer than a
// second, in a line that is gone afterwards.
type meter struct {
	r           *report
	word        string
	start, next time.Time
	shown       bool
}

// newMeter is a meter for stderr; word is what becomes of the files. One that is
// nil shows nothing.
func newMeter(r *report, word string) *meter {
	if !isTerminal(os.Stderr) {
		return nil
	}
	now := time.Now()
	return &meter{r: r, word: word, start: now, next: now.Add(time.Second)}
}

// show is called as often as it likes to be.
func (m *meter) show(files, bytes int64) {
	if m == nil {
		return
	}
	now := time.Now()
	if now.Before(m.next) {
		return
	}
	m.next, m.shown = now.Add(100*time.Millisecond), true
	rate := float64(bytes) / now.Sub(m.start).Seconds()
	fmt.Fprintf(m.r.w, "\r\x1b[Ksbx: %s %s, %s, %s/s", m.word, count(files, "file", "files"), size(bytes), size(int64(rate)))
}

// end takes the line away.
func (m *meter) end() {
	if m != nil && m.shown {
		m.shown = false
		fmt.Fprint(m.r.w, "\r\x1b[K")
	}
}
