package plan

import (
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/sbx-build/sbx/idmap"
	"github.com/sbx-build/sbx/sandbox/host"
	"github.com/sbx-build/sbx/sandbox/policy"
	"github.com/sbx-build/sbx/seccomp"
)

var update = flag.Bool("update", false, "write the golden files anew; read the diff before it is committed")

// situation is all that Build is given.
type situation struct {
	policy  policy.Policy
	facts   host.Facts
	layer   Layer
	command Exec
}

// filter stands for a real one: the plan prints its length alone.
var filter = make(seccomp.Program, 3)

func (s *situation) build() (Plan, error) {
	return Build(s.policy, s.facts, s.layer, filter, s.command)
}

// built is build for a plan that is to be had.
func (s *situation) built(t *testing.T) Plan {
	t.Helper()
	p, err := s.build()
	if err != nil {
		t.Fatal(err)
	}
	return p
}

// desk is a Debian machine with a merged /usr, on which the user me, with Go in
// ~/sdk and a module cache, works in ~/src/app. Cases change what they are about.
func desk() *situation {
	const home, tree = "/home/me", "/home/me/src/app"
	s := &situation{
		policy: policy.Policy{
			Tree: tree, Home: home, Dir: tree + "/cmd",
			Rules: append(policy.System(), policy.Toolchains(home, nil, func(string) string { return "" }, nil)...),
		},
		facts: host.Facts{
			UID: 1000, GID: 1000, User: "me", Group: "me", Shell: "/bin/bash", Gecos: "Me",
			UIDs: idmap.Identity(1000), GIDs: idmap.Identity(1000),
			Paths: map[string]host.Path{}, Targets: map[string]host.Kind{}, Hides: map[string]string{},
			EtcSecrets: []string{"shadow", "ssl/private"}, Resolv: "nameserver 192.0.2.1\n",
			Landlock: 6, Nofile: [2]uint64{1024, 1048576},
		},
		layer:   Layer{Dir: "/home/me/.local/state/sbx/trees/app-0123/layers/default", ID: "00ff"},
		command: Exec{Args: []string{"make", "-j2", "a b", ""}, Env: []string{"PATH=/usr/bin"}, Path: []string{"/usr/bin"}},
	}
	s.dirs("/usr", "/opt", "/var/lib/dpkg", home+"/sdk", home+"/go/pkg", tree)
	for _, name := range []string{"bin", "sbin", "lib", "lib64"} {
		s.facts.Paths["/"+name] = host.Path{Kind: host.Symlink, Real: "/" + name, Link: "usr/" + name}
	}
	s.secret("shadow", host.File)
	s.secret("ssl/private", host.Dir)
	return s
}

func (s *situation) dirs(paths ...string) {
	for _, p := range paths {
		s.facts.Paths[p] = host.Path{Kind: host.Dir, Real: p}
	}
}

func (s *situation) files(paths ...string) {
	for _, p := range paths {
		s.facts.Paths[p] = host.Path{Kind: host.File, Real: p}
	}
}

func (s *situation) secret(name string, k host.Kind) { s.facts.Targets["/etc/"+name] = k }

// rules appends what a user typed: "ro /a:/b", "dev /dev/kvm".
func (s *situation) rules(typed ...string) {
	access := map[string]policy.Access{"hide": policy.Hidden, "ro": policy.ReadOnly, "cow": policy.CopyOnWrite, "rw": policy.ReadWrite, "dev": policy.ReadWrite}
	for _, t := range typed {
		word, value, _ := strings.Cut(t, " ")
		r, err := policy.ParseRule(access[word], word == "dev", value, s.policy.Dir, s.policy.Home)
		if err != nil {
			panic(err)
		}
		s.policy.Rules = append(s.policy.Rules, r)
	}
}

// move puts the tree elsewhere.
func (s *situation) move(tree string) {
	delete(s.facts.Paths, s.policy.Tree)
	s.policy.Tree, s.policy.Dir = tree, tree
	s.dirs(tree)
}

