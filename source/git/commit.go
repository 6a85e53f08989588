package git

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/pjbgf/sha1cd"

	"github.com/gitopskit/gitopskit/source"
)

// ErrNoChanges: a commit would have the content of its parent. It is an answer
// more than a failure: there is nothing to push.
var ErrNoChanges = errors.New("git: nothing changes")

// Change is what a commit does.
type Change struct {
	// Author is who changed the files. Required.
	Author Person
	// Committer is who makes the commit. The zero value is Author.
	Committer Person
	// Message says why. Required.
	Message string
	// When is the time of the commit, in the zone that it shows. The zero value
	// is now, in UTC.
	When time.Time
	// Files are written: path to content. A file that is there keeps its mode.
	Files map[string][]byte
	// Executable are the paths of Files that are to be executable.
	Executable []string
	// Delete are the paths of files that go; those that are not there are
	// nothing to do.
	Delete []string
	// Signer signs the commit. Nil makes an unsigned commit.
	Signer Signer
}

// Person is an author or a committer.
type Person struct {
	// Name may be empty, which stands for the address.
	Name string
	// Email is the address. Required.
	Email string
}

// Signer signs commits. source/verify has those of PGP and SSH.
type Signer interface {
	// Sign returns the armored signature of a commit object.
	Sign(ctx context.Context, object []byte) ([]byte, error)
}

// SignerFunc is a function as a Signer.
type SignerFunc func(ctx context.Context, object []byte) ([]byte, error)

// Sign calls f.
func (f SignerFunc) Sign(ctx context.Context, object []byte) ([]byte, error) { return f(ctx, object) }

// Commit is a commit that is not on the server yet: its new objects, in memory.
// It does not change and is safe for concurrent use.
type Commit struct {
	// Revision names the commit, with the ref of its parent.
	Revision source.Revision
	// Parent is what it builds on; zero for the first commit of a history.
	Parent source.Revision

	id, parent oid
	objects    []object
}

// object is one new object.
type object struct {
	kind objKind
	id   oid
	data []byte
}

// Commit makes a commit on top of parent, without a clone: it asks the server
// for the directories of parent, not for its files where the server can leave
// them out, and keeps the objects that are new until Push sends them. A zero
// parent makes the first commit of a history. The parent is not verified: who
// signs what is built on it fetches it first, with Options.Verifier.
//
// If nothing changes the error is ErrNoChanges. One commit cannot turn a file
// into a directory or back, which is an ErrInvalidSpec or ErrUnsafePath. Paths are those of io/fs; one
// that no checkout should see, or that goes through a file, a symbolic link or
// a submodule, is an ErrUnsafePath.
func (s *Source) Commit(ctx context.Context, parent source.Revision, change Change) (*Commit, error) {
	ctx, cancel := s.deadline(ctx)
	defer cancel()
	c, err := s.commit(ctx, parent, change)
	if err != nil {
		return nil, s.fail(ctx, "commit", err)
	}
	return c, nil
}

func (s *Source) commit(ctx context.Context, parent source.Revision, change Change) (*Commit, error) {
	if err := change.check(); err != nil {
		return nil, err
	}
	edits, err := change.edits()
	if err != nil {
		return nil, err
	}
	c := &Commit{Revision: parent, Parent: parent}
	var old oid
	e := &editor{commit: c}
	if !parent.IsZero() {
		if c.parent, err = commitOf(parent); err != nil {
			return nil, err
		}
		if e.pack, _, err = s.packOf(ctx, parent, c.parent, "blob:none"); err != nil {
			return nil, err
		}
		defer e.pack.data.Close() //nolint:errcheck // it was only read
		if old, err = e.pack.rootOf(c.parent); err != nil {
			return nil, err
		}
	}
	tree, err := e.dir(old, edits, ".")
	if err != nil {
		return nil, err
	}
	if tree == (oid{}) { // the last file went; the root is there all the same
		tree = c.add(kindTree, nil)
	}
	if tree == old {
		return nil, ErrNoChanges
	}
	data, err := change.object(ctx, tree, c.parent)
	if err != nil {
		return nil, err
	}
	c.id = c.add(kindCommit, data)
	c.Revision.Digest = sha1Digest(c.id)
	return c, nil
}

