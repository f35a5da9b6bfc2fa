package state

import (
	"os"
	"path/filepath"
	"strconv"
	"strings"
)

// Pair is a directory of the host with the layer's version over it, of those
// that builds are meant to change: the source tree, and each directory that was
// ever joined to it.
type Pair struct {
	// Key is the directory of the layer, relative to it: ".", "with/KEY".
	Key string
	// Lower is the host's directory, Upper the layer's. Neither need exist.
	Lower, Upper string
	// Name is "" for the source tree and Lower for a joined directory.
	Name string
}

// TreeKey is the key of the source tree's pair.
const TreeKey = "."

// Pairs lists the layer's pairs, the source tree first.
func (l Layer) Pairs() []Pair {
	list := []Pair{{Key: TreeKey, Lower: l.tree.Source, Upper: l.Upper()}}
	entries, _ := os.ReadDir(filepath.Join(l.Dir, "with"))
	for _, e := range entries {
		key := "with/" + e.Name()
		if source, ok := l.source(key); ok {
			list = append(list, Pair{Key: key, Lower: source, Upper: filepath.Join(l.Dir, key, "upper"), Name: source})
		}
	}
	return list
}

// source reads which directory of the host a joined one is.
func (l Layer) source(key string) (string, bool) {
	data, err := readSmall(filepath.Join(l.Dir, key, "source"))
	if err != nil {
		return "", false
	}
	source, err := strconv.Unquote(strings.TrimSuffix(string(data), "\n"))
	return source, err == nil && filepath.IsAbs(source)
}

// Join notes which directory of the host a joined one is. The layer's directory
// exists already; its key is of the path inside, at which another run may show
// another directory.
func (k *Lock) Join(key, source string) error {
	if was, ok := k.Layer.source(key); ok && was == source {
		return nil
	}
	return k.Layer.write(filepath.Join(k.Layer.Dir, key, "source"), strconv.Quote(source)+"\n")
}

// Source is the real path of the layer's source tree.
func (l Layer) Source() string { return l.tree.Source }