var goldens = map[string]func(*situation){
	"default":  func(*situation) {},
	"net_host": func(s *situation) { s.policy.Network = policy.Host },
	"net_internet": func(s *situation) {
		s.policy.Network = policy.Internet
		s.facts.TUN, s.facts.IPv6, s.facts.Ping = true, true, true
	},
	"net_allow_veth": func(s *situation) {
		for _, typed := range []string{"registry.example.com:443", "localhost:5432", "localhost:80"} {
			r, err := policy.ParseNetAllow(typed)
			if err != nil {
				panic(err)
			}
			s.policy.NetAllow = append(s.policy.NetAllow, r)
		}
	},
	"root_ranges": func(s *situation) {
		s.policy.Root = true
		s.facts.UIDs = idmap.Map{{Inside: 0, Outside: 100000, Length: 1000}, {Inside: 1000, Outside: 1000, Length: 1}, {Inside: 1001, Outside: 101000, Length: 64536}}
		s.facts.GIDs = s.facts.UIDs
	},
	"root_single": func(s *situation) {
		s.policy.Root = true
		s.facts.UIDs = idmap.Map{{Inside: 0, Outside: 1000, Length: 1}}
		s.facts.GIDs = s.facts.UIDs
	},
	"with": func(s *situation) {
		s.policy.With = []policy.With{{Source: "/home/me/src/lib", Target: "/home/me/src/lib", Flag: "--with ../lib"}, {Source: "/data/ext", Target: "/home/me/src/app/ext/e", Flag: "--with /data/ext:ext/e"}}
		s.dirs("/home/me/src/lib")
		s.facts.Paths["/data/ext"] = host.Path{Kind: host.Dir, Real: "/mnt/disk/ext"}
	},
	"access": func(s *situation) {
		s.dirs("/data/ro", "/data/cow", "/data/rw", "/dev/dri")
		s.files("/data/file", "/home/me/.gitconfig")
		s.facts.Paths["/dev/kvm"] = host.Path{Kind: host.Device, Real: "/dev/kvm"}
		s.rules("ro /data/ro", "ro /data/ro:/elsewhere", "cow /data/cow", "rw /data/rw", "rw /data/file:/data/ro/file",
			"hide /opt/secret/", "hide /opt/absent", "ro ~/.gitconfig", "dev /dev/kvm", "dev /dev/dri")
		s.facts.Targets["/opt/secret"] = host.Dir
	},
	"hide_in_tree": func(s *situation) {
		s.rules("hide ../.env", "hide ../secrets", "hide ../new/", "hide ../link")
		s.facts.Targets["/home/me/src/app/.env"] = host.File
		s.facts.Targets["/home/me/src/app/secrets"] = host.Dir
		s.facts.Hides["/home/me/src/app/link"] = "/home/me/src/app/real"
		s.facts.Targets["/home/me/src/app/real"] = host.File
	},
	"nested": func(s *situation) {
		s.dirs("/data", "/data/a/b", "/data/a/b/c", "/home/me/src/app/vendor", "/usr/local/x")
		s.files("/data/a.txt", "/data/a/b/c/d")
		s.rules("rw /data", "ro /data/a/b", "rw /data/a/b/c", "ro /data/a/b/c/d", "hide /data/a/z", "ro /data/a.txt",
			"ro ../vendor", "cow /usr/local/x", "hide /usr/local/x/y/", "ro /data:/home/me/src/app/deep/er/data")
		s.facts.Targets["/data/a/z"] = host.File
		s.facts.Targets["/usr/local/x/y"] = host.Dir
	},
	"later_wins": func(s *situation) {
		s.dirs("/home/me/go/pkg")
		s.rules("ro /opt", "hide /opt", "ro ~/go/pkg")
		s.facts.Targets["/opt"] = host.Dir
	},
	"worktree": func(s *situation) {
		s.facts.GitDirs = []host.GitDir{{Path: "/home/me/src/main/.git", Admin: "worktrees/app"}}
	},
	"etc_mounts": func(s *situation) {
		s.facts.EtcMounts = true
		s.facts.Etc = []host.Entry{
			{Name: "alternatives", Kind: host.Dir}, {Name: "hosts", Kind: host.File}, {Name: "localtime", Kind: host.Symlink, Link: "/usr/share/zoneinfo/UTC"},
			{Name: "passwd", Kind: host.File}, {Name: "shadow", Kind: host.File}, {Name: "socket", Kind: host.Socket}, {Name: "ssl", Kind: host.Dir}, {Name: "bash.bashrc", Kind: host.File},
		}
		s.files("/etc/hosts")
		s.rules("ro /etc/hosts")
	},
	"etc_rules": func(s *situation) {
		s.dirs("/data/conf")
		s.files("/etc/hosts", "/data/conf/f")
		s.rules("ro /etc/hosts", "ro /data/conf:/etc/conf", "ro /data/conf/f:/etc/deep/conf/f", "hide /etc/ldap/")
		s.facts.Targets["/etc/ldap"] = host.Dir
	},
	"conf": func(s *situation) {
		conf := func(path string) host.Conf {
			return host.Conf{Path: path, Data: "clean\n", Dropped: []string{"_authToken"}}
		}
		s.facts.Conf = []host.Conf{conf("/home/me/.npmrc"), conf("/home/me/.config/pip/pip.conf"), conf("/home/me/.gitconfig"), conf("/home/me/.cargo/config.toml"), conf("/home/me/.config/go/env"), conf("/home/me/.m2/settings.xml"), conf("/home/me/go/pkg/x")}
		s.facts.EtcConf = []host.Conf{conf("npmrc"), conf("maven/settings.xml"), conf("pip.conf")}
		s.layer.Home = map[string]Have{"/home/me/.config/pip/pip.conf": HasEarlier, "/home/me/.gitconfig": HasOther, "/home/me/.cargo/config.toml": HasSame}
		s.files("/home/me/.npmrc", "/etc/pip.conf")
		s.dirs("/home/me/dot")
		// A rule at the path or above it wins.
		s.rules("ro ~/.npmrc", "ro ~/dot:~/.config/go", "ro /etc/pip.conf")
	},
	"conf_etc_mounts": func(s *situation) {
		s.facts.EtcMounts = true
		s.facts.EtcSecrets = nil
		s.facts.Etc = []host.Entry{{Name: "maven", Kind: host.Dir}, {Name: "npmrc", Kind: host.File}, {Name: "gitconfig", Kind: host.Symlink, Link: "/opt/gitconfig"}}
		s.facts.EtcConf = []host.Conf{{Path: "npmrc", Data: "clean\n"}, {Path: "maven/settings.xml", Data: "clean\n"}, {Path: "gitconfig", Data: "clean\n"}}
	},
	"tree_in_opt":    func(s *situation) { s.move("/opt/src/app") },
	"tree_in_var":    func(s *situation) { s.move("/var/www/app") },
	"tree_in_tmp":    func(s *situation) { s.move("/tmp/app") },
	"tree_in_devshm": func(s *situation) { s.move("/dev/shm/app") },
	"tree_is_below_cache": func(s *situation) {
		s.move("/home/me/go/pkg/mod/example.org/x@v1")
	},
	"symlinked_cwd": func(s *situation) {
		s.policy.LogicalDir = "/home/me/l/cmd"
		s.facts.Targets["/home/me/l"] = host.Symlink
		s.facts.Paths["/home/me/l"] = host.Path{Kind: host.Symlink, Real: "/home/me/src/app"}
	},
	"symlinked_cwd_outside": func(s *situation) {
		s.policy.LogicalDir = "/jobs/cmd"
		s.facts.Targets["/jobs"] = host.Symlink
		s.facts.Paths["/jobs"] = host.Path{Kind: host.Symlink, Real: "/home/me/src/app"}
	},
	"no_home": func(s *situation) {
		s.policy.Home, s.policy.Rules = "", policy.System()
		s.move("/srv/app")
	},
	"caller_root": func(s *situation) {
		s.callerIsRoot()
		s.facts.UIDs, s.facts.GIDs = idmap.Identity(0), idmap.Identity(0)
	},
	"caller_root_idmapped": func(s *situation) {
		s.callerIsRoot()
		s.facts.Idmapped = true
		s.facts.UIDs = idmap.Map{{Inside: 0, Outside: 0x7fff0000, Length: 65535}}
		s.facts.GIDs = s.facts.UIDs
		s.dirs("/data/rw", "/data/ro")
		s.rules("rw /data/rw", "ro /data/ro", "cow ~/go/pkg")
	},
	"limits": func(s *situation) {
		s.policy.TmpSize, s.policy.Processes, s.facts.Nofile, s.facts.Landlock = 1<<30, 500, [2]uint64{}, 0
	},
	"odd_bytes": func(s *situation) {
		s.move("/home/me/src/a b:c,d\\e\n\xff\x1b")
		s.dirs("/data/lower=x,upperdir=y:z")
		s.rules(`cow /data/lower=x,upperdir=y\:z`, `hide x\:y`)
	},
}

