package overlay

import (
	"strings"
	"unicode"
	"unicode/utf8"
)

// fold is a name as the most lenient file system takes it: without case (ext4
// with casefold, APFS, NTFS), without the code points that HFS+ ignores, and for
// .git without what NTFS leaves out at the end and with its short name. It is
// what git's is_hfs_dotgit and is_ntfs_dotgit do.
func fold(name string) string {
	plain := true
	for i := range len(name) {
		if c := name[i]; c >= utf8.RuneSelf || 'A' <= c && c <= 'Z' {
			plain = false
			break
		}
	}
	if !plain {
		name = strings.Map(func(r rune) rune {
			if ignorable(r) {
				return -1
			}
			return foldRune(r)
		}, name)
	}
	if len(name) >= 4 && (name[:4] == ".git" || name[:4] == "git~") {
		base, _, _ := strings.Cut(name, ":") // an alternate stream
		if base = strings.TrimRight(base, " ."); base == ".git" || base == "git~1" {
			return ".git"
		}
	}
	return name
}

// foldRune is the lower case of the first of those that differ in case alone: U+017F is
// an s, U+212A a k.
func foldRune(r rune) rune {
	first := r
	for n := unicode.SimpleFold(r); n != r; n = unicode.SimpleFold(n) {
		first = min(first, n)
	}
	return unicode.ToLower(first)
}

// foldPath folds each name of a path.
func foldPath(path string) string {
	names := strings.Split(path, "/")
	for i, n := range names {
		names[i] = fold(n)
	}
	return strings.Join(names, "/")
}

// ignorable are the code points that HFS+ does not see, and further ones that
// nobody sees.
func ignorable(r rune) bool {
	switch {
	case 0x200b <= r && r <= 0x200f, 0x202a <= r && r <= 0x202e, 0x2060 <= r && r <= 0x206f, r == 0xfeff, r == 0xad, r == 0x34f, r == 0x61c,
		0xfe00 <= r && r <= 0xfe0f, 0xe0000 <= r && r <= 0xe0fff:
		return true
	}
	return false
}

// odd says whether a name has characters that a terminal or an eye is misled by:
// control and format characters, bidirectional overrides, blanks that are none,
// bytes that are no UTF-8. Such names are printed escaped.
func odd(name string) bool {
	for i := range len(name) {
		if c := name[i]; c < ' ' || c >= 0x7f {
			for _, r := range name {
				if r == utf8.RuneError || !unicode.IsPrint(r) || ignorable(r) {
					return true
				}
			}
			return false
		}
	}
	return false
}
