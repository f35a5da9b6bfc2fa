// Caller is an honest program that uses the network in the ways that libraries hide:
// half-closed, non-blocking, many at a time. An argument is one thing to do, a verb and
// its operands with single spaces between them; a line of output is the argument, ": ",
// and "done" or the errno.
//
//	caller "echo tcp 93.184.216.1:7 1000" "refused tcp 93.184.216.1:9"
//
// The tests have the servers; see serveProtocol there.
package main

import (
	"errors"
	"fmt"
	"os"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

var verbs = map[string]func(args []string) error{
	"dial": dial, "pending": pending, "epoll": epoll, "echo": echo, "stream": stream, "count": count, "closed": closed, "reset": reset, "abort": abort,
	"many": many, "sequence": sequence, "small": small, "oob": oob, "exit": exitAtOnce, "greeting": greeting, "local": local, "idle": idle, "storm": storm,
	"datagram": datagram, "flood": flood, "remotes": remotes, "ping": ping,
	"lookup": lookup, "query": query, "tls": handshake, "said": saidFirst, "serve": serve, "sleep": sleep, "hoard": hoard, "told": told,
}

var said []string

func say(format string, a ...any) { said = append(said, fmt.Sprintf(format, a...)) }

func main() {
	if len(os.Args) > 3 && os.Args[1] == "without" {
		fmt.Fprintln(os.Stderr, "caller:", without(number(os.Args[2]), os.Args[3:]))
		os.Exit(2)
	}
	for _, arg := range os.Args[1:] {
		words := strings.Split(arg, " ")
		said = nil
		f := verbs[words[0]]
		if f == nil {
			fmt.Fprintf(os.Stderr, "caller: there is nothing like %q\n", arg)
			os.Exit(2)
		}
		began := time.Now()
		outcome := "done"
		if err := f(words[1:]); err != nil {
			outcome = name(err)
		}
		fmt.Printf("%s: %s", arg, outcome)
		for _, s := range said {
			fmt.Printf(" %s", s)
		}
		fmt.Println()
		fmt.Fprintf(os.Stderr, "%s took %v\n", arg, time.Since(began).Round(time.Millisecond))
	}
}

// name is an errno's, or the error as it is.
func name(err error) string {
	var errno unix.Errno
	if errors.As(err, &errno) {
		return unix.ErrnoName(errno)
	}
	return strings.ReplaceAll(err.Error(), "\n", " ")
}

func number(s string) int {
	n, err := strconv.Atoi(s)
	if err != nil {
		panic(err)
	}
	return n
}

func sleep(args []string) error {
	time.Sleep(time.Duration(number(args[0])) * time.Millisecond)
	return nil
}
