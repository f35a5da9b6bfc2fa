package tests

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// No byte of a credential in the configuration of tools is inside: in no file, no
// environment and no argument list.
func TestEscapeConfSecrets(t *testing.T) {
	t.Parallel()
	a, tree := confAccount(t)
	// The pattern does not match itself.
	script := `grep -rslE 'canary-[c]onf' ~ /etc /tmp /var /run /dev/shm; grep -sl 'canary-[c]onf' /proc/[0-9]*/environ /proc/[0-9]*/cmdline; env | grep -c 'canary-[c]onf'; ls ~/.npmrc ~/.gitconfig`
	control := finish(t, a.command(tree, confEnv, "sh", "-c", script))
	if n := strings.Count(control.Stdout, a.Home+"/."); n < len(confFiles) || !strings.Contains(control.Stdout, "/environ") {
		t.Fatalf("the control finds %d of %d: %v", n, len(confFiles), control)
	}
	for _, flags := range [][]string{nil, nil, {"--rm"}, {"--root"}, {"--net=host"}} {
		r := finish(t, a.command(tree, confEnv, sbxPath, append(flags, "--", "sh", "-c", script)...))
		if want := fmt.Sprintf("0\n%s/.gitconfig\n%s/.npmrc\n", a.Home, a.Home); r.Stdout != want {
			t.Errorf("%v: inside there is %v", flags, r)
		}
	}
	// The layer on disk has none either.
	r := finish(t, a.command(tree, nil, "sh", "-c", `grep -rsl 'canary-[c]onf' ~/.local/state/sbx`))
	if r.Stdout != "" {
		t.Errorf("the state has credentials: %v", r)
	}
	// What was put there is known to sbx by hashes, which the build does not see.
	if r := a.sbx(t, tree, "--", "sh", "-c", `find / -name seeds -not -path '/proc/*' -not -path '/usr/*' 2>/dev/null`); strings.Contains(r.Stdout, "seeds") {
		t.Errorf("the build sees the record: %v", r)
	}
}

// The system's own configuration of tools, with an /etc that overlayfs takes and one
// that it refuses because of a mount below.
func TestEscapeConfEtc(t *testing.T) {
	t.Parallel()
	needRoot(t)
	needTool(t, "setpriv", "unshare", "git")
	a, tree := confAccount(t)
	etc := filepath.Join(tempDir(t), "etc")
	setup := `cp -a /etc ` + etc + ` && cd ` + etc + ` && rm -rf npmrc pip.conf maven gitconfig && mkdir maven && cp ~/.npmrc npmrc && cp ~/.config/pip/pip.conf . && cp ~/.gitconfig gitconfig && cp ~/.m2/settings.xml maven && chmod 644 npmrc pip.conf gitconfig maven/settings.xml`
	if r := finish(t, (account{Home: a.Home}).command(tree, nil, "sh", "-c", setup)); r.Status != 0 {
		t.Fatal(r)
	}
	script := `grep -rslE 'canary-[c]onf' /etc; git config --system user.name; head -n 1 /etc/npmrc; grep -c maven.example.com /etc/maven/settings.xml; grep one.example.com /etc/pip.conf; echo x >>/etc/maven/settings.xml`
	want := "Tester\nregistry=https://registry.example.com/npm/\n1\nextra-index-url = https://one.example.com/simple https://two.example.com/simple\n"
	for name, mount := range map[string]string{"overlay": "", "mounts": "mount --bind hosts /etc/hosts && "} {
		run := fmt.Sprintf(`cd %s && mount --bind . /etc && %s cd %s && exec setpriv --reuid %d --regid %d --clear-groups "$@"`, etc, mount, tree, a.UID, a.GID)
		as := func(args ...string) result {
			return finish(t, (account{Home: a.Home}).command(tree, []string{"HOME=" + a.Home}, "unshare", append([]string{"-m", "sh", "-c", run, "sh"}, args...)...))
		}
		if r := as("sh", "-c", script); strings.Count(r.Stdout, "/etc/") != 4 {
			t.Fatalf("%s: the control: %v", name, r)
		}
		if r := as(sbxPath, "--", "sh", "-c", script); r.Stdout != want || !strings.Contains(r.Stderr, "settings.xml") {
			t.Errorf("%s: %v, want %q", name, r, want)
		}
		for _, file := range []string{"/etc/npmrc", "/etc/maven/settings.xml"} {
			if r := as(sbxPath, "why", file); !strings.Contains(r.Stdout, "the host's with credentials removed") {
				t.Errorf("%s: %v", name, r)
			}
		}
	}
}

