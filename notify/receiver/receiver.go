package receiver

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strings"
	"time"
)

// Type names what calls a hook, and so how its calls are verified and read.
type Type string

// The types, named as in Flux's Receiver.
const (
	// Generic is any caller. Nothing but the path of the hook keeps others out.
	Generic Type = "generic"
	// GenericHMAC is any caller that signs: X-Signature is sha1, sha256 or sha512, "=", and the hexadecimal HMAC of
	// the body.
	GenericHMAC Type = "generic-hmac"
	// GitHub is GitHub, Gitea or Forgejo, which sign in X-Hub-Signature-256, or in X-Hub-Signature.
	GitHub Type = "github"
	// GitLab is GitLab, which sends the token in X-Gitlab-Token.
	GitLab Type = "gitlab"
	// Bitbucket is Bitbucket Server, Data Center or Cloud, which sign in X-Hub-Signature.
	Bitbucket Type = "bitbucket"
	// Harbor is Harbor, which sends the token as its Authorization header.
	Harbor Type = "harbor"
	// DockerHub is Docker Hub, which does not authenticate: nothing but the path of the hook keeps others out.
	DockerHub Type = "dockerhub"
)

// Hook is a call that was verified. What the caller does not say is empty.
type Hook struct {
	// Type is the type of the receiver.
	Type Type
	// Event is the caller's word for what happened, such as push or "Push Hook".
	Event string
	// Delivery is the caller's identifier of the call. It is not signed.
	Delivery string
	// Repository is the repository as the caller names it: owner/name of a Git repository, or the name of an image.
	Repository string
	// Ref and Commit are what a push has moved to what: refs/heads/main and a hash. Commit is empty for a deletion.
	Ref, Commit string
	// Tag and Digest are what was pushed to a registry.
	Tag, Digest string
	// Body is the body of the call; for forms, the JSON in it.
	Body []byte
}

// Func handles a hook: it makes happen what the hook is for, and returns soon. An error makes the caller see status 500.
type Func func(ctx context.Context, h Hook) error

// Options configure a [Receiver]; nil means the defaults.
type Options struct {
	// Events are the events that are handled, in any case of letters; others are refused. None means all. It is for
	// the types github, gitlab, bitbucket and harbor, whose callers name the event.
	Events []string
	// AllowWeakToken allows tokens of less than 16 bytes, which can be guessed.
	AllowWeakToken bool
	// Limit is the largest body in bytes; 0 means 3 MiB.
	Limit int64
	// ReadTimeout bounds the reading of a body; 0 means 10 seconds.
	ReadTimeout time.Duration
	// Replay is how long a call that was handled is remembered; when it comes again it is answered with 200 and not
	// handled. 0 means 10 minutes, less than 0 not at all. Calls of github and bitbucket are the same if their bodies
	// are, which are signed; calls of gitlab if their identifiers are. Calls of other types always differ.
	Replay time.Duration
	// Report is told how each call ended: with nil, or an error of package receiver, of the network, or of the
	// function that handles hooks. The hook is as far as it could be read. It must not block.
	Report func(Hook, error)
}

// Receiver is an [http.Handler] for one hook. It is made by [New] and safe for concurrent use.
//
// It answers 200 when the hook was handled, 400 when it was not verified, could not be read, or is of an event that is not
// handled, 405 for other methods than POST, 413 for too large a body, 500 when handling it has failed. No answer
// says more.
type Receiver struct {
	typ    Type
	scheme scheme
	token  []byte
	handle Func
	o      Options
	events []string
	seen   seen
}

var _ http.Handler = (*Receiver)(nil)

// scheme is how the calls of a type are verified and read.
type scheme interface {
	// verify checks that the call comes from who knows the token.
	verify(header http.Header, body, token []byte) error
	// read fills the hook, whose Type and Body are set.
	read(header http.Header, h *Hook) error
}

// scheme returns nil for types it does not know.
func (t Type) scheme() scheme {
	switch t {
	case Generic:
		return generic{}
	case GenericHMAC:
		return genericHMAC{}
	case GitHub:
		return gitHub{}
	case GitLab:
		return gitLab{}
	case Bitbucket:
		return bitbucket{}
	case Harbor:
		return harbor{}
	case DockerHub:
		return dockerHub{}
	}
	return nil
}

const minToken = 16

