package overlay

import (
	"encoding/json"
	"fmt"
	"maps"
	"path"
	"reflect"
	"slices"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

func quote(s string) string { return strconv.Quote(s) }

// maxGuarded is how large a file may be of which the content is looked at.
const maxGuarded = 4 << 20

// content looks into the files of which only a part matters.
func (g *Guard) content(c Change) []Reason {
	name := fold(path.Base(c.Path))
	if !contentMatters(name) {
		return nil
	}
	if name != ".gitattributes" && inDependency(c.Path) {
		return nil
	}
	layer, err := g.read(g.o.upper, c.Path, c.Upper)
	if err != nil {
		return []Reason{{Refuse, "it cannot be read: " + cause(err)}}
	}
	var host []byte
	if c.Lower.IsRegular() {
		host, _ = g.read(g.o.lower, c.Path, c.Lower)
	}
	if name == ".gitattributes" {
		return drivers(host, layer)
	}
	return scripts(name, host, layer)
}

func contentMatters(name string) bool {
	switch name {
	case ".gitattributes", "package.json", "composer.json":
		return true
	}
	return false
}

// inDependency says whether a manifest is of a package that was installed, and
// whose scripts nobody calls from there.
func inDependency(p string) bool {
	for _, d := range [...]string{"node_modules/", "vendor/"} {
		if strings.HasPrefix(p, d) || strings.Contains(p, "/"+d) {
			return true
		}
	}
	return false
}

// read reads a whole small file of one side.
func (g *Guard) read(root int, p string, seen Stat) ([]byte, error) {
	if seen.Size > maxGuarded {
		return nil, fmt.Errorf("it is larger than %d MiB", maxGuarded>>20)
	}
	fd, err := OpenBeneath(root, p, unix.O_RDONLY)
	if err != nil {
		return nil, err
	}
	defer unix.Close(fd)
	st, err := StatFd(fd)
	if err != nil || !st.same(seen) || st.Size > maxGuarded {
		return nil, errMoved
	}
	buf := make([]byte, st.Size)
	n, err := preadFull(fd, buf, 0)
	return buf[:n], err
}

// drivers finds the lines that name a driver, which git's configuration may
// have a program for, gitattributes(5). Those that the host has too are known.
func drivers(host, layer []byte) []Reason {
	// As git's attr.c. Were other white space cut off, its pattern would be a
	// comment here.
	const blanks = " \t\r\n"
	known := map[string]bool{}
	for line := range strings.Lines(string(host)) {
		known[strings.Trim(line, blanks)] = true
	}
	for line := range strings.Lines(string(layer)) {
		line = strings.Trim(line, blanks)
		if known[line] || strings.HasPrefix(line, "#") {
			continue
		}
		for _, word := range strings.FieldsFunc(line, func(r rune) bool { return strings.ContainsRune(blanks, r) }) {
			switch key, value, _ := strings.Cut(word, "="); strings.TrimLeft(key, "-!") {
			case "filter", "diff", "merge":
				if value != "" {
					return []Reason{{Refuse, "it has git run the driver " + quote(word)}}
				}
			}
		}
	}
	return nil
}

// manifestKeys are what runs of a package.json besides its scripts, or decides
// about what runs.
var manifestKeys = [...]string{"packageManager", "trustedDependencies", "pnpm", "husky", "simple-git-hooks", "lint-staged", "gitHooks", "pre-commit", "overrides", "bin"}

// scripts names the scripts of package.json and composer.json that the layer
// changes.
func scripts(name string, host, layer []byte) []Reason {
	var was, is map[string]any
	json.Unmarshal(host, &was) // what cannot be read has no scripts
	if err := json.Unmarshal(layer, &is); err != nil {
		return []Reason{{Note, "it is no JSON, so its scripts are unknown"}}
	}
	changed := changedKeys(object(was["scripts"]), object(is["scripts"]))
	if name == "package.json" {
		for _, k := range manifestKeys {
			if !reflect.DeepEqual(was[k], is[k]) {
				changed = append(changed, k)
			}
		}
	} else {
		if !reflect.DeepEqual(object(was["config"])["allow-plugins"], object(is["config"])["allow-plugins"]) {
			changed = append(changed, "allow-plugins")
		}
		if !reflect.DeepEqual(was["repositories"], is["repositories"]) {
			changed = append(changed, "repositories")
		}
	}
	if len(changed) == 0 {
		return nil
	}
	return []Reason{{Note, "changed scripts: " + strings.Join(changed, ", ")}}
}

func object(v any) map[string]any {
	m, _ := v.(map[string]any)
	return m
}

// changedKeys are the keys of which the values differ, in order.
func changedKeys(a, b map[string]any) []string {
	var list []string
	for _, k := range slices.Sorted(maps.Keys(merge(a, b))) {
		if !reflect.DeepEqual(a[k], b[k]) {
			list = append(list, k)
		}
	}
	return list
}

func merge(a, b map[string]any) map[string]any {
	m := maps.Clone(a)
	if m == nil {
		m = map[string]any{}
	}
	maps.Copy(m, b)
	return m
}
