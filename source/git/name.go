package git

import (
	"strings"
	"unicode/utf8"
)

// unsafeName says why a name of a tree must not reach a file system, or
// nothing. The rules are Git's own for checkouts on every system at once, so
// that an artifact is as safe to unpack on a Mac or on Windows as on Linux.
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
	case strings.Contains(name, `..\`) || strings.Contains(name, `\..`) || isDotGitPart(name):
		return "a name that is a path on some file system"
	}
	return ""
}

// isDotGitPart finds .git among the parts of a name with backslashes.
func isDotGitPart(name string) bool {
	for part := range strings.SplitSeq(name, `\`) {
		if isDotGit(part) {
			return true
		}
	}
	return false
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
