// Package supervise is the parent while the command lives: it passes signals
// on and waits for the end.
package supervise

import (
	"os"
	"os/signal"
	"slices"
	"sync"

	"golang.org/x/sys/unix"

	"github.com/sbx-build/sbx/sandbox/internal/child"
)

// forwarded are the signals that someone may send to sbx and mean the command.
// SIGCHLD, SIGURG, SIGPIPE and the faults are sbx's own; SIGKILL and SIGSTOP
// cannot be caught, and the first takes the sandbox with it.
var forwarded = []os.Signal{
	unix.SIGHUP, unix.SIGINT, unix.SIGQUIT, unix.SIGTERM, unix.SIGUSR1, unix.SIGUSR2,
	unix.SIGALRM, unix.SIGWINCH, unix.SIGCONT, unix.SIGTSTP, unix.SIGIO, unix.SIGPWR, unix.SIGVTALRM,
}

// Wait passes signals to the sandbox until the command has ended and
// everything in it is gone.
//
// The command is in a session of its own, so Ctrl-C at the terminal reaches sbx
// alone, and the command exactly once, through here. Ctrl-Z stops the command
// and then sbx; SIGCONT resumes both.
func Wait(p *child.Process) (child.Ending, error) {
	signals := make(chan os.Signal, 16)
	// At the side: it takes the runtime half a millisecond, a change of threads
	// for every signal. signal.Stop would take it again, just before sbx exits;
	// nobody reads the channel then, and the signals are lost.
	go signal.Notify(signals, slices.DeleteFunc(slices.Clone(forwarded), signal.Ignored)...)
	defer rememberTerminals().restore()
	var over sync.Mutex // held while the pid may be used, and for good at the end
	done := make(chan struct{})
	go func() {
		for {
			select {
			case <-done:
				return
			case s := <-signals:
				sig := s.(unix.Signal)
				over.Lock()
				select {
				case <-done:
				default:
					p.Signal(sig)
					if sig == unix.SIGTSTP {
						unix.Kill(os.Getpid(), unix.SIGSTOP)
					}
				}
				over.Unlock()
			}
		}
	}()
	return p.Wait(func() {
		over.Lock()
		close(done)
		over.Unlock()
	})
}
