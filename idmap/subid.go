package idmap

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"time"
)

const (
	subuidFile   = "/etc/subuid"
	subgidFile   = "/etc/subgid"
	nsswitchFile = "/etc/nsswitch.conf"

	// maxSubIDLine is the length in bytes from which on shadow-utils takes a line
	// of /etc/subuid for a bad one.
	maxSubIDLine = 1024

	// getsubidsTimeout is for a network service that does not answer.
	getsubidsTimeout = 10 * time.Second
)

// SubRange is a range of subordinate ids that a user was given: Length ids from
// Start on, as the user's own namespace counts them. See subuid(5).
type SubRange struct{ Start, Length uint32 }

// SubIDs returns the subordinate uids and gids of the user with the given login
// name and uid, in the order in which they are listed. No ranges are no error.
//
// They are read from /etc/subuid and /etc/subgid, by [ParseSubIDs]; a file that
// is not there is an empty one. Where the line "subid:" of /etc/nsswitch.conf
// names another source than files, newuidmap(1) does not look into them; then
// getsubids(1) is asked, for at most 10 s. It tells a failure and a user without
// ranges not apart, and both are no ranges here. Without that program the files
// are read all the same.
func SubIDs(name string, id uint32) (uids, gids []SubRange, err error) {
	if f, err := os.Open(nsswitchFile); err == nil {
		source := subIDSource(f)
		f.Close()
		program, found := findProgram("getsubids", programDirs())
		// A name like an option cannot be told from one: getsubids takes no "--".
		if found && source != "files" && name != "" && !strings.HasPrefix(name, "-") {
			return askSubIDs(program, name)
		}
	}
	if uids, err = readSubIDs(subuidFile, name, id); err != nil {
		return nil, nil, err
	}
	if gids, err = readSubIDs(subgidFile, name, id); err != nil {
		return nil, nil, err
	}
	return uids, gids, nil
}

func readSubIDs(file, name string, id uint32) ([]SubRange, error) {
	f, err := os.Open(file)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("cannot read %q: %w", file, cause(err))
	}
	defer f.Close()
	ranges, err := ParseSubIDs(f, name, id)
	if err != nil {
		return nil, fmt.Errorf("cannot read %q: %w", file, cause(err))
	}
	return ranges, nil
}

// ParseSubIDs reads /etc/subuid or /etc/subgid and returns the ranges of one
// user, in the order of the lines "user:start:count". The first field is the
// login name or the uid in decimal, in both files. name may be empty.
//
// Like shadow-utils it passes over every line that is not of this form, which
// includes comments, and over ranges of no ids. Numbers are decimal; one with a
// leading zero is passed over, since versions of shadow-utils disagree on its
// base. An error is a range of this user that goes past the last id 4294967294,
// with the number of its line, and what r returns.
func ParseSubIDs(r io.Reader, name string, id uint32) ([]SubRange, error) {
	var ranges []SubRange
	number := strconv.FormatUint(uint64(id), 10)
	err := eachSubID(r, func(line int, owner, start, count string) error {
		if owner != number && (owner != name || name == "") {
			return nil
		}
		s, err := parseSubRange(start, count)
		if err != nil {
			return fmt.Errorf("line %d: %w", line, err)
		}
		if s.Length > 0 {
			ranges = append(ranges, s)
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	return ranges, nil
}

// eachSubID calls f for the lines of r that have three fields, none empty, and
// are not comments. It stops at the first error of f.
func eachSubID(r io.Reader, f func(line int, owner, start, count string) error) error {
	in := bufio.NewReader(r)
	for n := 1; ; n++ {
		line, err := in.ReadString('\n')
		if err != nil && err != io.EOF {
			return err
		}
		fields := strings.Split(strings.TrimSuffix(line, "\n"), ":")
		if len(line) < maxSubIDLine && len(fields) == 3 && fields[0] != "" && fields[0][0] != '#' {
			if err := f(n, fields[0], fields[1], fields[2]); err != nil {
				return err
			}
		}
		if err == io.EOF {
			return nil
		}
	}
}

// parseSubRange returns a range of length 0 for what is to be passed over, and
// an error for a range that does not fit into 32 bits.
func parseSubRange(start, count string) (SubRange, error) {
	var numbers [2]uint32
	for i, s := range [...]string{start, count} {
		if len(s) > 1 && s[0] == '0' {
			return SubRange{}, nil
		}
		n, err := strconv.ParseUint(s, 10, 32)
		if errors.Is(err, strconv.ErrRange) {
			return SubRange{}, fmt.Errorf("%s does not fit into 32 bits", s)
		}
		if err != nil {
			return SubRange{}, nil
		}
		numbers[i] = uint32(n)
	}
	r := SubRange{Start: numbers[0], Length: numbers[1]}
	if newSpan(r.Start, r.Length).end > noID {
		return SubRange{}, fmt.Errorf("range %d:%d goes past the last id %d", r.Start, r.Length, uint32(noID-1))
	}
	return r, nil
}

// subIDSource returns the first source on the line "subid:" of nsswitch.conf(5),
// and "files" when there is none. shadow-utils takes one source only.
func subIDSource(r io.Reader) string {
	scanner := bufio.NewScanner(r)
	for scanner.Scan() {
		line, _, _ := strings.Cut(scanner.Text(), "#")
		database, sources, ok := strings.Cut(line, ":")
		if !ok || strings.TrimSpace(database) != "subid" {
			continue
		}
		if fields := strings.Fields(sources); len(fields) > 0 {
			return fields[0]
		}
	}
	return "files"
}

func askSubIDs(program, name string) (uids, gids []SubRange, err error) {
	ctx, cancel := context.WithTimeout(context.Background(), getsubidsTimeout)
	defer cancel()
	for _, ask := range []struct {
		args   []string
		ranges *[]SubRange
	}{{[]string{name}, &uids}, {[]string{"-g", name}, &gids}} {
		output, err := runProgram(ctx, program, ask.args...)
		if ctx.Err() != nil {
			return nil, nil, fmt.Errorf("cannot ask getsubids(1) for the ids of %q: no answer in %v", name, getsubidsTimeout)
		}
		var exit *exec.ExitError
		if errors.As(err, &exit) {
			continue // no ranges, or a source that failed: it says no more
		}
		if err != nil {
			return nil, nil, fmt.Errorf("cannot ask getsubids(1) for the ids of %q: %w", name, cause(err))
		}
		if *ask.ranges, err = parseGetsubids(strings.NewReader(output)); err != nil {
			return nil, nil, fmt.Errorf("cannot ask getsubids(1) for the ids of %q: %w", name, err)
		}
	}
	return uids, gids, nil
}

// parseGetsubids reads what getsubids(1) prints: lines "0: user 100000 65536"
// of an index, the name, the first id and the count. Others are passed over.
func parseGetsubids(r io.Reader) ([]SubRange, error) {
	var ranges []SubRange
	scanner := bufio.NewScanner(r)
	for scanner.Scan() {
		fields := strings.Fields(scanner.Text())
		if len(fields) < 4 || !strings.HasSuffix(fields[0], ":") {
			continue
		}
		s, err := parseSubRange(fields[len(fields)-2], fields[len(fields)-1])
		if err != nil {
			return nil, err
		}
		if s.Length > 0 {
			ranges = append(ranges, s)
		}
	}
	return ranges, scanner.Err()
}

// cause takes the call and the path off an error of package os: the message has
// named them already.
func cause(err error) error {
	var pathErr *fs.PathError
	if errors.As(err, &pathErr) {
		return pathErr.Err
	}
	return err
}
