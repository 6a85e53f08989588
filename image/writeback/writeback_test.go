package writeback_test

import (
	"context"
	"errors"
	"io/fs"
	"strings"
	"testing"
	"testing/fstest"

	"github.com/google/go-cmp/cmp"

	"github.com/gitopskit/gitopskit/image/update"
	"github.com/gitopskit/gitopskit/image/writeback"
)

// fake is a repository of one branch in memory.
type fake struct {
	tree    fstest.MapFS
	closed  int
	close   error
	fetch   error
	push    error
	pushed  *writeback.Commit
	onPush  func()
	fetched []string
}

func (f *fake) Fetch(_ context.Context, branch string) (*writeback.Snapshot, error) {
	f.fetched = append(f.fetched, branch)
	if f.fetch != nil {
		return nil, f.fetch
	}
	return &writeback.Snapshot{Revision: "1", Tree: f.tree, Close: func() error { f.closed++; return f.close }}, nil
}

func (f *fake) Push(_ context.Context, _ *writeback.Snapshot, c *writeback.Commit) (string, error) {
	f.pushed = c
	if f.onPush != nil {
		f.onPush()
	}
	if f.push != nil {
		return "", f.push
	}
	return "2", nil
}

func marked() *fake {
	return &fake{tree: fstest.MapFS{"a.yaml": {Data: []byte("image: org/a:1 # {\"$imagepolicy\": \"apps:a\"}\n")}}}
}

func TestCommit(t *testing.T) {
	f := marked()
	options := map[string]string{"b": "2", "a": "1"}
	w := newWriter(t, f, &writeback.Options{
		Branch: "main", PushBranch: "auto", Refspec: "HEAD:refs/for/main", PushOptions: options, Message: writeback.Message{Template: "x"},
	})
	delete(options, "a") // the caller's own by now
	got := write(t, w, set("a", "2"))
	want := &writeback.Commit{
		Author: robot, Message: "x", Files: map[string][]byte{"a.yaml": []byte("image: org/a:2 # {\"$imagepolicy\": \"apps:a\"}\n")},
		Branch: "auto", Refs: []string{"refs/for/main"}, Options: []string{"a=1", "b=2"},
	}
	if diff := cmp.Diff(want, f.pushed); diff != "" || got.Revision != "2" {
		t.Error(diff, got)
	}
	if diff := cmp.Diff([]string{"auto"}, f.fetched); diff != "" || f.closed != 1 {
		t.Error(diff, f.closed)
	}
}

func TestRefspec(t *testing.T) {
	for _, test := range []struct {
		branch, push, refspec string
		refs                  []string
	}{
		{"main", "", "HEAD:refs/heads/main", nil}, // it goes there anyway
		{"main", "", "main:refs/heads/other", []string{"refs/heads/other"}},
		{"main", "auto", "refs/heads/auto:refs/heads/other", []string{"refs/heads/other"}},
		{"", "", "HEAD:refs/for/main", []string{"refs/for/main"}},
	} {
		f := marked()
		write(t, newWriter(t, f, &writeback.Options{Branch: test.branch, PushBranch: test.push, Refspec: test.refspec}), set("a", "2"))
		if diff := cmp.Diff(test.refs, f.pushed.Refs); diff != "" {
			t.Errorf("%+v: %s", test, diff)
		}
	}
}

func TestNewRefuses(t *testing.T) {
	for _, test := range []struct {
		name   string
		author writeback.Person
		opts   writeback.Options
		texts  []string
	}{
		{"no address", writeback.Person{Name: "Robot"}, writeback.Options{}, []string{"no address"}},
		{"angle brackets", writeback.Person{Email: "a>\n"}, writeback.Options{}, []string{"angle brackets"}},
		{"attempts", robot, writeback.Options{Attempts: -1}, []string{"Attempts is -1"}},
		{"force", robot, writeback.Options{Refspec: "+HEAD:refs/heads/x"}, []string{"want HEAD"}},
		{"deletion", robot, writeback.Options{Refspec: ":refs/heads/x"}, []string{"want HEAD"}},
		{"another branch", robot, writeback.Options{Branch: "main", PushBranch: "auto", Refspec: "main:refs/heads/x"}, []string{"only what is committed"}},
		{"star", robot, writeback.Options{Refspec: "HEAD:refs/heads/*"}, []string{"want HEAD"}},
		{"no target", robot, writeback.Options{Refspec: "HEAD"}, []string{"want HEAD"}},
		{"short target", robot, writeback.Options{Refspec: "HEAD:refs/x"}, []string{"want HEAD"}},
		{"push option", robot, writeback.Options{PushOptions: map[string]string{"a": "b\nc"}}, []string{"line end"}},
		{"template", robot, writeback.Options{Message: writeback.Message{Template: "{{"}}, []string{"Message.Template"}},
		{"long template", robot, writeback.Options{Message: writeback.Message{Template: strings.Repeat("x", 65<<10)}}, []string{"at most"}},
		{"all at once", writeback.Person{}, writeback.Options{Attempts: -1, Refspec: "x", Message: writeback.Message{Template: "{{ env }}"}}, []string{"address", "Attempts", "Refspec", `"env"`}},
	} {
		_, err := writeback.New(marked(), test.author, &test.opts)
		fails(t, err, writeback.ErrInvalid, test.texts...)
		var terminal interface{ Terminal() bool }
		if !errors.As(err, &terminal) || !terminal.Terminal() {
			t.Errorf("%s is not terminal", test.name)
		}
	}
	_, err := writeback.New(nil, robot, nil)
	fails(t, err, writeback.ErrInvalid, "Repository is nil")
}

func TestFailures(t *testing.T) {
	broken := errors.New("broken")
	badPlan := func(context.Context, fs.FS) (*update.Plan, error) { return nil, broken }
	for _, test := range []struct {
		name   string
		repo   *fake
		edit   writeback.EditFunc
		class  error
		text   string
		closed int
	}{
		{"fetch", &fake{fetch: broken}, set("a", "2"), broken, "writeback: fetch: broken", 0},
		{"edit", marked(), badPlan, broken, "writeback: update: broken", 1},
		{"invalid policy", marked(), set("a", "not a tag"), update.ErrInvalid, "update", 1},
		{"push", &fake{tree: marked().tree, push: broken}, set("a", "2"), broken, "writeback: push: broken", 1},
		{"close", &fake{tree: marked().tree, close: broken}, set("a", "2"), broken, "broken", 1},
	} {
		_, err := newWriter(t, test.repo, nil).Write(t.Context(), test.edit)
		fails(t, err, test.class, test.text)
		if test.repo.closed != test.closed {
			t.Errorf("%s: closed %d times", test.name, test.repo.closed)
		}
		var terminal interface{ Terminal() bool }
		if errors.As(err, &terminal) && terminal.Terminal() != (test.name == "invalid policy") {
			t.Errorf("%s: terminal", test.name)
		}
	}
	noPlan := func(context.Context, fs.FS) (*update.Plan, error) { return nil, nil } //nolint:nilnil // no plan is nothing to change
	if got := write(t, newWriter(t, marked(), nil), noPlan); got.Changed() {
		t.Errorf("%+v", got)
	}
}

// A context that ends ends the tries.
func TestContext(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	f := &fake{tree: marked().tree, push: writeback.ErrMoved}
	f.onPush = func() {
		if len(f.fetched) == 2 {
			cancel()
		}
	}
	_, err := newWriter(t, f, nil).Write(ctx, set("a", "2"))
	fails(t, err, context.Canceled)
	if len(f.fetched) != 2 {
		t.Errorf("%d tries", len(f.fetched))
	}
}
