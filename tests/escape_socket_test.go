package tests

import (
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// service is a listener on the host that counts who comes.
type service struct {
	attack string // the victim's attack on it
	came   chan struct{}
}

func serve(t *testing.T, network, address string) service {
	t.Helper()
	l, err := net.Listen(network, address)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	if network == "unix" && address[0] != '@' {
		os.Chmod(address, 0o777)
	}
	s := service{"connect " + network + " " + l.Addr().String(), make(chan struct{}, 100)}
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			s.came <- struct{}{}
			c.Close()
		}
	}()
	return s
}

// mustBeClosed checks that the account reaches every service from outside, and
// none from inside, with flags.
func mustBeClosed(t *testing.T, a account, tree string, flags []string, services ...service) {
	t.Helper()
	var attacks []string
	for _, s := range services {
		attacks = append(attacks, s.attack)
	}
	a.outside(t, tree, attacks...).did(t, attacks...)
	for _, s := range services {
		select {
		case <-s.came:
		case <-time.After(5 * time.Second):
			t.Fatalf("the control of %q reached something else", s.attack)
		}
	}
	a.inside(t, tree, flags, attacks...).refused(t, attacks...)
	for _, s := range services {
		select {
		case <-s.came:
			t.Errorf("%q has reached the host", s.attack)
		default:
		}
	}
}

// Sockets by path: in the host's /tmp, /var/tmp, /run (as root), $HOME, and in
// the source tree itself, where a file watcher or a database of the user's may
// have put one.
func TestEscapeSocketPath(t *testing.T) {
	t.Parallel()
	needUserNS(t)
	a := newAccount(t)
	tree := a.tree(t, map[string]string{"sub/": ""})
	a.arm(t, tree)
	a.mkTree(t, a.Home, map[string]string{".gnupg/": "", ".cache/go-build/": "", ".cargo/registry/": ""})
	tmp, err := os.MkdirTemp("/tmp", "sbx-sock-")
	if err != nil {
		t.Fatal(err)
	}
	defer os.RemoveAll(tmp)
	os.Chmod(tmp, 0o755)
	paths := []string{tmp + "/s", tree + "/sub/s", tree + "/.git/fsmonitor--daemon.ipc", a.Home + "/.gnupg/S.gpg-agent", a.Home + "/.cache/go-build/s", a.Home + "/.cargo/registry/s"}
	if os.Getuid() == 0 {
		run, err := os.MkdirTemp("/run", "sbx-sock-")
		if err != nil {
			t.Fatal(err)
		}
		defer os.RemoveAll(run)
		os.Chmod(run, 0o755)
		paths = append(paths, run+"/s")
	}
	var services []service
	for _, p := range paths {
		services = append(services, serve(t, "unix", p))
	}
	for _, flags := range [][]string{nil, {"--net=host"}, {"--root"}} {
		mustBeClosed(t, a, tree, flags, services...)
	}
}

// Toolchains of the home are bound read-only, which does not close a socket:
// none may be reachable there.
func TestEscapeSocketBelowToolchain(t *testing.T) {
	t.Parallel()
	needUserNS(t)
	a := newAccount(t)
	tree := a.tree(t, nil)
	a.arm(t, tree)
	a.mkTree(t, a.Home, map[string]string{"bin/": "", ".local/bin/": "", ".local/share/pnpm/run/": ""})
	services := []service{serve(t, "unix", a.Home+"/bin/s"), serve(t, "unix", a.Home+"/.local/share/pnpm/run/s")}
	mustBeClosed(t, a, tree, nil, services...)
}

// A rule that shows a socket is the user's word, but not a silent one.
func TestEscapeSocketRuleWarns(t *testing.T) {
	t.Parallel()
	needUserNS(t)
	a := newAccount(t)
	tree := a.tree(t, nil)
	a.arm(t, tree)
	dir := a.dir(t)
	s := serve(t, "unix", dir+"/agent.sock")
	r := finish(t, a.command(tree, []string{"SSH_AUTH_SOCK=" + dir + "/agent.sock"}, sbxPath, "--ro", dir, "--", "./victim", s.attack))
	if !strings.Contains(r.Stderr, "warning") || !strings.Contains(r.Stderr, "agent.sock") {
		t.Errorf("no warning that the agent's socket is shown: %v", r)
	}
	r = a.sbx(t, tree, "--ro", dir+"/agent.sock", "--", "./victim", s.attack)
	if !strings.Contains(r.Stderr, "warning") {
		t.Errorf("no warning that a socket is shown: %v", r)
	}
}

