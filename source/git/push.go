package git

import (
	"bytes"
	"compress/zlib"
	"context"
	"crypto/sha1" // the trailer of a pack
	"encoding/binary"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/gitopskit/gitopskit/source"
)

// ErrMoved: the branch is no longer where the commit was made: somebody pushed
// in between. Resolve, commit and push again.
var ErrMoved = errors.New("git: the branch has moved")

// ErrRejected: the server refuses the push, by a hook or a protection of the
// branch; the error has the server's words.
var ErrRejected = errors.New("git: the push was rejected")

// PushOptions are the optional parts of Push.
type PushOptions struct {
	// Branch is where the commit goes; it is made when it does not exist. Empty
	// means the branch of the commit's parent.
	Branch string
	// Refs are full refs that get the commit too, such as "refs/heads/staging".
	// All change or none, which the server must be able to promise.
	Refs []string
	// Force moves branches that have other commits, which are lost. Otherwise
	// they are an ErrMoved.
	Force bool
	// Options are for the server's hooks, such as "merge_request.create".
	Options []string
}

// Push sends a commit and moves the branch to it, provided the branch still is
// where the commit was made; if not, the error is ErrMoved. It returns the
// revision with the branch it was pushed to. To push what the server has
// already does nothing, so Push may be repeated when its answer was lost.
func (s *Source) Push(ctx context.Context, c *Commit, opts *PushOptions) (source.Revision, error) {
	if opts == nil {
		opts = &PushOptions{}
	}
	ctx, cancel := s.deadline(ctx)
	defer cancel()
	rev, err := s.push(ctx, c, opts)
	if err != nil {
		return source.Revision{}, s.fail(ctx, "push", err)
	}
	return rev, nil
}

func (s *Source) push(ctx context.Context, c *Commit, opts *PushOptions) (source.Revision, error) {
	rev, targets, err := s.targets(c, opts)
	if err != nil {
		return rev, err
	}
	var moves []move
	var refused error
	err = s.conversePush(ctx, func(session *session) error {
		if moves, err = c.plan(session.refs, targets, s.home(c), opts.Force); err != nil || len(moves) == 0 {
			return err
		}
		refused, err = session.push(ctx, c, moves, opts.Options)
		return err
	})
	if err == nil && refused != nil {
		err = s.whyRefused(ctx, moves, refused)
	}
	return rev, err
}

// home is the branch that the parent of a commit was found under.
func (s *Source) home(c *Commit) string {
	switch r := s.opts.Ref; {
	case r.Branch != "":
		return "refs/heads/" + r.Branch
	case strings.HasPrefix(r.Name, "refs/heads/"):
		return r.Name
	case r == (Ref{}) && c.Parent.Ref != "" && c.Parent.Ref != "HEAD":
		return "refs/heads/" + c.Parent.Ref
	}
	return ""
}

// targets are the refs to move, all checked.
func (s *Source) targets(c *Commit, opts *PushOptions) (source.Revision, []string, error) {
	if c == nil || len(c.objects) == 0 {
		return source.Revision{}, nil, fmt.Errorf("%w: the commit is none that Source.Commit made", source.ErrInvalidSpec)
	}
	var errs []error
	first := s.home(c)
	if opts.Branch != "" {
		first = "refs/heads/" + opts.Branch
	}
	if first == "" {
		errs = append(errs, fmt.Errorf("%s is no branch: set PushOptions.Branch", s.opts.Ref))
	}
	targets := append([]string{first}, opts.Refs...)
	for _, ref := range targets {
		if why := badRefName(ref); why != "" || !strings.HasPrefix(ref, "refs/") || strings.Count(ref, "/") < 2 {
			errs = append(errs, fmt.Errorf("%q is no full name of a ref: %s", ref, why))
		}
	}
	slices.Sort(targets[1:])
	targets = slices.Compact(targets)
	for _, o := range opts.Options {
		if strings.ContainsAny(o, "\n\x00") || len(o) > 60_000 {
			errs = append(errs, errors.New("an element of PushOptions.Options has a line end or NUL, or is too long"))
		}
	}
	if err := errors.Join(errs...); err != nil {
		return source.Revision{}, nil, fmt.Errorf("%w: %w", source.ErrInvalidSpec, err)
	}
	return source.Revision{Ref: strings.TrimPrefix(first, "refs/heads/"), Digest: sha1Digest(c.id)}, targets, nil
}

// move is one ref that changes.
type move struct {
	ref string
	old oid // none for a new ref
	id  oid
}

// plan compares the refs of the server with what the commit was made on.
func (c *Commit) plan(refs []reference, targets []string, home string, force bool) ([]move, error) {
	var moves []move
	for _, ref := range targets {
		var old oid
		if i := slices.IndexFunc(refs, func(r reference) bool { return r.name == ref }); i >= 0 {
			old = refs[i].id
		}
		switch {
		case old == c.id || slices.ContainsFunc(moves, func(m move) bool { return m.ref == ref }):
			continue
		case force, old == c.parent, old == (oid{}) && ref != home:
			moves = append(moves, move{ref, old, c.id})
		case old == (oid{}):
			return nil, fmt.Errorf("%w: %s was deleted", ErrMoved, ref)
		case c.parent == (oid{}):
			return nil, fmt.Errorf("%w: %s exists already, at %s", ErrMoved, ref, old)
		default:
			return nil, fmt.Errorf("%w: %s is at %s, the commit was made on %s", ErrMoved, ref, old, c.parent)
		}
	}
	return moves, nil
}

