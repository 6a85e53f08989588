package writeback

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"slices"
	"strings"
	"unicode/utf8"

	"github.com/gitopskit/gitopskit/image/update"
)

// Repository is where the files are and the commits go.
type Repository interface {
	// Fetch returns the tree of a branch as it is now; of the empty branch that
	// of whatever the repository is configured to read. A branch that does not
	// exist is an error that is fs.ErrNotExist.
	Fetch(ctx context.Context, branch string) (*Snapshot, error)
	// Push makes one commit on top of base, which Fetch returned, and moves
	// branches to it. Branches that have other commits by then are left as they
	// are, and the error is ErrMoved.
	Push(ctx context.Context, base *Snapshot, c *Commit) (revision string, err error)
}

// Snapshot is the tree of a branch at one revision.
type Snapshot struct {
	// Revision names the commit, in whatever form the repository has.
	Revision string
	// Tree are the files.
	Tree fs.FS
	// Close, unless it is nil, is called once when the tree is no longer needed.
	Close func() error
}

// Commit is what a Repository pushes.
type Commit struct {
	// Author changed the files, and is the committer.
	Author Person
	// Message says why.
	Message string
	// Files are the new contents, by path.
	Files map[string][]byte
	// Signer signs the commit, unless it is nil.
	Signer Signer
	// Branch is where the commit goes, made if it does not exist. Empty means
	// the branch of the base.
	Branch string
	// Refs are full refs that get the commit too, together with the branch or
	// not at all.
	Refs []string
	// Options are for the server's hooks, as "key=value".
	Options []string
}

// Person is an author.
type Person struct {
	// Name may be empty.
	Name string
	// Email is required.
	Email string
}

// Signer signs commits. The signers of source/verify do.
type Signer interface {
	// Sign returns the armored signature of a commit object.
	Sign(ctx context.Context, object []byte) ([]byte, error)
}

// SignerFunc is a function as a Signer.
type SignerFunc func(ctx context.Context, object []byte) ([]byte, error)

// Sign calls f.
func (f SignerFunc) Sign(ctx context.Context, object []byte) ([]byte, error) { return f(ctx, object) }

// EditFunc plans what to change in a tree. It is called again for every try.
type EditFunc func(ctx context.Context, tree fs.FS) (*update.Plan, error)

// Options configure a Writer. The zero value commits to the branch that the
// repository reads, without signature, with Flux's message.
type Options struct {
	// Branch is what to start from. Empty means what the repository reads.
	Branch string
	// PushBranch is where commits go. Empty means Branch.
	PushBranch string
	// Refspec is a ref that gets every commit too, as "HEAD:refs/for/main".
	// What is before the colon is HEAD or the branch that commits go to.
	Refspec string
	// PushOptions are for the server's hooks, such as
	// "merge_request.create" with the value "true".
	PushOptions map[string]string
	// Message makes the commit message.
	Message Message
	// Signer signs commits. Nil means that nobody does.
	Signer Signer
	// Attempts is how often to try when others push at the same time: 5.
	Attempts int
}

// Writer commits and pushes to one repository. Make one with New.
type Writer struct {
	repo    Repository
	author  Person
	opts    Options
	refs    []string
	message *message
}

// New returns a writer to a repository. It returns everything that is wrong with
// the options at once, as an *Error of class ErrInvalid. Nil opts are the
// defaults.
func New(repo Repository, author Person, opts *Options) (*Writer, error) {
	w := &Writer{repo: repo, author: author}
	if opts != nil {
		w.opts = *opts
	}
	w.opts.PushOptions = maps.Clone(w.opts.PushOptions)
	var errs []error
	add := func(err error) {
		if err != nil {
			errs = append(errs, err)
		}
	}
	if repo == nil {
		add(errors.New("the Repository is nil"))
	}
	add(author.check())
	if w.opts.Attempts < 0 {
		add(fmt.Errorf("Options.Attempts is %d", w.opts.Attempts))
	}
	if w.opts.Attempts == 0 {
		w.opts.Attempts = 5
	}
	var err error
	w.refs, err = w.opts.refs()
	add(err)
	for key, value := range w.opts.PushOptions {
		if key == "" || strings.ContainsAny(key+value, "\n\x00") {
			add(errors.New("a key of Options.PushOptions is empty, or has or stands for a line end or NUL"))
		}
	}
	w.message, err = w.opts.Message.compile()
	add(err)
	if len(errs) > 0 {
		return nil, &Error{Op: "new", Err: fmt.Errorf("%w: %w", ErrInvalid, errors.Join(errs...))}
	}
	return w, nil
}

func (p Person) check() error {
	for _, s := range []string{p.Name, p.Email} {
		if strings.ContainsAny(s, "<>\n\x00") || !utf8.ValidString(s) {
			return errors.New("the author has angle brackets, line ends or NUL")
		}
	}
	if strings.TrimSpace(p.Email) == "" {
		return errors.New("the author has no address")
	}
	return nil
}

// target is the branch that commits go to; empty if only the repository knows.
func (o *Options) target() string {
	if o.PushBranch != "" {
		return o.PushBranch
	}
	return o.Branch
}

