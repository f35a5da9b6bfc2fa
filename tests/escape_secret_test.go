package tests

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// secretVars are what malicious packages collect from the environment.
var secretVars = []string{
	"AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN", "NPM_TOKEN", "NODE_AUTH_TOKEN", "GITHUB_TOKEN", "GH_TOKEN", "GITLAB_TOKEN", "CI_JOB_TOKEN", "COMPOSER_AUTH",
	"CARGO_REGISTRY_TOKEN", "CARGO_REGISTRIES_CORP_TOKEN", "PYPI_TOKEN", "TWINE_PASSWORD", "VAULT_TOKEN", "OP_SESSION_x", "BW_SESSION", "TF_VAR_secret", "DOCKER_AUTH_CONFIG", "SENTRY_AUTH_TOKEN",
	"OPENAI_API_KEY", "ANTHROPIC_API_KEY", "HF_TOKEN", "GOOGLE_APPLICATION_CREDENTIALS", "AZURE_CLIENT_SECRET", "KUBECONFIG", "PGPASSWORD", "DATABASE_URL", "SLACK_TOKEN",
	"SSH_AUTH_SOCK", "SSH_AGENT_PID", "SSH_CONNECTION", "GPG_AGENT_INFO", "DBUS_SESSION_BUS_ADDRESS", "XDG_RUNTIME_DIR", "WAYLAND_DISPLAY", "DISPLAY", "XAUTHORITY", "SUDO_USER", "MAIL",
	"npm_config__auth", "NPM_CONFIG__AUTH", "npm_config_//registry.example.com/:_authToken", "PIP_INDEX_URL", "GOPROXY", "LS_SECRET", "BASH_FUNC_x%%", "ENV", "BASH_ENV", "LD_PRELOAD_SECRET",
}

// Secrets in the caller's environment, in sbx's arguments and in allowed
// variables whose value is a URL with a password: in no process's environment,
// argument list or name inside.
func TestEscapeSecretEnvironment(t *testing.T) {
	t.Parallel()
	needUserNS(t)
	a := newAccount(t)
	tree := a.tree(t, nil)
	a.arm(t, tree)
	var env []string
	for i, v := range secretVars {
		env = append(env, fmt.Sprintf("%s=sbx-canary-%d", v, i))
	}
	env = append(env,
		"http_proxy=http://user:sbx-canary-p@proxy:3128", "HTTPS_PROXY=http://user:sbx-canary-p@proxy:3128",
		"CCACHE_REMOTE_STORAGE=redis://u:sbx-canary-c@cache", "MAVEN_OPTS=-Dhttp.proxyPassword=sbx-canary-m", "GRADLE_OPTS=-Dx.token=sbx-canary-g", "GOFLAGS=-x=https://sbx-canary-t@host/x", "=sbx-canary-empty",
	)
	// The victim is given the text in two parts, or would find itself.
	attack := "strings sbx- canary-"
	run := func(name string, args ...string) string {
		return parse(t, finish(t, a.command(tree, env, name, args...)), []string{attack})[attack]
	}
	if got := run(victimPath, attack); !strings.Contains(got, "/environ") || !strings.Contains(got, "AWS_SECRET_ACCESS_KEY") {
		t.Fatalf("the control does not find the secrets: %s", got)
	}
	for _, flags := range [][]string{nil, {"--root"}, {"--net=host"}} {
		if got := run(sbxPath, append(flags, "--", "./victim", attack)...); got != "done" {
			t.Errorf("%v: secrets of the environment are inside: %s", flags, got)
		}
	}
	// An argument of sbx's own, in what pid 1 shows of itself: the name of a
	// variable with its value.
	r := finish(t, a.command(tree, env, sbxPath, "--env", "TOKEN=sbx-canary-arg", "--", "sh", "-c", `tr '\0' ' ' </proc/1/cmdline; cat /proc/1/comm; echo "${TOKEN#sbx-}"`))
	if strings.Contains(r.Stdout, "sbx-canary") || !strings.Contains(r.Stdout, "canary-arg") {
		t.Errorf("sbx's arguments can be read inside, or --env does not work: %v", r)
	}
}