func (s *situation) callerIsRoot() {
	s.facts.UID, s.facts.GID, s.facts.User, s.facts.Group = 0, 0, "root", "root"
	s.policy.Home = "/root"
	s.layer.Dir = "/root/.local/state/sbx/trees/app-0123/layers/default"
	s.policy.Rules = append(policy.System(), policy.Toolchains("/root", nil, func(string) string { return "" }, nil)...)
	s.dirs("/root/go/pkg")
	s.move("/root/app")
}

// text is the plan, and what goes beside its steps.
func text(p Plan) string {
	var b strings.Builder
	p.WriteTo(&b)
	fmt.Fprintf(&b, "\nlayer_dirs    %s\nwork_dirs     %s\nwatch         %s\n", strings.Join(p.LayerDirs, " "), strings.Join(p.WorkDirs, " "), strings.Join(p.Watch, " "))
	for _, m := range p.Idmapped {
		mode := "rw"
		if m.ReadOnly {
			mode = "ro"
		}
		fmt.Fprintf(&b, "idmapped      %s %s\n", show(m.Source), mode)
	}
	return b.String()
}

// TestGolden compares plans with the files that a reader has found right. A
// difference is read, and with -update becomes the new truth.
func TestGolden(t *testing.T) {
	for name, change := range goldens {
		t.Run(name, func(t *testing.T) {
			s := desk()
			change(s)
			p := s.built(t)
			checkPlan(t, s, p)
			got, file := text(p), filepath.Join("testdata", name+".plan")
			if *update {
				if err := os.WriteFile(file, []byte(got), 0o644); err != nil {
					t.Fatal(err)
				}
			}
			want, err := os.ReadFile(file)
			if err != nil {
				t.Fatalf("%v (go test -update ./sandbox/plan makes it)", err)
			}
			if got != string(want) {
				t.Errorf("%s differs (go test ./sandbox/plan -update; git diff):\n%s", file, diff(string(want), got))
			}
		})
	}
	files, err := filepath.Glob("testdata/*.plan")
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range files {
		if goldens[strings.TrimSuffix(filepath.Base(f), ".plan")] == nil {
			t.Errorf("%s belongs to no case", f)
		}
	}
}

// diff shows the lines that only one of two texts has.
func diff(want, got string) string {
	count := map[string]int{}
	for l := range strings.Lines(want) {
		count[l]--
	}
	for l := range strings.Lines(got) {
		count[l]++
	}
	var b strings.Builder
	for _, side := range []struct {
		text, mark string
		sign       int
	}{{want, "-", -1}, {got, "+", 1}} {
		for l := range strings.Lines(side.text) {
			if count[l]*side.sign > 0 {
				b.WriteString(side.mark + l)
			}
		}
	}
	if b.Len() == 0 {
		return "the same lines in another order\n"
	}
	return b.String()
}
