package git

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/gitopskit/gitopskit/source"
)

// The keys of an artifact's metadata.
const (
	MetaCommit        = "git.commit"         // full hash
	MetaTree          = "git.tree"           // hash of the root directory
	MetaSubject       = "git.subject"        // first line of the message
	MetaAuthor        = "git.author"         // Name <address>
	MetaAuthorDate    = "git.author.date"    // RFC 3339
	MetaCommitter     = "git.committer"      // Name <address>
	MetaCommitterDate = "git.committer.date" // RFC 3339
	MetaTag           = "git.tag"            // hash of the annotated tag object, when there is one
	MetaTagger        = "git.tag.tagger"     // Name <address>
	MetaTagSubject    = "git.tag.subject"    // first line of the tag's message
	MetaSkipped       = "git.skipped"        // paths of symbolic links that were left out, one a line
	MetaSubmodules    = "git.submodules"     // paths of submodules, which are empty directories, one a line
	MetaFallback      = "git.fallback"       // why more than one commit was transferred, when it was
)

// maxListed bounds the lists in the metadata.
const maxListed = 100

// Fetch returns the files of exactly that commit, read by hash and without its
// history. A server that does not give out commits by hash is asked for the
// ref, with as much history as it takes to find the commit.
func (s *Source) Fetch(ctx context.Context, rev source.Revision) (*source.Artifact, error) {
	ctx, cancel := s.deadline(ctx)
	defer cancel()
	a, err := s.fetch(ctx, rev)
	if err != nil {
		return nil, s.fail(ctx, "fetch", err)
	}
	return a, nil
}

func (s *Source) fetch(ctx context.Context, rev source.Revision) (*source.Artifact, error) {
	id, err := commitOf(rev)
	if err != nil {
		return nil, err
	}
	p, fallback, err := s.packOf(ctx, rev, id, "")
	if err != nil {
		return nil, err
	}
	a, err := s.artifact(ctx, p, rev, id, fallback)
	if err == nil && s.opts.Ref.Commit != "" && s.opts.Ref.Branch != "" {
		err = s.onBranch(ctx, id)
	}
	if err != nil {
		return nil, errors.Join(err, p.data.Close())
	}
	return a, nil
}

// commitOf is the commit of a revision.
func commitOf(rev source.Revision) (oid, error) {
	hash, ok := strings.CutPrefix(rev.Digest.String(), "sha1:")
	id, valid := parseOID(hash)
	switch {
	case strings.HasPrefix(rev.Digest.String(), "sha256:"):
		return id, fmt.Errorf("revision %q: %w", rev, errSHA256)
	case !ok || !valid:
		return id, fmt.Errorf("%w: revision %q is no Git commit", source.ErrInvalidSpec, rev)
	}
	return id, nil
}

// packOf gets a pack with the commit and everything in its tree, or what the
// filter leaves of it where the server has filters.
func (s *Source) packOf(ctx context.Context, rev source.Revision, id oid, filter string) (p *pack, fallback string, err error) {
	var refused *remoteError
	err = s.converse(ctx, func(c *session) error {
		ids, ok := directWant(c, id)
		if !ok {
			refused = &remoteError{"only refs can be fetched"}
			return nil
		}
		var err error
		p, err = s.receive(ctx, c, want{ids: ids, depth: 1, filter: filter, tags: s.opts.Ref.isTag()})
		if errors.As(err, &refused) {
			return nil
		}
		return err
	})
	if err != nil || refused == nil {
		return p, "", err
	}
	// Deepen in one step before taking everything: most pins are recent.
	for _, depth := range []int{64, 0} {
		err := s.converse(ctx, func(c *session) error {
			ids, err := s.tips(ctx, c, rev)
			if err != nil {
				return err
			}
			p, err = s.receive(ctx, c, want{ids: ids, depth: depth, filter: filter, tags: s.opts.Ref.isTag()})
			return err
		})
		if err != nil {
			return nil, "", err
		}
		if _, ok := p.byID[id]; ok {
			return p, "the server does not give out this commit by its hash: " + refused.Error(), nil
		}
		if err := p.data.Close(); err != nil {
			return nil, "", err
		}
	}
	if ref := s.refOf(rev).full(); ref != "" {
		return nil, "", fmt.Errorf("%w: commit %s is not reachable from %s", source.ErrNotFound, id, ref)
	}
	return nil, "", fmt.Errorf("%w: commit %s is not reachable from any branch or tag", source.ErrNotFound, id)
}