// homeCanaries are what malicious packages look for in $HOME.
var homeCanaries = []string{
	".ssh/id_ed25519", ".ssh/config", ".ssh/known_hosts", ".gnupg/private-keys-v1.d/k.key", ".npmrc", ".yarnrc.yml", ".pypirc", ".netrc", ".git-credentials", ".gitconfig", ".config/git/credentials",
	".config/gh/hosts.yml", ".config/hub", ".docker/config.json", ".kube/config", ".aws/credentials", ".aws/config", ".aws/sso/cache/x", ".azure/token", ".config/gcloud/credentials.db",
	".cargo/credentials.toml", ".cargo/credentials", ".composer/auth.json", ".config/composer/auth.json", ".m2/settings.xml", ".m2/settings-security.xml", ".gradle/gradle.properties", ".gem/credentials",
	".terraform.d/credentials.tfrc.json", ".vault-token", ".config/op/config", ".password-store/x.gpg", ".local/share/keyrings/login.keyring", ".mozilla/firefox/p/logins.json", ".config/google-chrome/Default/Login",
	".bitcoin/wallet.dat", ".config/solana/id.json", ".electrum/wallets/w", ".claude/credentials", ".claude.json", ".codex/auth.json", ".gemini/oauth_creds.json", ".bash_history", ".zsh_history", ".lesshst", ".viminfo",
	".Xauthority", ".pgpass", ".my.cnf", ".config/sbx/config.toml", ".local/state/sbx/canary", "Documents/private.txt", ".bashrc", ".profile", "Mail/inbox", ".config/systemd/user/x.service",
	"go/canary", ".nuget/NuGet/NuGet.Config", ".yarn/canary", ".cargo/config.toml",
	// Beside programs and packages, in directories that are toolchains and caches.
	".local/share/uv/credentials/credentials.toml", ".local/share/gem/credentials", ".dotnet/corefx/cryptography/x509stores/my/key.pfx", ".pub-cache/credentials.json", ".npm-global/etc/npmrc",
}

// Nothing of $HOME is inside that is not a toolchain or a cache, although
// toolchains and caches stand beside the secrets; and a write to such a place
// does not reach the host, where it would be run at the next login.
func TestEscapeSecretHome(t *testing.T) {
	t.Parallel()
	needUserNS(t)
	a := newAccount(t)
	files := map[string]string{
		".cargo/bin/": "", ".cargo/registry/": "", ".npm/_cacache/": "", "go/pkg/mod/": "", ".m2/repository/": "", ".gradle/caches/": "", ".composer/cache/": "", ".rustup/toolchains/": "",
		".local/bin/tool": "#!/bin/sh\n", ".cache/pip/": "", ".gem/ruby/": "", ".nuget/packages/": "", ".yarn/bin/": "",
	}
	for _, c := range homeCanaries {
		files[c] = "sbx-canary " + c
	}
	a.mkTree(t, a.Home, files)
	tree := filepath.Join(a.Home, "src/project")
	a.mkTree(t, tree, map[string]string{".git/HEAD": "ref: refs/heads/main\n", "own": "sbx-mine"})
	script := `grep -rIl sbx-canary ~ /tmp /var /run 2>/dev/null; grep -l sbx-mine ~/src/project/own; ls -a ~/.. | grep -v '^[.]*$'`
	control := finish(t, a.command(tree, nil, "sh", "-c", script))
	if n := strings.Count(control.Stdout, a.Home); n < len(homeCanaries)-2 {
		t.Fatalf("the control finds %d of %d secrets", n, len(homeCanaries))
	}
	// The home is compared below: the state, and its directories without
	// permissions, are elsewhere.
	state := "SBX_STATE=" + a.dir(t)
	path := "PATH=" + a.Home + "/.cargo/bin:" + a.Home + "/go/bin:" + a.Home + "/.local/bin:" + a.Home + "/.local/share/pnpm:/usr/bin:/bin"
	r := finish(t, a.command(tree, []string{path, state}, sbxPath, "--", "sh", "-c", script))
	for line := range strings.Lines(r.Stdout) {
		line = strings.TrimSpace(line)
		if line != filepath.Join(tree, "own") && line != filepath.Base(a.Home) {
			t.Errorf("inside there is %s", line)
		}
	}
	if !strings.Contains(r.Stdout, "project/own") {
		t.Errorf("the tree is not there: %v", r)
	}
	same := unchanged(t, a.Home)
	finish(t, a.command(tree, []string{path, state}, sbxPath, "--", "sh", "-c",
		`cd; for f in .bashrc .profile .ssh/authorized_keys .config/systemd/user/evil.service .npmrc .local/bin/tool .cargo/bin/cargo .cargo/registry/x .npm/_cacache/x go/pkg/mod/x .cache/pip/x .m2/repository/x; do mkdir -p "${f%/*}"; echo evil >>$f; done; rm -rf go .cargo .npm`))
	same()
}