// conversePush is converse for the service that receives commits.
func (s *Source) conversePush(ctx context.Context, f func(*session) error) error {
	auth, err := credentials(ctx, s.opts.Auth, s.url.Scheme)
	if err != nil {
		return err
	}
	if s.url.Scheme == "ssh" {
		return s.converseSSH(ctx, receivePack, auth, f)
	}
	c := s.dialHTTP(receivePack, s.url, auth)
	defer c.Close() //nolint:errcheck // the answer was read
	session, err := openSession(ctx, c, s.opts.Limits.Download)
	if err != nil {
		return err
	}
	return f(session)
}

// push sends commands and pack. The first error is what the server refused.
func (s *session) push(ctx context.Context, c *Commit, moves []move, options []string) (refused, _ error) {
	caps, err := s.pushCapabilities(len(moves), len(options))
	if err != nil {
		return nil, err
	}
	var w pktWriter
	for i, m := range moves {
		text := fmt.Sprintf("%s %s %s", m.old, m.id, m.ref)
		if i == 0 {
			text += "\x00" + caps
		}
		w.line("%s", text)
	}
	w.flush()
	if len(options) > 0 {
		for _, o := range options {
			w.line("%s", o)
		}
		w.flush()
	}
	if err := writePack(&w.Buffer, c.objects); err != nil {
		return nil, err
	}
	r, err := s.conn.request(ctx, w.Bytes())
	if err != nil {
		return nil, err
	}
	p, words := s.packets(r), &tail{}
	if s.has("side-band-64k") {
		p = newPktReader(&sideband{p: p, words: words})
	}
	return readReport(p, moves, words)
}

// pushCapabilities are what the request asks of the server.
func (s *session) pushCapabilities(refs, options int) (string, error) {
	if !s.has("report-status") {
		return "", fmt.Errorf("%w: the server does not report what becomes of a push", source.ErrUnavailable)
	}
	caps := []string{"report-status"}
	if s.has("side-band-64k") {
		caps = append(caps, "side-band-64k")
	}
	if refs > 1 {
		if !s.has("atomic") {
			return "", fmt.Errorf("%w: the server cannot change several refs at once: push them one by one", source.ErrInvalidSpec)
		}
		caps = append(caps, "atomic")
	}
	if options > 0 {
		if !s.has("push-options") {
			return "", fmt.Errorf("%w: the server takes no push options", source.ErrInvalidSpec)
		}
		caps = append(caps, "push-options")
	}
	if s.has("object-format") {
		caps = append(caps, "object-format=sha1")
	}
	if s.has("agent") {
		caps = append(caps, "agent="+agent)
	}
	return strings.Join(caps, " "), nil
}

// writePack writes whole objects.
func writePack(w *bytes.Buffer, objects []object) error {
	start := w.Len()
	head := binary.BigEndian.AppendUint32([]byte("PACK\x00\x00\x00\x02"), uint32(len(objects)))
	w.Write(head)
	for _, o := range objects {
		size := len(o.data)
		b := byte(o.kind)<<4 | byte(size&15)
		for size >>= 4; size > 0; size >>= 7 {
			w.WriteByte(b | 0x80)
			b = byte(size & 0x7f)
		}
		w.WriteByte(b)
		z := zlib.NewWriter(w)
		_, err := z.Write(o.data)
		if err := errors.Join(err, z.Close()); err != nil {
			return err
		}
	}
	sum := sha1.Sum(w.Bytes()[start:])
	w.Write(sum[:])
	return nil
}

// readReport reads what became of each ref.
func readReport(p *pktReader, moves []move, words *tail) (refused, _ error) {
	done := map[string]bool{}
	for first := true; ; first = false {
		kind, line, err := p.line()
		if err != nil {
			return nil, eofIsUnexpected(err)
		}
		verb, rest, _ := strings.Cut(line, " ")
		ref, reason, _ := strings.Cut(rest, " ")
		switch {
		case kind == pktFlush:
			for _, m := range moves {
				if refused == nil && !done[m.ref] {
					return nil, fmt.Errorf("%w: the server does not say what became of %s", errProtocol, m.ref)
				}
			}
			return refused, nil
		case kind != pktData:
			return nil, fmt.Errorf("%w: a strange packet in the report", errProtocol)
		case first && verb == "unpack" && rest == "ok", verb == "option":
		case first && verb == "unpack":
			refused = rejected("the server cannot unpack it: "+printable([]byte(rest)), words)
		case verb == "ok":
			done[ref] = true
		case verb == "ng" && refused == nil:
			refused = rejected(printable([]byte(ref))+": "+printable([]byte(reason)), words)
		case verb == "ng":
		default:
			return nil, fmt.Errorf("%w: %q in the report", errProtocol, printable([]byte(line)))
		}
	}
}

func rejected(why string, words *tail) error {
	if said := words.String(); said != "" {
		why += "; the server says: " + said
	}
	return fmt.Errorf("%w: %s", ErrRejected, why)
}

// whyRefused looks once more where the refs are: if one moved, it was that.
func (s *Source) whyRefused(ctx context.Context, moves []move, refused error) error {
	err := s.conversePush(ctx, func(session *session) error {
		for _, m := range moves {
			var now oid
			if i := slices.IndexFunc(session.refs, func(r reference) bool { return r.name == m.ref }); i >= 0 {
				now = session.refs[i].id
			}
			if now != m.old {
				return fmt.Errorf("%w: %s is at %s by now", ErrMoved, m.ref, now)
			}
		}
		return nil
	})
	if errors.Is(err, ErrMoved) {
		return err
	}
	return refused
}
