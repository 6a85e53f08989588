package git

import (
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"

	"github.com/gitopskit/gitopskit/source"
)

// conn is one conversation with a service of a Git server.
type conn interface {
	// advertisement returns what the server says first.
	advertisement(ctx context.Context) (io.Reader, error)
	// request sends one request and returns the answer, which is read before
	// the next request.
	request(ctx context.Context, body []byte) (io.Reader, error)
	Close() error
}

// session is a conversation whose protocol version is known.
type session struct {
	conn    conn
	version int // 0 or 2
	caps    map[string]string
	refs    []reference // version 0 has told them all

	// left counts down the bytes that may still be received.
	left int64
}

// reference is one ref of the server.
type reference struct {
	name   string
	id     oid
	peeled *oid   // what an annotated tag stands for
	symref string // what HEAD stands for
}

// commit is the object the ref is about: the tag's target, not the tag.
func (r reference) commit() oid {
	if r.peeled != nil {
		return *r.peeled
	}
	return r.id
}

// maxRefs bounds a server that never stops listing.
const maxRefs = 2_000_000

// open reads the server's advertisement and learns its version.
func openSession(ctx context.Context, c conn, download int64) (*session, error) {
	s := &session{conn: c, left: download}
	r, err := c.advertisement(ctx)
	if err != nil {
		return nil, err
	}
	p := s.packets(r)
	kind, line, err := p.line()
	if err == nil && kind == pktData && strings.HasPrefix(line, "# service=") {
		if kind, line, err = p.line(); err == nil && kind == pktFlush {
			kind, line, err = p.line()
		}
	}
	if errors.Is(err, io.EOF) {
		return nil, fmt.Errorf("%w: the server said nothing", source.ErrUnavailable)
	}
	if err != nil {
		return nil, err
	}
	switch {
	case kind == pktFlush: // some servers say this for a repository without refs
		s.caps = map[string]string{}
		return s, nil
	case line == "version 2":
		s.version = 2
		return s, s.readCapabilities(p)
	case line == "version 1":
		if kind, line, err = p.line(); err != nil {
			return nil, eofIsUnexpected(err)
		}
	}
	return s, s.readRefs(p, kind, line)
}

// packets reads from r within the session's bound.
func (s *session) packets(r io.Reader) *pktReader { return newPktReader(&boundedReader{r, &s.left}) }

// boundedReader ends with ErrLimit when the allowance is used up.
type boundedReader struct {
	r    io.Reader
	left *int64
}

func (b *boundedReader) Read(p []byte) (int, error) {
	if *b.left <= 0 {
		return 0, fmt.Errorf("%w: the server sent more than Limits.Download allows", source.ErrLimit)
	}
	n, err := b.r.Read(p[:min(int64(len(p)), *b.left)])
	*b.left -= int64(n)
	return n, err
}

func (s *session) readCapabilities(p *pktReader) error {
	s.caps = map[string]string{}
	for {
		kind, line, err := p.line()
		if err != nil {
			return eofIsUnexpected(err)
		}
		if kind == pktFlush {
			return s.checkFormat()
		}
		key, value, _ := strings.Cut(line, "=")
		if len(s.caps) < 1000 {
			s.caps[key] = value
		}
	}
}

// readRefs reads the advertisement of protocol version 0, whose first line is known.
func (s *session) readRefs(p *pktReader, kind pktKind, line string) error {
	first := true
	for ; kind == pktData; first = false {
		if first {
			var caps string
			line, caps, _ = strings.Cut(line, "\x00")
			s.readV0Capabilities(caps)
		}
		text, name, _ := strings.Cut(line, " ")
		id, ok := parseOID(text)
		switch {
		case !ok && text == "shallow":
		case !ok && first && len(text) == 64:
			return errSHA256
		case !ok:
			return fmt.Errorf("%w: %q is not a ref", errProtocol, printable([]byte(line)))
		case name == "capabilities^{}":
		case strings.HasSuffix(name, "^{}") && len(s.refs) > 0:
			s.refs[len(s.refs)-1].peeled = &id
		default:
			s.refs = append(s.refs, reference{name: name, id: id, symref: s.caps["symref="+name]})
		}
		if len(s.refs) > maxRefs {
			return fmt.Errorf("%w: the server has more than %d refs", source.ErrLimit, maxRefs)
		}
		var err error
		if kind, line, err = p.line(); err != nil {
			return eofIsUnexpected(err)
		}
	}
	return s.checkFormat()
}