// Abstract sockets belong to the network namespace; with the host's only
// Landlock's scope closes them (Linux 6.12).
func TestEscapeSocketAbstract(t *testing.T) {
	t.Parallel()
	needUserNS(t)
	a := newAccount(t)
	tree := a.tree(t, nil)
	a.arm(t, tree)
	s := serve(t, "unix", fmt.Sprintf("@sbx-test-%d", os.Getpid()))
	x := serve(t, "unix", fmt.Sprintf("@/tmp/.X11-unix/X%d", os.Getpid()))
	mustBeClosed(t, a, tree, nil, s, x)
	abi, _, errno := unix.Syscall(unix.SYS_LANDLOCK_CREATE_RULESET, 0, 0, unix.LANDLOCK_CREATE_RULESET_VERSION)
	if errno == 0 && abi >= 6 {
		mustBeClosed(t, a, tree, []string{"--net=host"}, s, x)
	} else if r := a.sbx(t, tree, "--net=host", "--", "true"); !strings.Contains(r.Stderr, "abstract") {
		t.Errorf("this kernel cannot close abstract sockets with --net=host, and sbx does not say so: %v", r)
	}
}

// The host's TCP services, on every address that is its own.
func TestEscapeSocketTCP(t *testing.T) {
	t.Parallel()
	needUserNS(t)
	a := newAccount(t)
	tree := a.tree(t, nil)
	a.arm(t, tree)
	services := []service{serve(t, "tcp", "127.0.0.1:0")}
	addresses, _ := net.InterfaceAddrs()
	for _, address := range addresses {
		ip, _, err := net.ParseCIDR(address.String())
		if err != nil || ip.IsLinkLocalUnicast() {
			continue
		}
		l, err := net.Listen("tcp", net.JoinHostPort(ip.String(), "0"))
		if err != nil {
			continue // an address that is still being set up
		}
		l.Close()
		services = append(services, serve(t, "tcp", net.JoinHostPort(ip.String(), "0")))
	}
	t.Logf("attacking %d listeners", len(services))
	mustBeClosed(t, a, tree, nil, services...)
	// The wildcard address is the own host as well.
	_, port, _ := net.SplitHostPort(strings.Fields(services[0].attack)[2])
	for _, attack := range []string{"connect tcp 0.0.0.0:" + port, "connect tcp [::ffff:127.0.0.1]:" + port} {
		a.inside(t, tree, nil, attack).refused(t, attack)
	}
}

