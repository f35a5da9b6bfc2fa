package host

import (
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// TestGitFileAttacks is about trees whose .git file came with an archive.
func TestGitFileAttacks(t *testing.T) {
	for _, tc := range []struct {
		name    string
		attack  func(b gitBox)
		warning string
	}{
		{"names a secret", func(b gitBox) { b.write("wt/.git", "gitdir: ../.ssh\n") }, "hidden"},
		{"names what is below a secret", func(b gitBox) { b.write("wt/.git", "gitdir: ../.ssh/worktrees/x\n") }, "hidden"},
		{"names a secret by a detour", func(b gitBox) { b.write("wt/.git", "gitdir: ../main/../.ssh\n") }, "hidden"},
		{"names the home directory", func(b gitBox) { b.write("wt/.git", "gitdir: ..\n") }, "hidden"},
		{"names the root", func(b gitBox) { b.write("wt/.git", "gitdir: /\n") }, "hidden"},
		{"names the system", func(b gitBox) { b.write("wt/.git", "gitdir: /etc/ssl\n") }, "hidden"},
		{"names any directory", func(b gitBox) {
			makeFiles(b.T, b.home, "docs/letter=")
			b.write("wt/.git", "gitdir: ../docs\n")
		}, `"HEAD"`},
		{"names a file", func(b gitBox) { b.write("wt/.git", "gitdir: ../main/.git/HEAD\n") }, "not a directory"},
		{"names another repository", func(b gitBox) { b.write("wt/.git", "gitdir: ../main/.git\n") }, "does not point back"},
		{"names another worktree", func(b gitBox) {
			b.git("-C", "main", "worktree", "add", "-q", "../other")
			b.write("wt/.git", "gitdir: ../main/.git/worktrees/other\n")
		}, "it belongs to"},
		{"names nothing", func(b gitBox) { b.write("wt/.git", "gitdir: \n") }, "one path"},
		{"names two", func(b gitBox) { b.write("wt/.git", "gitdir: a\nb\n") }, "one path"},
		{"is empty", func(b gitBox) { b.write("wt/.git", "") }, "does not name"},
		{"has a NUL", func(b gitBox) { b.write("wt/.git", "gitdir: ../main\x00/x\n") }, "not a text"},
		{"has an escape", func(b gitBox) { b.write("wt/.git", "gitdir: ../\x1b[2J\n") }, `\x1b[2J`},
		{"is huge", func(b gitBox) {
			if err := os.Truncate(b.home+"/wt/.git", 1<<40); err != nil {
				b.Fatal(err)
			}
		}, "longer than"},
		{"is a fifo", func(b gitBox) { b.replace("wt/.git", b.fifo) }, "not a regular file"},
		{"is a link to the file", func(b gitBox) {
			b.write("copy", "gitdir: %s/main/.git/worktrees/wt\n", b.home)
			b.replace("wt/.git", b.link("../copy"))
		}, "not a regular file"},
		{"is a link to a directory", func(b gitBox) { b.replace("wt/.git", b.link("../main/.git")) }, "not a regular file"},
		{"leads through a link", func(b gitBox) {
			makeFiles(b.T, b.home, "alias->main")
			b.write("wt/.git", "gitdir: ../alias/.git/worktrees/wt\n")
		}, "symbolic link"},
		{"leads through a link in the tree", func(b gitBox) {
			makeFiles(b.T, b.home, "wt/l->../main")
			b.write("wt/.git", "gitdir: l/.git/worktrees/wt\n")
		}, "symbolic link"},
		{"leads through a magic link", func(b gitBox) {
			b.write("wt/.git", "gitdir: /proc/self/root%s/main/.git/worktrees/wt\n", b.home)
		}, "hidden"},
		{"own directory is a link", func(b gitBox) {
			makeFiles(b.T, b.home, "main/.git/worktrees/l->wt")
			b.write("wt/.git", "gitdir: ../main/.git/worktrees/l\n")
		}, "symbolic link"},
		{"points back elsewhere", func(b gitBox) {
			b.write("main/.git/worktrees/wt/gitdir", "%s/main/x/.git\n", b.home)
		}, "it belongs to"},
		{"pointer back is a link", func(b gitBox) { b.replace("main/.git/worktrees/wt/gitdir", b.link("/dev/zero")) }, "not a regular file"},
		{"pointer back is a fifo", func(b gitBox) { b.replace("main/.git/worktrees/wt/gitdir", b.fifo) }, "not a regular file"},
		{"pointer back is missing", func(b gitBox) { b.replace("main/.git/worktrees/wt/gitdir", nil) }, "no such file"},
		{"common directory is a secret", func(b gitBox) {
			b.write("main/.git/worktrees/wt/commondir", "../../../../.ssh\n")
		}, "does not hold it"},
		{"common directory is the home directory", func(b gitBox) {
			b.write("main/.git/worktrees/wt/commondir", "%s\n", b.home)
		}, "does not hold it"},
		{"common directory holds a forgery", func(b gitBox) {
			makeFiles(b.T, b.home, ".ssh/worktrees/wt/HEAD=x", ".ssh/worktrees/wt/commondir=../..", ".ssh/worktrees/wt/gitdir="+b.home+"/wt/.git")
			b.write("wt/.git", "gitdir: ../.ssh/worktrees/wt\n")
		}, "hidden"},
		{"common directory is no repository", func(b gitBox) { b.replace("main/.git/refs", nil) }, `"refs"`},
		{"common HEAD is a link", func(b gitBox) { b.replace("main/.git/HEAD", b.link("../../.ssh/id")) }, `"HEAD" is not`},
		{"common objects is a link", func(b gitBox) { b.replace("main/.git/objects", b.link("../../.ssh")) }, `"objects" is not`},
		// An archive unpacked in place: the directory around the tree looks like a repository.
		{"archive around the tree", func(b gitBox) {
			makeFiles(b.T, b.home, "src/HEAD=x", "src/objects/", "src/refs/", "src/notes/secret=", "src/worktrees/t/HEAD=x",
				"src/worktrees/t/commondir=../..", "src/worktrees/t/gitdir="+b.home+"/src/t/.git", "src/t/.git=gitdir: ../worktrees/t")
			dirs, warnings := GitDirs(b.home+"/src/t", b.hidden)
			if len(dirs) != 0 || len(warnings) != 1 || !strings.Contains(warnings[0].Error(), `"notes"`) {
				b.Errorf("got %v, %v", dirs, warnings)
			}
			b.write("wt/.git", "gitdir: ../src\n")
		}, `"config"`},
		{"archive in the home directory", func(b gitBox) {
			makeFiles(b.T, b.home, "HEAD=x", "objects/", "refs/", "worktrees/wt/HEAD=x", "worktrees/wt/commondir=../..",
				"worktrees/wt/gitdir="+b.home+"/wt/.git")
			b.write("wt/.git", "gitdir: ../worktrees/wt\n")
		}, "hidden"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			b := newGitBox(t)
			b.git("-C", "main", "worktree", "add", "-q", "../wt")
			tc.attack(b)
			b.check("wt", "", tc.warning)
		})
	}
}

