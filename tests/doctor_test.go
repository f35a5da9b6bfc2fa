package tests

import (
	"encoding/json"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// doctorCheck is one check of `sbx doctor --json`.
type doctorCheck struct{ Name, Status, Detail, Fix string }

// doctorChecks reads the answer of `sbx doctor --json`, strictly.
func doctorChecks(t *testing.T, r result) (ok bool, checks map[string]doctorCheck) {
	t.Helper()
	var answer struct {
		Version int
		OK      bool
		Checks  []doctorCheck
	}
	d := json.NewDecoder(strings.NewReader(r.Stdout))
	d.DisallowUnknownFields()
	if err := d.Decode(&answer); err != nil || answer.Version != 1 {
		t.Fatalf("no answer of version 1 (%v): %v", err, r)
	}
	checks = map[string]doctorCheck{}
	for _, c := range answer.Checks {
		checks[c.Name] = c
	}
	if want := map[bool]int{true: 0, false: 1}[answer.OK]; r.Status != want {
		t.Errorf("the answer is %v, and the exit status %d, want %d", answer.OK, r.Status, want)
	}
	return answer.OK, checks
}

// doctorInside runs a command of sh(1) in a user and mount namespace of its own,
// after a setup there.
func (a account) doctorInside(t *testing.T, dir string, env []string, setup, command string) result {
	t.Helper()
	return finish(t, a.command(dir, append(env, "SBX_BIN="+sbxPath), "unshare", "--user", "--map-root-user", "--mount", "--pid", "--fork", "--mount-proc",
		"sh", "-c", "set -e\n"+setup+"\nexec "+command))
}

// TestDoctorTellsTheTruth: exit 0 if a run works and only then; and nothing is
// left behind.
func TestDoctorTellsTheTruth(t *testing.T) {
	needUserNS(t)
	a := newAccount(t)
	dir := a.tree(t, nil)
	tmp := a.dir(t)
	env := []string{"TMPDIR=" + tmp}
	r := finish(t, a.command(dir, env, sbxPath, "doctor", "--json"))
	ok, checks := doctorChecks(t, r)
	if run := a.sbx(t, dir, "--state", filepath.Join(a.dir(t), "state"), "--", "true"); ok != (run.Status == 0) {
		t.Errorf("the doctor says %v, and a run: %v\n%v", ok, run, r)
	}
	for name, c := range checks {
		if ok && c.Status == "fail" || c.Status == "fail" && c.Detail == "" {
			t.Errorf("%s: %+v", name, c)
		}
	}
	if left, err := os.ReadDir(tmp); err != nil || len(left) > 0 {
		t.Errorf("left in $TMPDIR: %v (%v)", left, err)
	}
	if left, err := os.ReadDir(a.Home); err != nil || len(left) > 0 {
		t.Errorf("left in $HOME: %v (%v)", left, err)
	}
	if r.Stderr != "" {
		t.Errorf("something is said on stderr: %s", r.Stderr)
	}
}

// TestDoctorKeepsState: what runs have left before is not touched.
func TestDoctorKeepsState(t *testing.T) {
	needUserNS(t)
	a := newAccount(t)
	dir := a.tree(t, nil)
	if r := a.sbx(t, dir, "--", "sh", "-c", "echo kept >file"); r.Status != 0 {
		t.Fatal(r)
	}
	if r := a.sbx(t, dir, "doctor"); r.Status != 0 {
		t.Error(r)
	}
	if r := a.sbx(t, dir, "--", "cat", "file"); r.Stdout != "kept\n" {
		t.Errorf("the layer is gone: %v", r)
	}
	if left, _ := filepath.Glob(a.Home + "/.local/state/sbx/doctor-*"); len(left) > 0 {
		t.Errorf("left behind: %q", left)
	}
	if left, _ := filepath.Glob(a.Home + "/.local/state/sbx/trees/*"); len(left) != 1 {
		t.Errorf("the trees are %q, want one", left)
	}
}

// TestDoctorForm: a line for each check, in columns, without colours where
// stdout is no terminal.
func TestDoctorForm(t *testing.T) {
	needUserNS(t)
	a := newAccount(t)
	dir := a.tree(t, nil)
	r := finish(t, a.command(dir, []string{"TERM=xterm"}, sbxPath, "doctor"))
	line := regexp.MustCompile(`^((ok  |info|warn|FAIL) [a-z_]+ {2,}\S|        \S)`)
	column := strings.Index(r.Stdout, "Linux ")
	for _, l := range strings.Split(strings.TrimSuffix(r.Stdout, "\n"), "\n") {
		if !line.MatchString(l) || strings.Contains(l, "\x1b") {
			t.Errorf("this is no line of a check: %q", l)
		}
		if !strings.HasPrefix(l, " ") && (column < 10 || len(l) < column || l[column-1] != ' ' || l[column] == ' ') {
			t.Errorf("this line is not aligned to column %d: %q", column, l)
		}
	}
	if r := a.sbx(t, dir, "doctor", "all"); r.Status != 2 || !strings.Contains(r.Stderr, "sbx: hint: ") || r.Stdout != "" {
		t.Errorf("an argument is taken: %v", r)
	}
}

// doctorBroken are machines that are broken for this test, as far as an
// ordinary user can: by namespaces around sbx.
var doctorBroken = []struct {
	name, setup string
	// flags of doctor and of the run; $D is a directory that is empty.
	flags string
	check string
	// detail and fix are in that check, hint in the run's stderr.
	detail, fix, hint string
	// works: the run does, and the doctor fails for what builds will find.
	works bool
}{
	{
		name:  "no user namespaces",
		setup: `echo 0 >/proc/sys/user/max_user_namespaces`,
		check: "user_namespaces", detail: "user.max_user_namespaces is 0", fix: "sysctl -p", hint: "user.max_user_namespaces is 0: no user namespace may be created",
	}, {
		name:  "no network namespaces",
		setup: `echo 0 >/proc/sys/user/max_net_namespaces`,
		check: "network_namespace", detail: "no net namespace may be created", fix: "user.max_net_namespaces", hint: "user.max_net_namespaces is 0",
	}, {
		name:  "masked proc",
		setup: `mount --bind /dev/null /proc/keys`,
		check: "proc", detail: "covered are /proc/keys", hint: "covered are /proc/keys",
	}, {
		name:  "chroot",
		setup: `mkdir "$D/r"; mount --rbind / "$D/r"; set -- chroot "$D/r"`,
		check: "user_namespaces", detail: "clone(2): operation not permitted",
	}, {
		name:  "state on an overlay",
		setup: `mkdir "$D/l" "$D/u" "$D/w" "$D/o"; mount -t overlay -o "userxattr,lowerdir=$D/l,upperdir=$D/u,workdir=$D/w" none "$D/o"; export SBX_STATE="$D/o/s"`,
		check: "overlay", detail: "is on overlay (as in a container)", hint: "sbx --state DIR",
	}, {
		name:  "state without user xattrs",
		setup: `mount -t ramfs none "$D"; export SBX_STATE="$D/s"`,
		check: "state_directory", detail: "holds no user xattrs", hint: "sbx --state DIR",
	}, {
		name:  "state read-only",
		setup: `mount -t tmpfs -o ro none "$D"; export SBX_STATE="$D/s"`,
		check: "state_directory", detail: "mounted read-only", hint: "sbx --state DIR",
	}, {
		name:  "state in a file",
		setup: `: >"$D/f"; export SBX_STATE="$D/f"`,
		check: "state_directory", detail: "not a directory", fix: "sbx --state DIR",
	}, {
		name:  "no home",
		setup: `unset HOME`,
		check: "state_directory", detail: "$HOME is not set", fix: "sbx --state DIR", hint: "sbx --state DIR",
	},
}

func TestDoctorBroken(t *testing.T) {
	needUserNS(t)
	for _, test := range doctorBroken {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			a := newAccount(t)
			tree := a.tree(t, nil)
			env := []string{"D=" + a.dir(t)}
			r := a.doctorInside(t, tree, env, test.setup, `"$@" "$SBX_BIN" doctor --json`)
			ok, checks := doctorChecks(t, r)
			c := checks[test.check]
			if ok || c.Status != "fail" || !strings.Contains(c.Detail, test.detail) || !strings.Contains(c.Fix, test.fix) {
				t.Errorf("OK is %v, and %+v\n%v", ok, c, r)
			}
			env = []string{"D=" + a.dir(t)}
			run := a.doctorInside(t, tree, env, test.setup, `"$@" "$SBX_BIN" --source "$PWD" -- true`)
			if works := run.Status == 0; works != test.works || works != (checks["run"].Status == "ok") {
				t.Errorf("the run ends with %v, and the doctor says of it %+v", run, checks["run"])
			}
			if !strings.Contains(run.Stderr, test.hint) {
				t.Errorf("no hint %q: %v", test.hint, run)
			}
		})
	}
}