// Host files outside $HOME: another user's files, mail, the password hashes,
// keys of the machine, the host's /tmp.
func TestEscapeSecretSystem(t *testing.T) {
	t.Parallel()
	needUserNS(t)
	a, b := newAccount(t), newAccount(t)
	tree := a.tree(t, nil)
	a.arm(t, tree)
	b.mkTree(t, b.Home, map[string]string{"public": "sbx-canary"}) // readable by everyone, on the host
	tmp, err := os.MkdirTemp("/tmp", "sbx-canary-")
	if err != nil {
		t.Fatal(err)
	}
	defer os.RemoveAll(tmp)
	os.Chmod(tmp, 0o755)
	os.WriteFile(tmp+"/f", []byte("canary"), 0o644)
	control := []string{"read " + b.Home + "/public", "read " + tmp + "/f", "list /tmp", "list " + filepath.Dir(b.Home), "read /etc/hostname"}
	a.outside(t, tree, control...).did(t, control...)
	attacks := []string{
		control[0], control[1], control[3], "read /etc/shadow", "read /etc/shadow-", "read /etc/gshadow", "read /etc/passwd-", "read /etc/sudoers", "list /etc/ssl/private", "read /etc/ssh/ssh_host_ed25519_key", "read /etc/ssh/ssh_host_rsa_key",
		"list /var/mail/" + filepath.Base(b.Home), "list /var/spool/cron", "list /run/user", "list /run/systemd", "list /run/dbus", "list /root", "list /home", "list /boot", "list /mnt", "list /media", "list /srv",
		"list /lost+found", "list /tmp/.X11-unix", "read /dev/mem", "read /dev/kmsg", "read /dev/sda", "read /dev/vda", "read /dev/fuse", "list /dev/input", "list /dev/disk", "read /dev/port", "list /dev/mapper", "read /dev/net/tun", "read /dev/kvm",
		"read /proc/kcore", "read /proc/kmsg", "write /proc/sysrq-trigger h", "write /proc/sys/kernel/core_pattern x", "write /proc/sys/kernel/hostname x", "write /proc/sys/vm/drop_caches 1", "write /proc/sys/net/ipv4/ip_forward 1", "write /proc/sys/kernel/ns_last_pid 5",
		"write /sys/kernel/uevent_helper x", "write /sys/power/state x", "mkdir /sys/fs/cgroup/x", "write /sys/fs/cgroup/cgroup.procs 1", "list /sys/kernel/debug/tracing", "list /sys/kernel/tracing/events", "list /sys/kernel/debug/bdi", "create /sys/fs/cgroup/x y",
	}
	o := a.inside(t, tree, nil, attacks...)
	o.refused(t, attacks...)
	empty := []string{"read /proc/keys", "read /proc/key-users", "read /proc/timer_list", "read /proc/kallsyms", "read /proc/fs/cifs/DebugData"}
	o = a.inside(t, tree, nil, append(empty, "list /tmp", "list /var/tmp", "list /var/mail", "read /etc/hostname", "read /etc/passwd", "read /etc/machine-id", "read /proc/sys/kernel/hostname")...)
	for _, e := range empty {
		o.is(t, e, `done ""`, "ENOENT", "EACCES")
	}
	o.is(t, "list /tmp", "done")
	o.is(t, "list /var/mail", "done")
	o.is(t, "read /etc/hostname", `done "sbx\n"`)
	for _, file := range []string{"/etc/machine-id", "/etc/hostname"} {
		host, _ := os.ReadFile(file)
		if text := strings.TrimSpace(string(host)); text != "" && text != "sbx" && strings.Contains(o["read "+file], text) {
			t.Errorf("%s is the host's: %s", file, o["read "+file])
		}
	}
}

