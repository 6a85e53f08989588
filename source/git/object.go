package git

import (
	"bytes"
	"fmt"
	"strconv"
	"strings"
	"time"
)

// commit is what is used of a commit object.
type commit struct {
	tree              oid
	parents           []oid
	author, committer person
	subject           string
}

// person is one author or committer line.
type person struct {
	name string // "Name <address>"
	when time.Time
}

// parseCommit reads a commit as Git writes it: tree, parents, author,
// committer, in that order and once each, so that no two readers can see
// different trees in one object.
func parseCommit(data []byte) (*commit, error) {
	c := &commit{}
	head, message, _ := bytes.Cut(data, []byte("\n\n"))
	lines := strings.Split(string(head), "\n")
	take := func(key string) (string, bool) {
		if len(lines) == 0 {
			return "", false
		}
		value, ok := strings.CutPrefix(lines[0], key+" ")
		if ok {
			lines = lines[1:]
		}
		return value, ok
	}
	tree, ok := take("tree")
	if c.tree, ok = parseOIDIf(tree, ok); !ok {
		return nil, corrupt("a commit does not start with its tree")
	}
	for {
		text, ok := take("parent")
		if !ok {
			break
		}
		id, ok := parseOID(text)
		if !ok {
			return nil, corrupt("a commit has a malformed parent")
		}
		c.parents = append(c.parents, id)
	}
	author, ok1 := take("author")
	committer, ok2 := take("committer")
	if !ok1 || !ok2 {
		return nil, corrupt("a commit lacks its author or committer")
	}
	for _, line := range lines {
		if key, _, _ := strings.Cut(line, " "); key == "tree" || key == "parent" || key == "author" || key == "committer" {
			return nil, corrupt("a commit has a second %s", key)
		}
	}
	c.author, c.committer = parsePerson(author), parsePerson(committer)
	c.subject = subject(message)
	return c, nil
}

func parseOIDIf(text string, ok bool) (oid, bool) {
	id, valid := parseOID(text)
	return id, valid && ok
}

// subject is the first line of a message, as one line of valid text.
func subject(message []byte) string {
	line, _, _ := bytes.Cut(bytes.TrimLeft(message, "\n "), []byte("\n"))
	return printable(line)
}

// parsePerson reads "Name <address> seconds zone". A malformed time is the
// zero time: history holds many, and nothing depends on it.
func parsePerson(line string) person {
	end := strings.LastIndexByte(line, '>')
	if end < 0 {
		return person{name: printable([]byte(line))}
	}
	p := person{name: printable([]byte(line[:end+1]))}
	fields := strings.Fields(line[end+1:])
	if len(fields) != 2 {
		return p
	}
	seconds, err := strconv.ParseInt(fields[0], 10, 64)
	zone, err2 := time.Parse("-0700", fields[1])
	if err == nil && err2 == nil && seconds >= 0 && seconds < 1<<37 {
		p.when = time.Unix(seconds, 0).In(zone.Location())
	}
	return p
}

// tag is what is used of a tag object.
type tag struct {
	target  oid
	kind    string
	name    string
	tagger  person
	subject string
}

func parseTag(data []byte) (*tag, error) {
	head, message, _ := bytes.Cut(data, []byte("\n\n"))
	lines := strings.Split(string(head), "\n")
	if len(lines) < 3 {
		return nil, corrupt("a tag object is too short")
	}
	t := &tag{subject: subject(message)}
	target, ok1 := strings.CutPrefix(lines[0], "object ")
	kind, ok2 := strings.CutPrefix(lines[1], "type ")
	name, ok3 := strings.CutPrefix(lines[2], "tag ")
	id, ok4 := parseOID(target)
	if !ok1 || !ok2 || !ok3 || !ok4 {
		return nil, corrupt("a tag object is malformed")
	}
	t.target, t.kind, t.name = id, kind, name
	if len(lines) > 3 {
		if tagger, ok := strings.CutPrefix(lines[3], "tagger "); ok {
			t.tagger = parsePerson(tagger)
		}
	}
	return t, nil
}

// treeEntry is one line of a tree object.
type treeEntry struct {
	name string
	mode uint32
	id   oid
}

// The modes of Git's tree entries.
const (
	modeDir     = 0o040000
	modeLink    = 0o120000
	modeModule  = 0o160000
	modeRegular = 0o100000
)

func parseTree(data []byte) ([]treeEntry, error) {
	var entries []treeEntry
	for len(data) > 0 {
		space := bytes.IndexByte(data, ' ')
		nul := bytes.IndexByte(data, 0)
		if space < 1 || nul < space || len(data) < nul+21 {
			return nil, corrupt("a tree is malformed")
		}
		mode, err := strconv.ParseUint(string(data[:space]), 8, 32)
		if err != nil {
			return nil, corrupt("a tree has the mode %q", data[:space])
		}
		e := treeEntry{name: string(data[space+1 : nul]), mode: uint32(mode)}
		copy(e.id[:], data[nul+1:])
		entries = append(entries, e)
		data = data[nul+21:]
	}
	return entries, nil
}

// metadata are the facts about a commit that an artifact carries.
func (c *commit) metadata(id oid) map[string]string {
	m := map[string]string{
		MetaCommit:    id.String(),
		MetaTree:      c.tree.String(),
		MetaAuthor:    c.author.name,
		MetaCommitter: c.committer.name,
		MetaSubject:   c.subject,
	}
	for key, when := range map[string]time.Time{MetaAuthorDate: c.author.when, MetaCommitterDate: c.committer.when} {
		if !when.IsZero() {
			m[key] = when.Format(time.RFC3339)
		}
	}
	return m
}

// wrongKind says that a ref or a revision names something else than a commit.
func wrongKind(id oid, kind objKind) error {
	return fmt.Errorf("%s is a %v, not a commit", id, kind)
}