func (s *session) readV0Capabilities(text string) {
	s.caps = map[string]string{}
	for c := range strings.FieldsSeq(text) {
		key, value, _ := strings.Cut(c, "=")
		if from, to, ok := strings.Cut(value, ":"); ok && key == "symref" {
			key, value = "symref="+from, to
		}
		s.caps[key] = value
	}
}

var errSHA256 = fmt.Errorf("%w: the repository uses SHA-256 object names, which are not supported", source.ErrInvalidSpec)

func (s *session) checkFormat() error {
	if f := s.caps["object-format"]; f != "" && f != "sha1" {
		return errSHA256
	}
	return nil
}

// has says whether the server can do something: a capability of version 0, or
// a feature of version 2's fetch command.
func (s *session) has(feature string) bool {
	if s.version == 2 {
		return slices.Contains(strings.Fields(s.caps["fetch"]), feature)
	}
	_, ok := s.caps[feature]
	return ok
}

// list returns the refs whose names start with one of the prefixes.
func (s *session) list(ctx context.Context, prefixes ...string) ([]reference, error) {
	matches := func(name string) bool {
		return slices.ContainsFunc(prefixes, func(p string) bool { return strings.HasPrefix(name, p) })
	}
	if s.version != 2 {
		return slices.DeleteFunc(slices.Clone(s.refs), func(r reference) bool { return !matches(r.name) }), nil
	}
	var w pktWriter
	s.command(&w, "ls-refs")
	w.line("peel")
	w.line("symrefs")
	for _, p := range prefixes {
		w.line("ref-prefix %s", p)
	}
	w.flush()
	r, err := s.conn.request(ctx, w.Bytes())
	if err != nil {
		return nil, err
	}
	var refs []reference
	for p := s.packets(r); ; {
		kind, line, err := p.line()
		if err != nil {
			return nil, eofIsUnexpected(err)
		}
		if kind != pktData {
			return refs, nil
		}
		ref, err := parseRef(line)
		if err != nil {
			return nil, err
		}
		if matches(ref.name) { // the prefixes are only a hint to the server
			refs = append(refs, ref)
		}
		if len(refs) > maxRefs {
			return nil, fmt.Errorf("%w: the server has more than %d refs", source.ErrLimit, maxRefs)
		}
	}
}

// parseRef reads one line of an ls-refs answer.
func parseRef(line string) (reference, error) {
	fields := strings.Split(line, " ")
	if len(fields) < 2 {
		return reference{}, fmt.Errorf("%w: %q is not a ref", errProtocol, printable([]byte(line)))
	}
	ref := reference{name: fields[1]}
	var ok bool
	if ref.id, ok = parseOID(fields[0]); !ok && fields[0] != "unborn" {
		return reference{}, fmt.Errorf("%w: %q is not a ref", errProtocol, printable([]byte(line)))
	}
	for _, attr := range fields[2:] {
		if target, ok := strings.CutPrefix(attr, "symref-target:"); ok {
			ref.symref = target
		}
		if text, ok := strings.CutPrefix(attr, "peeled:"); ok {
			id, ok := parseOID(text)
			if !ok {
				return reference{}, fmt.Errorf("%w: %q is not a ref", errProtocol, printable([]byte(line)))
			}
			ref.peeled = &id
		}
	}
	return ref, nil
}

// command starts a request of protocol version 2.
func (s *session) command(w *pktWriter, name string) {
	w.line("command=%s", name)
	if _, ok := s.caps["agent"]; ok {
		w.line("agent=%s", agent)
	}
	if _, ok := s.caps["object-format"]; ok {
		w.line("object-format=sha1")
	}
	w.delim()
}

// agent is how the client introduces itself to servers.
const agent = "gitopskit"

// want describes one fetch.
type want struct {
	ids    []oid
	depth  int    // 0 means the whole history
	filter string // a partial clone filter, for servers that have them
	tags   bool   // tag objects too
}

// fetch asks for objects and returns the stream of the pack, or a remoteError.
func (s *session) fetch(ctx context.Context, want want) (io.Reader, error) {
	if s.version == 2 {
		return s.fetchV2(ctx, want)
	}
	return s.fetchV0(ctx, want)
}