// New returns a receiver for calls of a type, which know the token. The types generic and dockerhub need one too: it is
// what makes the [Path] of their hooks a secret. The error is an [*Error] that lists all problems with the arguments.
func New(typ Type, token []byte, handle Func, o *Options) (*Receiver, error) {
	if o == nil {
		o = &Options{}
	}
	r := &Receiver{typ: typ, scheme: typ.scheme(), token: bytes.Clone(token), handle: handle, o: *o}
	var errs []error
	if r.scheme == nil {
		errs = append(errs, fmt.Errorf("%w: there are generic, generic-hmac, github, gitlab, bitbucket, harbor and dockerhub", ErrType))
	}
	switch {
	case len(token) == 0:
		errs = append(errs, fmt.Errorf("%w: it is empty", ErrToken))
	case len(token) < minToken && !o.AllowWeakToken:
		errs = append(errs, fmt.Errorf("%w: it has %d bytes, want %d random ones at least, or allow it by AllowWeakToken", ErrToken, len(token), minToken))
	}
	if handle == nil {
		errs = append(errs, errors.New("the function that handles hooks is nil"))
	}
	if len(o.Events) > 0 && slices.Contains([]Type{Generic, GenericHMAC, DockerHub}, typ) {
		errs = append(errs, errors.New("callers of this type do not name events: remove Events"))
	}
	if o.Limit < 0 || o.ReadTimeout < 0 {
		errs = append(errs, errors.New("Limit or ReadTimeout is negative"))
	}
	if len(errs) > 0 {
		return nil, &Error{Op: "new", Type: typ, Err: errors.Join(errs...)}
	}
	for _, event := range o.Events {
		r.events = append(r.events, strings.ToLower(event))
	}
	fill(&r.o.Limit, 3<<20)
	fill(&r.o.ReadTimeout, 10*time.Second)
	fill(&r.o.Replay, 10*time.Minute)
	return r, nil
}

func fill[T comparable](field *T, value T) {
	var zero T
	if *field == zero {
		*field = value
	}
}

// ServeHTTP verifies the call and handles it.
func (r *Receiver) ServeHTTP(w http.ResponseWriter, req *http.Request) {
	h, err := r.serve(w, req)
	if r.o.Report != nil {
		r.o.Report(h, err)
	}
	status := statusOf(err)
	if status == http.StatusOK {
		w.WriteHeader(status)
		return
	}
	if status == http.StatusMethodNotAllowed {
		w.Header().Set("Allow", http.MethodPost)
	}
	http.Error(w, http.StatusText(status), status)
}

func (r *Receiver) serve(w http.ResponseWriter, req *http.Request) (Hook, error) {
	h := Hook{Type: r.typ}
	if req.Method != http.MethodPost {
		return h, r.fail(ErrMethod)
	}
	body, err := r.body(w, req)
	if err != nil {
		return h, r.fail(err)
	}
	if h, err = r.Verify(req.Header, body); err != nil {
		return h, err
	}
	mark, repeatable := r.mark(h, body)
	if repeatable && !r.seen.claim(mark, r.o.Replay) {
		return h, r.fail(ErrReplay)
	}
	if err := r.handle(req.Context(), h); err != nil {
		r.seen.forget(mark) // so that it can be tried again
		return h, &handleError{err}
	}
	return h, nil
}

// body reads the body within its limits.
func (r *Receiver) body(w http.ResponseWriter, req *http.Request) ([]byte, error) {
	if req.ContentLength > r.o.Limit {
		return nil, fmt.Errorf("%w: %d bytes, the limit is %d", ErrTooLarge, req.ContentLength, r.o.Limit)
	}
	// A server without deadlines has none. When all is read, package net/http lifts it.
	_ = http.NewResponseController(w).SetReadDeadline(time.Now().Add(r.o.ReadTimeout))
	body, err := io.ReadAll(http.MaxBytesReader(w, req.Body, r.o.Limit))
	if _, ok := errors.AsType[*http.MaxBytesError](err); ok {
		return nil, fmt.Errorf("%w: the limit is %d bytes", ErrTooLarge, r.o.Limit)
	}
	if err != nil {
		return nil, fmt.Errorf("%w: the body was cut off: %w", ErrPayload, err)
	}
	return body, nil
}

// Verify returns the hook in a call with this header and body. The error is an [*Error]; the hook is then what could
// be read. It does not ask whether the call is a repetition.
func (r *Receiver) Verify(header http.Header, body []byte) (Hook, error) {
	h := Hook{Type: r.typ, Body: body}
	if err := r.scheme.verify(header, body, r.token); err != nil {
		return Hook{Type: r.typ}, r.fail(err)
	}
	if err := r.scheme.read(header, &h); err != nil {
		return h, r.fail(fmt.Errorf("%w: %w", ErrPayload, err))
	}
	if len(r.events) > 0 && !slices.Contains(r.events, strings.ToLower(h.Event)) {
		return h, r.fail(fmt.Errorf("%w: %q", ErrEvent, clip(h.Event)))
	}
	return h, nil
}

// mark returns what a repetition of the call has in common with it, and whether there is such a thing.
func (r *Receiver) mark(h Hook, body []byte) ([sha256.Size]byte, bool) {
	switch {
	case r.o.Replay < 0:
	case r.typ == GitHub || r.typ == Bitbucket:
		return sha256.Sum256(body), true
	case r.typ == GitLab && h.Delivery != "":
		return sha256.Sum256([]byte(h.Delivery)), true
	}
	return [sha256.Size]byte{}, false
}

func (r *Receiver) fail(err error) error { return &Error{Op: "receive", Type: r.typ, Err: err} }

// clip shortens a text of the caller for an error.
func clip(s string) string { return strings.ToValidUTF8(s[:min(len(s), 64)], "") }