// refs reads Refspec.
func (o *Options) refs() ([]string, error) {
	if o.Refspec == "" {
		return nil, nil
	}
	from, to, ok := strings.Cut(o.Refspec, ":")
	switch {
	case !ok || !strings.HasPrefix(to, "refs/") || strings.ContainsAny(to, "*: \n") || strings.Count(to, "/") < 2:
		return nil, fmt.Errorf("Options.Refspec %q: want HEAD:refs/..., without * or +", o.Refspec)
	case from != "HEAD" && (o.target() == "" || strings.TrimPrefix(from, "refs/heads/") != o.target()):
		return nil, fmt.Errorf("Options.Refspec %q: only what is committed can be pushed: want HEAD or the branch before the colon", o.Refspec)
	case o.target() != "" && to == "refs/heads/"+o.target():
		return nil, nil // it goes there anyway
	}
	return []string{to}, nil
}

// Result is what Write did.
type Result struct {
	// Revision is the new commit, or empty when nothing had to change.
	Revision string
	// Branch is where the commit went; empty for the branch that the
	// repository reads.
	Branch string
	// Refs got the commit too.
	Refs []string
	// Base is the revision that the plan was made for.
	Base string
	// Message is that of the commit.
	Message string
	// Attempts is how often it was tried: more than once if others pushed.
	Attempts int
	// Plan is what was changed, and what was skipped.
	Plan *update.Plan
}

// Changed says whether there is a commit.
func (r *Result) Changed() bool { return r.Revision != "" }

// Write makes one commit of what edit plans for the branch as it is now, and
// pushes it. When nothing has to change, nothing is pushed, which is no error.
func (w *Writer) Write(ctx context.Context, edit EditFunc) (*Result, error) {
	for attempt := 1; ; attempt++ {
		result, op, err := w.once(ctx, edit)
		switch {
		case err == nil:
			result.Attempts = attempt
			return result, nil
		case ctx.Err() != nil:
			err = fmt.Errorf("%w: %w", context.Cause(ctx), err)
		case errors.Is(err, ErrMoved) && attempt < w.opts.Attempts:
			continue
		case errors.Is(err, ErrMoved) && attempt > 1:
			err = fmt.Errorf("others were faster %d times: %w", attempt, err)
		}
		return nil, &Error{Op: op, Branch: w.opts.target(), Err: err}
	}
}

// once is one try. With an error it says what failed.
func (w *Writer) once(ctx context.Context, edit EditFunc) (_ *Result, op string, _ error) {
	base, err := w.fetch(ctx)
	if err != nil {
		return nil, "fetch", err
	}
	plan, err := edit(ctx, base.Tree)
	if base.Close != nil {
		err = errors.Join(err, base.Close())
	}
	if err != nil {
		return nil, "update", err
	}
	result := &Result{Branch: w.opts.target(), Base: base.Revision, Plan: plan}
	if plan == nil || len(plan.Changes) == 0 {
		return result, "", nil
	}
	result.Refs = slices.Clone(w.refs)
	if result.Message, err = w.message.render(ctx, plan); err != nil {
		return nil, "message", err
	}
	result.Revision, err = w.repo.Push(ctx, base, &Commit{
		Author: w.author, Message: result.Message, Files: plan.Files(), Signer: w.opts.Signer,
		Branch: w.opts.target(), Refs: slices.Clone(w.refs), Options: w.pushOptions(),
	})
	if err != nil {
		return nil, "push", err
	}
	return result, "", nil
}

// fetch reads the branch to push to if it exists, the one to start from if not.
func (w *Writer) fetch(ctx context.Context) (*Snapshot, error) {
	if w.opts.PushBranch != "" && w.opts.PushBranch != w.opts.Branch {
		base, err := w.repo.Fetch(ctx, w.opts.PushBranch)
		if !errors.Is(err, fs.ErrNotExist) {
			return base, err
		}
	}
	return w.repo.Fetch(ctx, w.opts.Branch)
}

func (w *Writer) pushOptions() []string {
	var options []string
	for _, key := range slices.Sorted(maps.Keys(w.opts.PushOptions)) {
		options = append(options, key+"="+w.opts.PushOptions[key])
	}
	return options
}

// The classes of failure.
var (
	// ErrInvalid: the options can never work. Terminal.
	ErrInvalid = errors.New("writeback: invalid")
	// ErrMoved: the branch is no longer where it was fetched. A Repository
	// reports it, and Write tries again.
	ErrMoved = errors.New("writeback: the branch has moved")
	// ErrTemplate: the message cannot be made.
	ErrTemplate = errors.New("writeback: message template")
	// ErrRemovedField: the message uses a field that Flux has removed. Terminal.
	ErrRemovedField = errors.New("writeback: removed template field")
)

// Error says what was done, to which branch, and why it failed.
type Error struct {
	// Op is what was done: "new", "fetch", "update", "message", "push".
	Op string
	// Branch is where the commit was to go; empty for the branch that the
	// repository reads.
	Branch string
	// Err is the cause.
	Err error
}

func (e *Error) Error() string {
	if e.Branch == "" {
		return "writeback: " + e.Op + ": " + e.Err.Error()
	}
	return "writeback: " + e.Op + " branch " + e.Branch + ": " + e.Err.Error()
}

// Unwrap returns the cause.
func (e *Error) Unwrap() error { return e.Err }

// Terminal says that only a changed input can help, by the class or by what the
// repository or the plan says of itself.
func (e *Error) Terminal() bool {
	if errors.Is(e.Err, ErrInvalid) || errors.Is(e.Err, ErrRemovedField) {
		return true
	}
	var cause interface{ Terminal() bool }
	return errors.As(e.Err, &cause) && cause.Terminal()
}