// A caller that is root: the same, for its own home.
func TestEscapeConfRoot(t *testing.T) {
	t.Parallel()
	needRoot(t)
	a, _ := confAccount(t)
	root := account{UID: 0, GID: 0, Home: a.Home}
	tree := filepath.Join(a.Home, "src/project")
	if r := finish(t, root.command(tree, nil, "chown", "-R", "0:0", a.Home)); r.Status != 0 {
		t.Fatal(r)
	}
	script := `grep -rslE 'canary-[c]onf' ~ /etc; cat ~/.npmrc; echo x=1 >>~/.npmrc && tail -n 1 ~/.npmrc; stat -c %u ~/.gitconfig`
	for _, want := range []string{"registry=https://registry.example.com/npm/\n@corp:registry=https://npm.example.com/\nx=1\n0\n", "registry=https://registry.example.com/npm/\n@corp:registry=https://npm.example.com/\nx=1\nx=1\n0\n"} {
		if r := finish(t, root.command(tree, nil, sbxPath, "--", "sh", "-c", script)); r.Stdout != want {
			t.Errorf("as root: %v, want %q", r, want)
		}
	}
}

// What an earlier run has left in the place of a file, or on the way to it: nothing
// is written through it, nothing is waited for, and the run works. The decision which
// names are hostile is not left to chance: each kind of entry stands at the last name
// and at a directory above.
func TestEscapeConfHostileHome(t *testing.T) {
	t.Parallel()
	a, tree := confAccount(t)
	victim := a.dir(t)
	a.mkTree(t, victim, map[string]string{".npmrc": "victim\n", "git/config": "victim\n", "pip/pip.conf": "victim\n"})
	same := unchanged(t, victim)
	host := unchanged(t, filepath.Join(a.Home, ".config"))
	for kind, make := range map[string]string{
		"symlink":  `ln -s $victim/.npmrc $n`,
		"dangling": `ln -s $victim/new $n`,
		"to a dir": `ln -s $victim $n`,
		"magic":    `ln -s /proc/1/root$victim $n`,
		"relative": `ln -s ../../../../../../../../../../../../../..$victim $n`,
		"loop":     `ln -s $n $n`,
		"fifo":     `mkfifo $n`,
		"file":     `echo evil >$n`,
		"dir":      `mkdir -p $n/x; echo evil >$n/x/y`,
		"closed":   `mkdir $n; chmod 000 $n`,
		"readonly": `mkdir $n; chmod 555 $n`,
		"socket":   `python3 -c 'import socket,sys; socket.socket(socket.AF_UNIX).bind(sys.argv[1])' $n || mkfifo $n`,
		"hardlink": `echo evil >.other; ln .other $n`,
		"huge":     `truncate -s 1T $n`,
	} {
		t.Run(kind, func(t *testing.T) {
			for _, names := range []string{".npmrc .gitconfig", ".config .cargo .m2"} {
				layer := strings.ReplaceAll(kind, " ", "-") + names[:3]
				prepare := "cd; victim=" + victim + "; for n in " + names + "; do rm -rf $n; " + make + "; done"
				if r := a.sbx(t, tree, "--layer", layer, "--", "sh", "-c", prepare); r.Status == 125 {
					t.Fatalf("cannot prepare: %v", r)
				}
				for range 2 {
					if r := a.sbx(t, tree, "--layer", layer, "--", "echo", "works"); r.Stdout != "works\n" {
						t.Errorf("%s at %s: the run does not work: %v", kind, names, r)
					}
				}
				same()
			}
		})
	}
	host()
}

// A build that changes names while another run of the layer starts: the file is put
// into the home or not at all.
func TestEscapeConfRace(t *testing.T) {
	t.Parallel()
	a, tree := confAccount(t)
	victim := a.dir(t)
	a.mkTree(t, victim, map[string]string{"pip/": "", "git/": "", "go/": "", "keep": ""})
	same := unchanged(t, victim)
	swap := `cd; while [ ! -e stop ]; do rm -rf .config .npmrc; ln -s ` + victim + ` .config; ln -s ` + victim + `/new .npmrc; rm -f .config .npmrc; mkdir -p .config/pip; mkfifo .npmrc; rm -rf .config .npmrc; done`
	cmd := a.command(tree, nil, sbxPath, "--", "sh", "-c", swap)
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	worked := 0
	for range 30 {
		if r := a.sbx(t, tree, "--", "echo", "works"); r.Stdout == "works\n" {
			worked++
		} else if r.Status != 125 || !strings.Contains(r.Stderr, "into the private home") {
			t.Errorf("%v", r)
		}
		same()
	}
	if worked == 0 {
		t.Error("no run has worked")
	}
	for range 100 {
		if a.sbx(t, tree, "--", "sh", "-c", ": >~/stop").Status == 0 {
			break
		}
	}
	cmd.Wait()
	same()
	home := filepath.Join(layerDir(t, a, tree), "home")
	entries, err := os.ReadDir(home)
	if err != nil {
		t.Fatal(err)
	}
	if i := slices.IndexFunc(entries, func(e os.DirEntry) bool { return strings.HasPrefix(e.Name(), ".sbx-seed-") }); i >= 0 {
		t.Errorf("%s is left in the home", entries[i].Name())
	}
}
