// Victim is what a hostile build would be: it tries what its arguments say and
// prints what came of it. An argument is one attack, a verb and its operands
// with single spaces between them; a line of output is the attack, ": ", and
// "done" or the errno.
//
//	victim "read /etc/shadow" "kill 1 9" "sys io_uring_setup"
//
// It is run outside the sandbox too, to show that an attack is one. Where "together" comes
// first, each attack has a process of its own, and all are made at the same time.
package main

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"strings"
	"sync"

	"golang.org/x/sys/unix"
)

// verbs are the attacks. What they print with say goes after the outcome.
var verbs = map[string]func(args []string) error{
	"read": read, "write": write, "create": create, "list": list, "link": link, "rename": rename,
	"mkdir": mkdir, "remove": remove, "chmod": chmod, "symlink": symlink, "setxattr": setxattr, "touch": touch,
	"ptrace": ptrace, "vmread": vmread, "getfd": getfd, "kill": kill, "prlimit": prlimit,
	"descriptors": descriptors, "strings": findStrings, "fork": forkMany, "daemon": daemon, "hold": hold,
	"connect": connect, "socket": socket, "listen": listen,
	"talk": talk, "pktinfo": pktinfo, "guess": guess, "netlink": netlink, "queries": queries,
	"sys": sys, "mknod": mknod, "ioctl": ioctl, "whiteout": whiteout, "reopen": reopen, "snapshot": snapshot, "nonblock": nonblock,
	"shmget": shmget, "semget": semget, "msgget": msgget, "mqopen": mqOpen, "mqunlink": mqUnlink, "keys": keys, "fault": fault, "deep": deep, "swap": swap,
}

// said is what the attack found out, for the test to look at.
var said []string

func say(format string, a ...any) { said = append(said, fmt.Sprintf(format, a...)) }

func main() {
	if len(os.Args) > 1 && os.Args[1] == "together" {
		together(os.Args[2:])
		return
	}
	for _, attack := range os.Args[1:] {
		words := strings.Split(attack, " ")
		said = nil
		f := verbs[words[0]]
		if f == nil {
			fmt.Fprintf(os.Stderr, "victim: there is no attack %q\n", attack)
			os.Exit(2)
		}
		err := f(words[1:])
		outcome := "done"
		if err != nil {
			outcome = name(err)
		}
		fmt.Printf("%s: %s", attack, outcome)
		for _, s := range said {
			fmt.Printf(" %s", s)
		}
		fmt.Println()
	}
}

// together makes attacks at the same time, as most of them may have to wait.
func together(attacks []string) {
	var group sync.WaitGroup
	turn := make(chan bool, 64)
	for _, attack := range attacks {
		group.Go(func() {
			turn <- true
			defer func() { <-turn }()
			text, err := exec.Command("/proc/self/exe", attack).Output()
			if err != nil {
				text = fmt.Appendf(nil, "%s: %v\n", attack, err)
			}
			os.Stdout.Write(text)
		})
	}
	group.Wait()
}

// name is an errno's, or the error as it is.
func name(err error) string {
	var errno unix.Errno
	if errors.As(err, &errno) {
		if n := unix.ErrnoName(errno); n != "" {
			return n
		}
	}
	if errors.Is(err, fs.ErrNotExist) {
		return "ENOENT"
	}
	return strings.ReplaceAll(err.Error(), " ", "_")
}