func (s *session) fetchV2(ctx context.Context, want want) (io.Reader, error) {
	var w pktWriter
	s.command(&w, "fetch")
	w.line("ofs-delta")
	w.line("no-progress")
	if want.tags {
		w.line("include-tag")
	}
	for _, id := range want.ids {
		w.line("want %s", id)
	}
	if want.depth > 0 && s.has("shallow") {
		w.line("deepen %d", want.depth)
	}
	if want.filter != "" && s.has("filter") {
		w.line("filter %s", want.filter)
	}
	w.line("done")
	w.flush()
	r, err := s.conn.request(ctx, w.Bytes())
	if err != nil {
		return nil, err
	}
	p := s.packets(r)
	for {
		kind, line, err := p.line()
		switch {
		case err != nil:
			return nil, eofIsUnexpected(err)
		case kind == pktData && line == "packfile":
			return &sideband{p: p}, nil
		case kind == pktFlush:
			return nil, fmt.Errorf("%w: the answer has no pack", errProtocol)
		}
	}
}

func (s *session) fetchV0(ctx context.Context, want want) (io.Reader, error) {
	caps := []string{"ofs-delta", "no-progress"}
	if want.tags {
		caps = append(caps, "include-tag")
	}
	band := "side-band-64k"
	if !s.has(band) {
		band = "side-band"
	}
	caps = append(caps, band, "shallow", "filter")
	caps = slices.DeleteFunc(caps, func(c string) bool {
		return !s.has(c) || c == "filter" && want.filter == "" || c == "shallow" && want.depth == 0
	})
	if s.has("agent") {
		caps = append(caps, "agent="+agent)
	}
	var w pktWriter
	for i, id := range want.ids {
		if i == 0 {
			w.line("want %s %s", id, strings.Join(caps, " "))
			continue
		}
		w.line("want %s", id)
	}
	deepen := want.depth > 0 && s.has("shallow")
	if deepen {
		w.line("deepen %d", want.depth)
	}
	if want.filter != "" && s.has("filter") {
		w.line("filter %s", want.filter)
	}
	w.flush()
	w.line("done")
	r, err := s.conn.request(ctx, w.Bytes())
	if err != nil {
		return nil, err
	}
	p := s.packets(r)
	return s.packV0(p, deepen)
}

// packV0 reads what comes before the pack: the shallow commits and the
// acknowledgement.
func (s *session) packV0(p *pktReader, deepen bool) (io.Reader, error) {
	for {
		kind, line, err := p.line()
		switch {
		case err != nil:
			return nil, eofIsUnexpected(err)
		case kind == pktFlush && deepen:
			deepen = false
		case kind == pktData && (strings.HasPrefix(line, "shallow ") || strings.HasPrefix(line, "unshallow ")):
		case kind == pktData && (line == "NAK" || strings.HasPrefix(line, "ACK ")):
			if s.has("side-band-64k") || s.has("side-band") {
				return &sideband{p: p}, nil
			}
			return p.r, nil
		default:
			return nil, fmt.Errorf("%w: %q before the pack", errProtocol, printable([]byte(line)))
		}
	}
}

// sideband is the pack inside the packets of an answer.
type sideband struct {
	p     *pktReader
	words io.Writer // what the server says to people; nil drops it
	left  []byte
	done  bool
}

func (s *sideband) Read(b []byte) (int, error) {
	for len(s.left) == 0 {
		if s.done {
			return 0, io.EOF
		}
		kind, data, err := s.p.next()
		if err != nil {
			return 0, eofIsUnexpected(err)
		}
		if kind != pktData {
			s.done = true
			continue
		}
		if len(data) == 0 {
			continue
		}
		switch data[0] {
		case 1:
			s.left = data[1:]
		case 2:
			if s.words != nil {
				_, _ = s.words.Write(data[1:])
			}
		case 3:
			return 0, &remoteError{printable(data[1:])}
		default:
			return 0, fmt.Errorf("%w: side band %d", errProtocol, data[0])
		}
	}
	n := copy(b, s.left)
	s.left = s.left[n:]
	return n, nil
}

// clone copies what a later session may start from without asking.
func (s *session) cached(c conn, download int64) *session {
	return &session{conn: c, version: s.version, caps: maps.Clone(s.caps), left: download}
}