// TestDoctorLive: where inotify is used up the doctor says so, and a run works.
func TestDoctorLive(t *testing.T) {
	needUserNS(t)
	a := newAccount(t)
	r := a.doctorInside(t, a.tree(t, nil), nil, `echo 0 >/proc/sys/user/max_inotify_instances`, `"$SBX_BIN" doctor --json`)
	ok, checks := doctorChecks(t, r)
	if c := checks["live"]; !ok || c.Status != "warn" || !strings.Contains(c.Fix, "max_user_instances") {
		t.Errorf("OK is %v, and %+v\n%v", ok, c, r)
	}
	run := a.doctorInside(t, a.tree(t, nil), nil, `echo 0 >/proc/sys/user/max_inotify_instances`, `"$SBX_BIN" --source "$PWD" -- sleep 0.5`)
	if run.Status != 0 || !strings.Contains(run.Stderr, "what you edit is seen inside only after a while") || strings.Count(run.Stderr, "\n") != 1 {
		t.Errorf("a run: %v", run)
	}
}

// TestDoctorTmpfs: a state directory on a tmpfs is as good as any, where the
// kernel's tmpfs has user xattrs.
func TestDoctorTmpfs(t *testing.T) {
	needUserNS(t)
	a := newAccount(t)
	r := a.doctorInside(t, a.tree(t, nil), []string{"D=" + a.dir(t)}, `mount -t tmpfs none "$D"`, `"$SBX_BIN" doctor --json --state "$D/s"`)
	_, checks := doctorChecks(t, r)
	c := checks["state_directory"]
	if !strings.Contains(c.Detail, "on tmpfs") {
		t.Errorf("the file system is not named: %+v", c)
	}
	if c.Status != "ok" && !strings.Contains(c.Detail, "Linux 6.6") {
		t.Errorf("state_directory is %+v\n%v", c, r)
	}
}