// Keys in the caller's keyrings, which no namespace separates.
func TestEscapeSecretKeyring(t *testing.T) {
	t.Parallel()
	needUserNS(t)
	needTool(t, "keyctl")
	a := newAccount(t)
	tree := a.tree(t, nil)
	a.arm(t, tree)
	// The shell, and all it starts, has a session keyring with the key in it
	// and in the user's.
	run := func(args ...string) result {
		script := `keyctl add user sbx-canary sbx-secret @u >/dev/null && keyctl add user sbx-canary sbx-secret @s >/dev/null && keyctl setperm $(keyctl search @u user sbx-canary) 0x3f3f3f3f && exec "$@"`
		return finish(t, a.command(tree, nil, "keyctl", append([]string{"session", "-", "sh", "-c", script, "sh"}, args...)...))
	}
	if r := run(victimPath, "keys"); !strings.Contains(r.Stdout, "sbx-secret") {
		t.Skipf("no keyrings here: %v", r)
	}
	for _, flags := range [][]string{nil, {"--root"}, {"--net=host"}} {
		attacks := []string{"keys", "read /proc/keys", "sys keyctl", "sys add_key", "sys request_key"}
		r := run(append(append([]string{sbxPath}, flags...), append([]string{"--", "./victim"}, attacks...)...)...)
		o := parse(t, r, attacks)
		o.refused(t, "keys", "sys keyctl", "sys add_key", "sys request_key")
		if strings.Contains(o["read /proc/keys"], "sbx-canary") {
			t.Errorf("%v: the host's keys are listed: %s", flags, o["read /proc/keys"])
		}
	}
}

// System V and POSIX objects of the host.
func TestEscapeSecretIPC(t *testing.T) {
	t.Parallel()
	needUserNS(t)
	needTool(t, "ipcmk", "ipcrm")
	a := newAccount(t)
	tree := a.tree(t, nil)
	a.arm(t, tree)
	var attacks []string
	for _, kind := range []struct{ flag, remove, verb string }{{"-M 4096", "-m", "shmget"}, {"-S 1", "-s", "semget"}, {"-Q", "-q", "msgget"}} {
		args := append(strings.Fields(kind.flag), "-p", "0666")
		r := finish(t, a.command(tree, nil, "ipcmk", args...))
		fields := strings.Fields(r.Stdout)
		if r.Status != 0 || len(fields) == 0 {
			t.Fatalf("cannot make an object: %v", r)
		}
		id := fields[len(fields)-1]
		t.Cleanup(func() { exec.Command("ipcrm", kind.remove, id).Run() })
		list := finish(t, a.command(tree, nil, "ipcs", kind.remove))
		for line := range strings.Lines(list.Stdout) {
			if f := strings.Fields(line); len(f) > 1 && f[1] == id {
				attacks = append(attacks, kind.verb+" "+f[0])
			}
		}
	}
	if len(attacks) != 3 {
		t.Fatalf("the keys are not found: %q", attacks)
	}
	queue := fmt.Sprintf("sbx-test-%d", os.Getpid())
	shm := "/dev/shm/" + queue
	if err := os.WriteFile(shm, []byte("canary"), 0o644); err != nil {
		t.Fatal(err)
	}
	defer os.Remove(shm)
	attacks = append(attacks, "read "+shm)
	make := fmt.Sprintf("mqopen %s %d", queue, unix.O_CREAT|unix.O_RDWR)
	a.outside(t, tree, make).did(t, make)
	attacks = append(attacks, fmt.Sprintf("mqopen %s %d", queue, unix.O_RDWR))
	defer a.outside(t, tree, "mqunlink "+queue)
	a.outside(t, tree, attacks...).did(t, attacks...)
	a.inside(t, tree, nil, attacks...).refused(t, attacks...)
}
