package main

import (
	"bufio"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"strings"

	"golang.org/x/sys/unix"
)

// output is what a verb prints as its result: buffered, through a pager if it
// is long, in colours if someone looks at it.
type output struct {
	buf *bufio.Writer
	// terminal says that a person reads it: then nothing in it may drive the
	// terminal. colour is a part of that.
	terminal, colour bool
	paged            bool
	to               *os.File
	pager            *exec.Cmd
	// meter, if any, is shown until there is something to print.
	meter *meter
	// A sbx that went into a user namespace to read on (reexec.go) leaves out
	// what the one before has written already.
	skip, written int64
}

// newOutput is standard output; with paged, through the user's pager.
func newOutput(getenv func(string) string, paged bool) *output {
	o := &output{to: os.Stdout, terminal: isTerminal(os.Stdout)}
	if skip, terminal, ok := resumed(getenv); ok {
		o.skip, o.terminal, paged = skip, terminal, false
	}
	// https://no-color.org
	o.colour = o.terminal && getenv("NO_COLOR") == "" && getenv("TERM") != "dumb" && getenv("TERM") != ""
	o.paged = paged && o.terminal
	o.buf = bufio.NewWriterSize(o, 64<<10)
	return o
}

// Write is where the buffer goes. The pager starts with the first of it.
func (o *output) Write(p []byte) (int, error) {
	n := len(p)
	o.meter.end()
	o.meter = nil
	if o.paged {
		o.paged = false
		o.startPager()
	}
	if k := min(o.skip, int64(len(p))); k > 0 {
		o.skip -= k
		p = p[k:]
	}
	if len(p) > 0 {
		k, err := o.to.Write(p)
		o.written += int64(k)
		if err != nil {
			return k, err
		}
	}
	return n, nil
}

// startPager starts what git would start, git(1). Without one the terminal
// itself has to do.
func (o *output) startPager() {
	program, ok := os.LookupEnv("PAGER")
	if !ok {
		program = "less"
		if _, err := exec.LookPath(program); err != nil {
			return
		}
	}
	if program == "" || program == "cat" {
		return
	}
	cmd := exec.Command("/bin/sh", "-c", program)
	cmd.Stdout, cmd.Stderr = os.Stdout, os.Stderr
	cmd.Env = os.Environ()
	for _, kv := range []string{"LESS=FRX", "LV=-c"} {
		if name, _, _ := strings.Cut(kv, "="); os.Getenv(name) == "" {
			cmd.Env = append(cmd.Env, kv)
		}
	}
	r, w, err := os.Pipe()
	if err != nil {
		return
	}
	cmd.Stdin = r
	err = cmd.Start()
	r.Close()
	if err != nil {
		w.Close()
		return
	}
	// An interrupt is the pager's, which goes on.
	signal.Ignore(unix.SIGINT)
	o.to, o.pager = w, cmd
}

// close writes the rest and waits for the pager. err is what went wrong before;
// a reader who has seen enough is no error.
func (o *output) close(err error) error {
	if e := o.buf.Flush(); err == nil && e != nil {
		err = fmt.Errorf("cannot print the result: %w", e)
	}
	o.end()
	o.meter.end()
	if errors.Is(err, unix.EPIPE) {
		return nil
	}
	return err
}

// end waits for the pager.
func (o *output) end() {
	if o.pager != nil {
		o.to.Close()
		o.pager.Wait()
		o.pager = nil
	}
}

// line prints a line, with the escapes of what is hostile in it.
func (o *output) line(c colour, format string, a ...any) error {
	return o.raw(c, printable(fmt.Sprintf(format, a...)))
}

// raw prints a line as it is.
func (o *output) raw(c colour, text string) error {
	if o.colour && c != "" {
		text = "\x1b[" + string(c) + "m" + text + "\x1b[m"
	}
	o.buf.WriteString(text)
	return o.buf.WriteByte('\n') // an error stays with the buffer
}

// colour is the parameter of SGR, those that git-diff(1) has.
type colour string

const (
	plain  colour = ""
	bold   colour = "1"
	red    colour = "31"
	green  colour = "32"
	yellow colour = "33"
	cyan   colour = "36"
)

// size is a number of bytes for people.
func size(n int64) string {
	if n < 1000 {
		return fmt.Sprintf("%d B", n)
	}
	f := float64(n)
	for _, unit := range []string{"kB", "MB", "GB", "TB", "PB"} {
		if f /= 1000; f < 999.5 {
			if f < 9.95 {
				return fmt.Sprintf("%.1f %s", f, unit)
			}
			return fmt.Sprintf("%.0f %s", f, unit)
		}
	}
	return fmt.Sprintf("%.0f EB", f/1000)
}

// count is a number of things for people.
func count(n int64, one, many string) string {
	if n == 1 {
		return "1 " + one
	}
	s := fmt.Sprint(n)
	for i := len(s) - 3; i > 0; i -= 3 {
		s = s[:i] + "," + s[i:]
	}
	return s + " " + many
}

func isTerminal(f *os.File) bool {
	_, err := unix.IoctlGetTermios(int(f.Fd()), unix.TCGETS)
	return err == nil
}