// A live ssh-agent with a key: neither its variable nor its socket is there.
func TestEscapeSocketAgent(t *testing.T) {
	t.Parallel()
	needUserNS(t)
	needTool(t, "ssh-agent", "ssh-add", "ssh-keygen")
	a := newAccount(t)
	tree := a.tree(t, nil)
	tmp, err := os.MkdirTemp("/tmp", "ssh-")
	if err != nil {
		t.Fatal(err)
	}
	defer os.RemoveAll(tmp)
	a.mkTree(t, tmp, nil)
	sock := filepath.Join(tmp, "agent.1")
	agent := a.command(tree, nil, "ssh-agent", "-D", "-a", sock)
	if err := agent.Start(); err != nil {
		t.Fatal(err)
	}
	defer agent.Wait()
	defer agent.Process.Kill()
	for range 200 {
		if _, err := os.Stat(sock); err == nil {
			break
		}
		time.Sleep(10 * time.Millisecond)
	}
	env := []string{"SSH_AUTH_SOCK=" + sock, "SSH_AGENT_PID=" + strconv.Itoa(agent.Process.Pid)}
	a.mkTree(t, a.Home, map[string]string{".ssh/": ""})
	// By the tests' own user: ssh-keygen(1) wants one that passwd(5) knows.
	if text, err := exec.Command("ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", "canary", "-f", a.Home+"/.ssh/id_ed25519").CombinedOutput(); err != nil {
		t.Fatalf("cannot make a key: %v\n%s", err, text)
	}
	a.mkTree(t, a.Home, nil) // gives it to the account
	if r := finish(t, a.command(tree, env, "ssh-add", "-q", a.Home+"/.ssh/id_ed25519")); r.Status != 0 {
		t.Fatalf("cannot give the agent a key: %v", r)
	}
	script := `ssh-add -l; SSH_AUTH_SOCK=` + sock + ` ssh-add -l; env | grep SSH_; ls ~/.ssh; echo end`
	if r := finish(t, a.command(tree, env, "sh", "-c", script)); !strings.Contains(r.Stdout, "canary") {
		t.Fatalf("the control cannot ask the agent: %v", r)
	}
	r := finish(t, a.command(tree, env, sbxPath, "--", "sh", "-c", script))
	if strings.Contains(r.Stdout, "canary") || strings.Contains(r.Stdout, "SSH_") || strings.Contains(r.Stdout, "id_ed25519") || !strings.Contains(r.Stdout, "end") {
		t.Errorf("the agent is within reach: %v", r)
	}
}

// A real X server, by its path and by its abstract name.
func TestEscapeSocketX(t *testing.T) {
	t.Parallel()
	needUserNS(t)
	needTool(t, "Xvfb")
	a := newAccount(t)
	tree := a.tree(t, nil)
	a.arm(t, tree)
	display := 50 + os.Getpid()%1000
	x := exec.Command("Xvfb", fmt.Sprintf(":%d", display), "-screen", "0", "64x64x8", "-ac", "-nolisten", "tcp")
	if err := x.Start(); err != nil {
		t.Fatal(err)
	}
	defer x.Wait()
	defer x.Process.Signal(unix.SIGTERM) // it removes its socket and lock
	path := fmt.Sprintf("/tmp/.X11-unix/X%d", display)
	for range 300 {
		if _, err := os.Stat(path); err == nil {
			break
		}
		time.Sleep(10 * time.Millisecond)
	}
	attacks := []string{"connect unix " + path, "connect unix @" + path}
	out := a.outside(t, tree, attacks...)
	out.did(t, attacks[0])
	out.is(t, attacks[1], "done", "ECONNREFUSED") // servers of today have no abstract name
	a.inside(t, tree, nil, attacks...).refused(t, attacks...)
	a.inside(t, tree, []string{"--net=host"}, attacks...).refused(t, attacks...)
	if r := finish(t, a.command(tree, []string{fmt.Sprintf("DISPLAY=:%d", display)}, sbxPath, "--", "sh", "-c", "echo D=$DISPLAY; ls -A /tmp")); strings.Contains(r.Stdout, "X11") || !strings.HasPrefix(r.Stdout, "D=\n") {
		t.Errorf("the display is named inside: %v", r)
	}
}

// TestEscapeSocketRun: where a rule shows the state directory, a build reaches the
// sockets of runs, and nobody answers.
func TestEscapeSocketRun(t *testing.T) {
	needUserNS(t)
	a := newAccount(t)
	tree := a.tree(t, nil)
	a.background(t, tree, "--layer", "other", "--", "sleep", "1000")
	a.lives(t, tree, 1)
	state := filepath.Join(a.Home, ".local/state/sbx")
	show := []string{"--ro", state, "--ro", filepath.Dir(sbxPath), "--"}
	if r := a.sbx(t, tree, append(show, "sh", "-c", "for s in "+state+"/runs/*/socket; do test -S $s || exit 1; done")...); r.Status != 0 {
		t.Fatalf("the control finds no socket: %v", r)
	}
	if r := a.sbx(t, tree, append(show, sbxPath, "ps", "--json", "--state", state)...); r.Status != 0 || strings.TrimSpace(r.Stdout) != "[]" {
		t.Error(r)
	}
	a.lives(t, tree, 1)
}
