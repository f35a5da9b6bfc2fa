package state

import (
	"crypto/sha256"
	"encoding/hex"
	"maps"
	"path/filepath"
	"slices"
	"strings"

	"golang.org/x/sys/unix"
)

// Seeds are files that sbx puts into a private home, and that the build may change
// there: the configuration of tools. A file is the build's own if it is none of
// those that sbx has put there. The layer's file "seeds" has their hashes, a line a
// path; the build does not see it.
type Seeds struct {
	layer Layer
	home  int                 // a descriptor of the home, -1 if there is none
	known map[string][]string // by the hash of the path
	next  map[string][]string
}

// Found is what a private home has in the place of a seed.
type Found uint8

const (
	FoundNothing Found = iota
	// FoundEarlier is what an earlier run has put there.
	FoundEarlier
	// FoundSame is the seed.
	FoundSame
	// FoundOther is what a build has put there, or made of it; FoundNews is the same,
	// where the seed has changed since that was last said.
	FoundOther
	FoundNews
)

// Close ends the looking.
func (s *Seeds) Close() {
	if s.home >= 0 {
		unix.Close(s.home)
	}
	s.home = -1
}

// Seeds reads what has been put into the layer's home. Close when all is looked at.
func (l Layer) Seeds() *Seeds {
	s := &Seeds{layer: l, known: map[string][]string{}, next: map[string][]string{}}
	var err error
	if s.home, err = unix.Open(filepath.Join(l.Dir, "home"), unix.O_PATH|unix.O_DIRECTORY|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0); err != nil {
		s.home = -1
	}
	data, err := readSmall(s.file())
	if err != nil {
		return s
	}
	for line := range strings.Lines(string(data)) {
		if words := strings.Fields(line); len(words) > 1 {
			s.known[words[0]] = words[1:]
		}
	}
	return s
}

func (s *Seeds) file() string { return filepath.Join(s.layer.Dir, "seeds") }

// shortHash is a hash for the file, in which each path takes a line of 90 bytes at most.
func shortHash(data string, n int) string {
	sum := sha256.Sum256([]byte(data))
	return hex.EncodeToString(sum[:n])
}

// maxSeeds bounds the paths of which a layer keeps hashes.
const maxSeeds = 80

// Look says what the home has at a path, relative to it, where data is to be.
func (s *Seeds) Look(path, data string) Found {
	key, want := shortHash(path, 6), shortHash(data, 16)
	known := s.known[key]
	// If the run ends before the file is written, the next one must know both.
	s.next[key] = []string{want}
	text, err := s.read(path)
	have := shortHash(text, 16)
	switch {
	case err == unix.ENOENT:
		return FoundNothing
	case err == nil && have == want:
		return FoundSame
	case err == nil && slices.Contains(known, have):
		s.next[key] = []string{have, want}
		return FoundEarlier
	case slices.Contains(known, want):
		return FoundOther
	}
	return FoundNews
}

// read reads a file of the home, in which a build made every name: nothing is
// followed, and a fifo is not waited for.
func (s *Seeds) read(path string) (string, error) {
	if s.home < 0 {
		return "", unix.ENOENT
	}
	fd, err := unix.Openat2(s.home, path, &unix.OpenHow{
		Flags:   unix.O_RDONLY | unix.O_NONBLOCK | unix.O_NOFOLLOW | unix.O_NOCTTY | unix.O_CLOEXEC,
		Resolve: unix.RESOLVE_BENEATH | unix.RESOLVE_NO_SYMLINKS | unix.RESOLVE_NO_MAGICLINKS | unix.RESOLVE_NO_XDEV,
	})
	if err != nil {
		return "", err
	}
	defer unix.Close(fd)
	var st unix.Stat_t
	if err := unix.Fstat(fd, &st); err != nil {
		return "", err
	}
	if st.Mode&unix.S_IFMT != unix.S_IFREG || st.Size > maxSeed {
		return "", unix.EFBIG
	}
	buf := make([]byte, st.Size+1)
	for n := 0; ; {
		m, err := unix.Read(fd, buf[n:])
		switch {
		case err == unix.EINTR:
		case err != nil:
			return "", err
		case m == 0 || int64(n+m) == st.Size:
			return string(buf[:n+m]), nil
		default:
			if n += m; n == len(buf) {
				return "", unix.EFBIG // it grows meanwhile
			}
		}
	}
}

// maxSeed is more than a seed ever has.
const maxSeed = 8 << 20

// KeepSeeds notes what is about to be put into the home.
func (k *Lock) KeepSeeds(s *Seeds) error {
	all := maps.Clone(s.known)
	if len(all)+len(s.next) > maxSeeds {
		clear(all)
	}
	maps.Copy(all, s.next)
	if maps.EqualFunc(all, s.known, slices.Equal) {
		return nil
	}
	var b strings.Builder
	for _, key := range slices.Sorted(maps.Keys(all)) {
		b.WriteString(key + " " + strings.Join(all[key], " ") + "\n")
	}
	return k.Layer.write(s.file(), b.String())
}