// replace removes what is at name, and has something else made in its place.
func (b gitBox) replace(name string, make func(path string) error) {
	b.Helper()
	path := filepath.Join(b.home, name)
	err := os.RemoveAll(path)
	if err == nil && make != nil {
		err = make(path)
	}
	if err != nil {
		b.Fatal(err)
	}
}

func (b gitBox) fifo(path string) error { return unix.Mkfifo(path, 0o644) }

func (b gitBox) link(to string) func(string) error {
	return func(path string) error { return os.Symlink(to, path) }
}

func TestGitAlternatesAttacks(t *testing.T) {
	for _, tc := range []struct {
		name, at string
		make     func(b gitBox) func(string) error
		warning  string
	}{
		{"fifo", "info/alternates", func(b gitBox) func(string) error { return b.fifo }, "not a regular file"},
		{"link", "info/alternates", func(b gitBox) func(string) error { return b.link("/etc/passwd") }, "not a regular file"},
		{"info is a link", "info", func(b gitBox) func(string) error { return b.link("../../../main/.git/objects/info") }, "symbolic link"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			b := newGitBox(t)
			b.git("clone", "-q", "--shared", "main", "shared")
			b.replace("shared/.git/objects/"+tc.at, tc.make(b))
			b.check("shared", "", tc.warning)
		})
	}
	t.Run("other owner", func(t *testing.T) {
		if os.Geteuid() != 0 {
			t.Log("only root can make files of another user")
			return
		}
		b := newGitBox(t)
		b.git("clone", "-q", "--shared", "main", "shared")
		if err := os.Chown(b.home+"/main/.git/objects", 12345, 12345); err != nil {
			t.Fatal(err)
		}
		b.check("shared", "", "another user owns it")
	})
}

// TestGitAutomount has a .git file name a place below an automount point whose
// daemon never answers: looking there would hang, and on a healthy host it would
// call up a server of the archive's choice.
func TestGitAutomount(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("only root can mount autofs") // also with SBX_MUST_WORK=1, for it is so on every machine
	}
	home := realTemp(t)
	makeFiles(t, home, "auto/", "tree/")

	type result struct {
		skip     string
		warnings []error
	}
	done := make(chan result, 1)
	go func() {
		// The thread has a mount namespace of its own and ends with the goroutine.
		runtime.LockOSThread()
		if err := unix.Unshare(unix.CLONE_FS | unix.CLONE_NEWNS); err != nil {
			done <- result{skip: fmt.Sprintf("cannot make a mount namespace: %v", err)}
			return
		}
		var p [2]int
		err := unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, "")
		if err == nil {
			err = unix.Pipe2(p[:], unix.O_CLOEXEC)
		}
		if err == nil {
			// A process of the daemon's group would see autofs as a plain
			// directory: so the group is another one's.
			err = unix.Mount("none", home+"/auto", "autofs", 0,
				fmt.Sprintf("fd=%d,pgrp=%d,minproto=5,maxproto=5,indirect", p[1], os.Getppid()))
		}
		if err != nil {
			done <- result{skip: fmt.Sprintf("cannot mount autofs: %v", err)}
			return
		}
		var r result
		for _, name := range []string{"auto", "auto/evil", "auto/evil/x/.git"} {
			if err := os.WriteFile(home+"/tree/.git", []byte("gitdir: ../"+name+"\n"), 0o644); err != nil {
				r.warnings = append(r.warnings, err)
			}
			_, warnings := GitDirs(home+"/tree", func(string) bool { return false })
			r.warnings = append(r.warnings, warnings...)
		}
		unix.Unmount(home+"/auto", unix.MNT_DETACH)
		unix.Close(p[0])
		unix.Close(p[1])
		done <- r
	}()
	select {
	case r := <-done:
		if r.skip != "" {
			skipOrFail(t, r.skip)
		}
		if len(r.warnings) != 3 {
			t.Errorf("got %v", r.warnings)
		}
		for _, w := range r.warnings {
			if !strings.Contains(w.Error(), "automount") {
				t.Errorf("got %v", w)
			}
		}
	case <-time.After(20 * time.Second):
		t.Fatal("it waits for the automounter")
	}
}