// directWant says what to ask for to get one commit, if the server allows it:
// version 2 gives out whatever it has, version 0 what it advertised or allows.
func directWant(c *session, id oid) ([]oid, bool) {
	if c.version == 2 {
		return []oid{id}, true
	}
	for _, r := range c.refs {
		if r.commit() == id || r.id == id {
			return []oid{r.id}, true
		}
	}
	ok := c.has("allow-tip-sha1-in-want") || c.has("allow-reachable-sha1-in-want")
	return []oid{id}, ok
}

// refOf is where a revision was found: the source's own kind of ref with the
// revision's name.
func (s *Source) refOf(rev source.Revision) Ref {
	switch r := s.opts.Ref; {
	case rev.Ref == "" && r.SemVer != "":
		return Ref{Commit: rev.Digest.Encoded()}
	case rev.Ref == "":
		return Ref{Commit: r.Commit, Branch: r.Branch, Tag: r.Tag, Name: r.Name}
	case rev.Ref == "HEAD" || strings.HasPrefix(rev.Ref, "refs/"):
		return Ref{Name: rev.Ref}
	case r.Tag != "", r.SemVer != "":
		return Ref{Tag: rev.Ref}
	}
	return Ref{Branch: rev.Ref}
}

// tips are the objects to fetch history from.
func (s *Source) tips(ctx context.Context, c *session, rev source.Revision) ([]oid, error) {
	ref := s.refOf(rev)
	if ref.full() != "" {
		found, err := s.lookup(ctx, c, ref)
		return []oid{found.id}, err
	}
	refs, err := c.list(ctx, "refs/heads/", "refs/tags/")
	if err != nil {
		return nil, err
	}
	var ids []oid
	for _, r := range refs {
		ids = append(ids, r.id)
	}
	if len(ids) == 0 {
		return nil, fmt.Errorf("%w: the repository is empty", source.ErrNotFound)
	}
	slices.SortFunc(ids, func(a, b oid) int { return slices.Compare(a[:], b[:]) })
	return slices.Compact(ids), nil
}

// receive fetches and reads one pack.
func (s *Source) receive(ctx context.Context, c *session, w want) (*pack, error) {
	r, err := c.fetch(ctx, w)
	if err != nil {
		return nil, err
	}
	l := s.opts.Limits
	limits := packLimits{object: l.File, total: satAdd(l.Unpacked, 64<<20), objects: satAdd(satMul(l.Files, 2), 16)} // files, and the trees that name them
	if w.depth != 1 {
		limits.total, limits.objects = satMul(l.Unpacked, 16), satMul(l.Files, 32)
	}
	data := &spool{dir: s.opts.TempDir, memory: spoolMemory}
	p, err := readPack(ctx, r, data, limits)
	if err != nil {
		return nil, errors.Join(err, data.Close())
	}
	return p, nil
}

func satMul[T int | int64](a, b T) T {
	if p := a * b; p/b == a {
		return p
	}
	return a
}