// TestDoctorNamesakes: other programs called sbx, before and after the real one.
func TestDoctorNamesakes(t *testing.T) {
	a := newAccount(t)
	other := a.dir(t)
	a.mkTree(t, other, map[string]string{"sbx": "#!/bin/sh\nexit 1\n"})
	own := filepath.Dir(sbxPath)
	for path, want := range map[string][2]string{
		own + ":/usr/bin:/bin:" + other:               {"info", other + "/sbx"},
		other + ":" + own + ":/usr/bin:/bin":          {"warn", other + "/sbx"},
		"/usr/bin:/bin":                               {"info", "no directory of PATH"},
		own + ":/usr/bin:/bin:" + own + ":relative::": {"ok", "no other program"},
	} {
		r := finish(t, a.command(a.tree(t, nil), []string{"PATH=" + path}, sbxPath, "doctor", "--json"))
		_, checks := doctorChecks(t, r)
		if c := checks["path"]; c.Status != want[0] || !strings.Contains(c.Detail, want[1]) {
			t.Errorf("with PATH=%s: %+v, want %s", path, c, want)
		}
	}
}

// TestDoctorInside: sbx in sbx says where it is, and does not send its user
// after the machine's settings.
func TestDoctorInside(t *testing.T) {
	needUserNS(t)
	a := newAccount(t)
	r := a.sbx(t, a.tree(t, nil), "--ro", sbxPath, "--", sbxPath, "doctor", "--json")
	ok, checks := doctorChecks(t, r)
	if c := checks["user_namespaces"]; ok || !strings.Contains(c.Detail, "inside of a sandbox already") || c.Fix != "" {
		t.Errorf("user_namespaces is %+v", c)
	}
	if c := checks["container"]; !strings.Contains(c.Detail, "a sandbox of sbx") {
		t.Errorf("container is %+v", c)
	}
}

// TestDoctorRootWithoutSetfcap: root with a bounding set as containers have it
// cannot map itself (user_namespaces(7)).
func TestDoctorRootWithoutSetfcap(t *testing.T) {
	needRoot(t)
	needTool(t, "setpriv")
	a := newAccount(t)
	a.UID, a.GID = 0, 0
	dir := a.tree(t, nil)
	r := finish(t, a.command(dir, nil, "setpriv", "--bounding-set=-setfcap", sbxPath, "doctor", "--json"))
	ok, checks := doctorChecks(t, r)
	// A run maps to ids that nobody has, and never uid 0.
	if c := checks["user_namespaces"]; !ok || c.Status != "warn" || !strings.Contains(c.Detail, "root without cap_setfcap may not map uid 0") {
		t.Errorf("user_namespaces is %+v", c)
	}
	if c := checks["capabilities"]; c.Status != "warn" || !strings.Contains(c.Detail, "cap_setfcap") {
		t.Errorf("capabilities is %+v", c)
	}
	run := finish(t, a.command(dir, nil, "setpriv", "--bounding-set=-setfcap", sbxPath, "--", "true"))
	if run.Status != 0 || run.Stderr != "" {
		t.Errorf("the run says %v", run)
	}
}
