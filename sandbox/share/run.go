package share

import (
	"encoding/json"
	"errors"
	"fmt"
	"path/filepath"
	"time"

	"golang.org/x/sys/unix"

	"github.com/sbx-build/sbx/sandbox/live"
)

// Run is what a run says of itself.
type Run struct {
	ID      string   `json:"run"`
	PID     int      `json:"pid"`
	Tree    string   `json:"tree"`
	Layer   string   `json:"layer"`
	Command []string `json:"command"`
	Dir     string   `json:"directory"`
	// Started is in seconds since 1970.
	Started int64 `json:"started"`
	// LayerDir is the layer's directory, Uppers are the upper directories below it
	// of which the run lends mounts.
	LayerDir string   `json:"layer_dir"`
	Uppers   []string `json:"uppers"`
	// Protected are paths below copy-on-write directories that the run hides or
	// shows read-only, each with its access before it.
	Protected []string `json:"protected"`
	// Silent says that the run lives and does not answer: its sbx is stopped, or has
	// no time. What it has said of itself at its start is known all the same.
	Silent bool `json:"-"`
	// Live is what the run does to show what is edited on the host.
	Live []live.Status `json:"live,omitempty"`
	// Published are the ports of the host's that lead into the sandbox.
	Published []string `json:"published,omitempty"`
	// Policy is what someone who joins the run must hold to.
	Policy json.RawMessage `json:"policy,omitempty"`
}

// Requests of a client.
const (
	askRun        = "run"
	askMounts     = "mounts"
	askNamespaces = "namespaces"
)

type request struct {
	Ask string `json:"ask"`
}

type reply struct {
	Run   Run    `json:"run"`
	Error string `json:"error,omitempty"`
}

// Lender gives what a run lends. Its results are sent and then closed.
type Lender interface {
	// Mounts gives for each of Run.Uppers a descriptor of the user namespace that
	// owns the overlay, which may be an earlier run's, and a detached mount.
	Mounts() ([]int, error)
	// Namespaces gives descriptors of the run's namespaces.
	Namespaces() ([]int, error)
}

// Server answers for a run.
type Server struct {
	fd     int
	dir    string
	run    Run
	now    func(*Run)
	lender Lender
}

// Serve makes the socket in a directory that exists. Answer does the work; now fills in
// what of a run changes.
func Serve(dir string, run Run, now func(*Run), lender Lender) (*Server, error) {
	if err := note(dir, run); err != nil {
		return nil, fmt.Errorf("cannot note what the run is: %w", err)
	}
	fd, err := listen(dir)
	if err != nil {
		return nil, fmt.Errorf("cannot make the socket of the run: %w", err)
	}
	return &Server{fd: fd, dir: dir, run: run, now: now, lender: lender}, nil
}

// Close ends Answer.
func (s *Server) Close() {
	unix.Unlink(filepath.Join(s.dir, socketName))
	unix.Shutdown(s.fd, unix.SHUT_RDWR) // wakes accept(2)
}

// Answer answers until Close, one client at a time.
func (s *Server) Answer() {
	defer unix.Close(s.fd)
	for {
		c, _, err := unix.Accept4(s.fd, unix.SOCK_CLOEXEC)
		switch err {
		case nil:
			s.answer(c)
			unix.Close(c)
		case unix.EINTR, unix.ECONNABORTED:
		case unix.EMFILE, unix.ENFILE:
			time.Sleep(10 * time.Millisecond) // until others have closed some
		default:
			return
		}
	}
}

func (s *Server) answer(c int) {
	setTimeout(c)
	if _, err := checkPeer(c); err != nil {
		return
	}
	if err := checkOutside(c); err != nil {
		return
	}
	var q request
	fds, err := receive(c, &q)
	closeAll(fds)
	if err != nil {
		return
	}
	r := reply{Run: s.run}
	fds = nil
	switch q.Ask {
	case askRun:
		s.now(&r.Run)
	case askMounts:
		fds, err = s.lender.Mounts()
	case askNamespaces:
		fds, err = s.lender.Namespaces()
	default:
		err = fmt.Errorf("it does not know the request %q", q.Ask)
	}
	if err != nil {
		r.Error = err.Error()
	}
	send(c, r, fds)
	closeAll(fds)
}

// ask asks the run in a directory.
func ask(dir, what string) (Run, []int, error) {
	d, err := openDir(dir)
	if err != nil {
		return Run{}, nil, err
	}
	defer unix.Close(d)
	fd, err := unix.Socket(unix.AF_UNIX, unix.SOCK_SEQPACKET|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return Run{}, nil, err
	}
	defer unix.Close(fd)
	setTimeout(fd)
	if err := connect(fd, d, dir); err != nil {
		if err == unix.EAGAIN {
			return silent(dir, 0), nil, err
		}
		return Run{}, nil, err
	}
	pid, err := checkPeer(fd)
	if err != nil {
		return Run{}, nil, err
	}
	if stopped(pid) {
		return silent(dir, pid), nil, unix.EAGAIN
	}
	if err := send(fd, request{Ask: what}, nil); err != nil {
		return Run{}, nil, err
	}
	var r reply
	fds, err := receive(fd, &r)
	if err == unix.EAGAIN {
		return silent(dir, pid), nil, err
	}
	if err != nil {
		return Run{}, nil, err
	}
	if r.Error != "" {
		closeAll(fds)
		return Run{}, nil, errors.New(r.Error)
	}
	// The peer is who made the socket (unix(7)), whatever it says.
	r.Run.PID, r.Run.ID = pid, filepath.Base(dir)
	return r.Run, fds, nil
}

// connect connects to the run in a directory. EAGAIN is that as many have asked
// already as it takes at once, for which one that is stopped is not waited for.
func connect(fd, d int, dir string) error {
	unix.SetNonblock(fd, true)
	err := unix.Connect(fd, address(d))
	unix.SetNonblock(fd, false)
	if err == unix.EAGAIN && !silent(dir, 0).Stopped() {
		err = unix.Connect(fd, address(d))
	}
	return err
}

// Gone says whether an error of Ask means that the run does not live. It may also be
// the caller who is short of something, or may not ask.
func Gone(err error) bool {
	return errors.Is(err, unix.ECONNREFUSED) || errors.Is(err, unix.ENOENT)
}

// Ask asks the run in a directory what it is. One that does not answer is Silent.
func Ask(dir string) (Run, error) {
	run, fds, err := ask(dir, askRun)
	closeAll(fds)
	if run.Silent {
		err = nil
	}
	return run, err
}

// Mounts are what a run lends.
type Mounts struct {
	Run Run
	// FDs are detached mounts, for each of Run.Uppers; Owners are the user
	// namespaces that own them.
	FDs, Owners []int
}

// Borrow takes mounts of the run in a directory.
func Borrow(dir string) (*Mounts, error) {
	run, fds, err := ask(dir, askMounts)
	if err == nil && len(fds) != 2*len(run.Uppers) {
		closeAll(fds)
		err = errors.New("internal error: it lends something else than it says")
	}
	if err != nil {
		return nil, err
	}
	m := &Mounts{Run: run}
	for i := 0; i < len(fds); i += 2 {
		m.Owners, m.FDs = append(m.Owners, fds[i]), append(m.FDs, fds[i+1])
	}
	return m, nil
}

// Close closes what was borrowed; a mount that is attached stays.
func (m *Mounts) Close() {
	closeAll(m.Owners)
	closeAll(m.FDs)
}

// Namespaces takes descriptors of the namespaces of the run in a directory.
func Namespaces(dir string) (Run, []int, error) { return ask(dir, askNamespaces) }