// artifact makes the file system of a commit.
func (s *Source) artifact(ctx context.Context, p *pack, rev source.Revision, id oid, fallback string) (*source.Artifact, error) {
	at, ok := p.byID[id]
	if !ok {
		return nil, corrupt("the server sent something else than commit %s", id)
	}
	if k := p.entries[at].kind; k != kindCommit {
		return nil, fmt.Errorf("%w: %w", source.ErrInvalidSpec, wrongKind(id, k))
	}
	data, err := p.object(at)
	if err != nil {
		return nil, err
	}
	c, err := parseCommit(data)
	if err != nil {
		return nil, fmt.Errorf("commit %s: %w", id, err)
	}
	verified, err := s.verify(ctx, p, rev, id, data)
	if err != nil {
		return nil, err
	}
	b := &treeBuilder{pack: p, limits: s.opts.Limits, symlinks: s.opts.Symlinks}
	root, err := b.build(c.tree)
	if err != nil {
		return nil, fmt.Errorf("commit %s: %w", id, err)
	}
	meta := c.metadata(id)
	list(meta, MetaSkipped, b.skipped)
	list(meta, MetaSubmodules, b.modules)
	if fallback != "" {
		meta[MetaFallback] = fallback
	}
	if s.opts.Ref.isTag() {
		if err := p.describeTag(meta, strings.TrimPrefix(rev.Ref, "refs/tags/"), id); err != nil {
			return nil, err
		}
	}
	when := c.committer.when
	if when.IsZero() {
		when = time.Unix(0, 0)
	}
	return source.NewArtifact(rev, &treeFS{pack: p, root: root, time: when.UTC()}, &source.ArtifactOptions{
		Metadata: meta, Verified: verified, Close: p.data.Close,
	}), nil
}

func list(meta map[string]string, key string, names []string) {
	if len(names) == 0 {
		return
	}
	rest := len(names) - maxListed
	text := strings.Join(names[:min(len(names), maxListed)], "\n")
	if rest > 0 {
		text += fmt.Sprintf("\n(and %d more)", rest)
	}
	meta[key] = text
}

// describeTag adds what the annotated tag of that name says about the commit.
func (p *pack) describeTag(meta map[string]string, name string, commit oid) error {
	for i := range p.entries {
		if p.entries[i].kind != kindTag {
			continue
		}
		data, err := p.object(int32(i))
		if err != nil {
			return err
		}
		t, err := parseTag(data)
		if err != nil {
			return err
		}
		if t.name != name || t.target != commit {
			continue
		}
		meta[MetaTag] = p.entries[i].id.String()
		meta[MetaTagger] = t.tagger.name
		meta[MetaTagSubject] = t.subject
	}
	return nil
}

// onBranch wants a pinned commit to be on the source's branch. It reads the
// branch's commits, without their trees where the server can leave them out.
func (s *Source) onBranch(ctx context.Context, id oid) error {
	branch := Ref{Branch: s.opts.Ref.Branch}
	return s.converse(ctx, func(c *session) error {
		tip, err := s.lookup(ctx, c, branch)
		if err != nil || tip.id == id {
			return err
		}
		p, err := s.receive(ctx, c, want{ids: []oid{tip.id}, filter: "tree:0"})
		if err != nil {
			return err
		}
		defer p.data.Close() //nolint:errcheck // it was only read
		if !p.reaches(tip.id, id) {
			return fmt.Errorf("%w: commit %s is not reachable from branch %s", source.ErrNotFound, id, branch.Branch)
		}
		return nil
	})
}

// reaches walks from one commit to its ancestors.
func (p *pack) reaches(from, to oid) bool {
	seen := map[oid]bool{from: true}
	for todo := []oid{from}; len(todo) > 0; {
		id := todo[len(todo)-1]
		todo = todo[:len(todo)-1]
		if id == to {
			return true
		}
		at, ok := p.byID[id]
		if !ok || p.entries[at].kind != kindCommit {
			continue
		}
		data, err := p.object(at)
		if err != nil {
			continue
		}
		c, err := parseCommit(data)
		if err != nil {
			continue
		}
		for _, parent := range c.parents {
			if !seen[parent] {
				seen[parent] = true
				todo = append(todo, parent)
			}
		}
	}
	return false
}
