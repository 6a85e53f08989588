package git

import (
	"strings"
	"unicode/utf8"
)

// unsafeName says why a name of a tree must not reach a file system, or
// nothing. The rules are Git's own for checkouts on every system at once, so
// that an artifact is as safe to unpack on a Mac or on Windows as on Linux,
// and those of io/fs, which knows only UTF-8.
func unsafeName(name string) string {
	switch {
	case name == "":
		return "an empty name"
	case name == "." || name == "..":
		return "a name that leaves its directory"
	case strings.ContainsRune(name, '/'):
		return "a name with a slash"
	case strings.ContainsRune(name, 0):
		return "a name with NUL"
	case !utf8.ValidString(name):
		return "a name that is not UTF-8"
	case isDotGit(name):
		return "a name that means .git on some file system"
	case strings.ContainsRune(name, '\\'):
		return "a name with a backslash, which is a path on Windows"
	}
	return ""
}

// isDotGit recognises .git and its aliases: any case, with code points that
// HFS+ ignores, with the trailing dots, spaces and streams that NTFS ignores,
// and the short name git~1.
func isDotGit(name string) bool {
	name = strings.ToLower(strings.Map(func(r rune) rune {
		if ignoredByHFS(r) {
			return -1
		}
		return r
	}, name))
	name, _, _ = strings.Cut(name, ":")
	name = strings.TrimRight(name, ". ")
	return name == ".git" || name == "git~1"
}

// ignoredByHFS lists the code points HFS+ drops when it compares names, as in
// Git's utf8.c.
func ignoredByHFS(r rune) bool {
	switch {
	case r >= 0x200c && r <= 0x200f, r >= 0x202a && r <= 0x202e, r >= 0x206a && r <= 0x206f, r == 0xfeff:
		return true
	}
	return false
}