// rootOf is the tree of a commit.
func (p *pack) rootOf(id oid) (oid, error) {
	at, ok := p.byID[id]
	if !ok {
		return oid{}, corrupt("the server sent something else than commit %s", id)
	}
	if k := p.entries[at].kind; k != kindCommit {
		return oid{}, fmt.Errorf("%w: %w", source.ErrInvalidSpec, wrongKind(id, k))
	}
	data, err := p.object(at)
	if err != nil {
		return oid{}, err
	}
	c, err := parseCommit(data)
	if err != nil {
		return oid{}, fmt.Errorf("commit %s: %w", id, err)
	}
	return c.tree, nil
}

// add adds an object once and returns its name.
func (c *Commit) add(kind objKind, data []byte) oid {
	id := nameOf(kind, data)
	for _, o := range c.objects {
		if o.id == id {
			return id
		}
	}
	c.objects = append(c.objects, object{kind, id, data})
	return id
}

// nameOf is the name of an object.
func nameOf(kind objKind, data []byte) oid {
	sum := sha1cd.New()
	fmt.Fprintf(sum, "%s %d\x00", kind, len(data))
	sum.Write(data)
	return oid(sum.Sum(nil))
}

// check returns everything that is wrong with the facts of a commit.
func (c *Change) check() error {
	errs := []error{c.Author.check("Author")}
	if c.Committer != (Person{}) {
		errs = append(errs, c.Committer.check("Committer"))
	}
	switch {
	case strings.TrimSpace(c.Message) == "":
		errs = append(errs, errors.New("Change.Message is empty"))
	case !utf8.ValidString(c.Message) || strings.ContainsRune(c.Message, 0):
		errs = append(errs, errors.New("Change.Message is not UTF-8 or contains NUL"))
	}
	if !c.When.IsZero() && c.When.Unix() < 0 {
		errs = append(errs, fmt.Errorf("Change.When %v: Git knows no time before 1970", c.When))
	}
	for _, name := range c.Executable {
		if _, ok := c.Files[name]; !ok {
			errs = append(errs, fmt.Errorf("Change.Executable names %q, which Files does not have", name))
		}
	}
	if err := errors.Join(errs...); err != nil {
		return fmt.Errorf("%w: %w", source.ErrInvalidSpec, err)
	}
	return nil
}

func (p Person) check(field string) error {
	for _, s := range []string{p.Name, p.Email} {
		if strings.ContainsAny(s, "<>\n\x00") || !utf8.ValidString(s) {
			return fmt.Errorf("Change.%s %q: no angle brackets, line ends or NUL", field, s)
		}
	}
	if strings.TrimSpace(p.Email) == "" {
		return fmt.Errorf("Change.%s has no address", field)
	}
	return nil
}

func (p Person) line(when time.Time) string {
	name, email := strings.TrimSpace(p.Name), strings.TrimSpace(p.Email)
	if name == "" {
		name = email
	}
	return fmt.Sprintf("%s <%s> %d %s", name, email, when.Unix(), when.Format("-0700"))
}

// object is the commit as Git stores it.
func (c *Change) object(ctx context.Context, tree, parent oid) ([]byte, error) {
	when, committer := c.When, c.Committer
	if when.IsZero() {
		when = time.Now().UTC()
	}
	if committer == (Person{}) {
		committer = c.Author
	}
	var head bytes.Buffer
	fmt.Fprintf(&head, "tree %s\n", tree)
	if parent != (oid{}) {
		fmt.Fprintf(&head, "parent %s\n", parent)
	}
	fmt.Fprintf(&head, "author %s\ncommitter %s\n", c.Author.line(when), committer.line(when))
	message := "\n" + strings.TrimRight(c.Message, "\n") + "\n"
	if c.Signer == nil {
		return append(head.Bytes(), message...), nil
	}
	signature, err := c.Signer.Sign(ctx, append(bytes.Clone(head.Bytes()), message...))
	if err != nil {
		return nil, fmt.Errorf("%w: sign the commit: %w", source.ErrInvalidSpec, err)
	}
	text := strings.TrimRight(strings.ReplaceAll(string(signature), "\r\n", "\n"), "\n")
	if !strings.HasPrefix(text, "-----BEGIN ") || strings.ContainsRune(text, 0) {
		return nil, fmt.Errorf("%w: the signer returned no armored signature", source.ErrInvalidSpec)
	}
	head.WriteString("gpgsig " + strings.ReplaceAll(text, "\n", "\n ") + "\n" + message)
	return head.Bytes(), nil
}
