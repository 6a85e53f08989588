package receiver_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	"go.uber.org/goleak"

	"github.com/gitopskit/gitopskit/notify/receiver"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func answer(h http.Handler, r *http.Request) int {
	w := httptest.NewRecorder()
	h.ServeHTTP(w, r)
	return w.Code
}

// outcome is what Report is told.
type outcome struct {
	hook receiver.Hook
	err  error
}

func newReceiver(t testing.TB, typ receiver.Type, o receiver.Options, handle receiver.Func) (*receiver.Receiver, *outcome) {
	t.Helper()
	last := &outcome{}
	o.Report = func(h receiver.Hook, err error) { *last = outcome{h, err} }
	if handle == nil {
		handle = func(context.Context, receiver.Hook) error { return nil }
	}
	r, err := receiver.New(typ, []byte(token), handle, &o)
	if err != nil {
		t.Fatal(err)
	}
	return r, last
}

func TestSamples(t *testing.T) {
	for _, s := range samples() {
		var got []receiver.Hook
		r, last := newReceiver(t, s.typ, receiver.Options{}, func(_ context.Context, h receiver.Hook) error {
			got = append(got, h)
			return nil
		})
		if code := answer(r, s.request()); code != 200 || last.err != nil || len(got) != 1 {
			t.Errorf("%s: got %d, %v, %d hooks", s.name, code, last.err, len(got))
			continue
		}
		body := string(got[0].Body)
		got[0].Body = nil
		s.want.Type = s.typ
		if diff := cmp.Diff(s.want, got[0]); diff != "" {
			t.Errorf("%s (-want +got):\n%s", s.name, diff)
		}
		if body != s.body && !strings.HasPrefix(s.body, "payload=") || strings.HasPrefix(body, "payload=") {
			t.Errorf("%s: got body %s", s.name, body)
		}
	}
}

// Whatever is changed in what proves the caller, the call is refused, and what it says does not reach the function.
func TestUnverifiedCallsAreRefused(t *testing.T) {
	for _, s := range samples() {
		if s.typ == receiver.Generic || s.typ == receiver.DockerHub {
			continue
		}
		name := map[receiver.Type]string{
			receiver.GenericHMAC: "X-Signature", receiver.GitLab: "X-Gitlab-Token", receiver.Harbor: "Authorization", receiver.Bitbucket: "X-Hub-Signature",
		}[s.typ]
		if s.typ == receiver.GitHub {
			if name = "X-Hub-Signature-256"; s.header[name] == "" {
				name = "X-Hub-Signature"
			}
		}
		r, last := newReceiver(t, s.typ, receiver.Options{}, func(context.Context, receiver.Hook) error {
			t.Errorf("%s: handled", s.name)
			return nil
		})
		good := s.request().Header.Get(name)
		for what, change := range map[string]func(*http.Request){
			"missing":       func(r *http.Request) { r.Header.Del(name) },
			"empty":         func(r *http.Request) { r.Header.Set(name, "") },
			"one bit":       func(r *http.Request) { r.Header.Set(name, good[:len(good)-1]+string(good[len(good)-1]^1)) },
			"cut":           func(r *http.Request) { r.Header.Set(name, good[:len(good)-1]) },
			"longer":        func(r *http.Request) { r.Header.Set(name, good+"00") },
			"twice":         func(r *http.Request) { r.Header.Add(name, good) },
			"algorithm md5": func(r *http.Request) { r.Header.Set(name, sign("md5", s.body)) },
			"no algorithm":  func(r *http.Request) { r.Header.Set(name, strings.TrimPrefix(sign("sha256", s.body), "sha256=")) },
			"no digits":     func(r *http.Request) { r.Header.Set(name, "sha256=") },
			"Bearer":        func(r *http.Request) { r.Header.Set(name, "Bearer "+good) },
			"another body": func(r *http.Request) {
				if strings.HasPrefix(good, "sha") {
					r.Body = io.NopCloser(strings.NewReader(s.body + " "))
				} else {
					r.Header.Del(name)
				}
			},
		} {
			req := s.request()
			if change(req); answer(r, req) != 400 {
				t.Errorf("%s: %s: not refused", s.name, what)
			}
			if !errors.Is(last.err, receiver.ErrUnverified) || strings.Contains(last.err.Error(), "canary") || strings.Contains(last.err.Error(), good) {
				t.Errorf("%s: %s: got %v", s.name, what, last.err)
			}
			if diff := cmp.Diff(receiver.Hook{Type: s.typ}, last.hook); diff != "" {
				t.Errorf("%s: %s: the hook has something unverified:\n%s", s.name, what, diff)
			}
		}
	}
}

func TestInvalidPayloads(t *testing.T) {
	gitHub := map[string]string{"X-GitHub-Event": "push", "X-Hub-Signature-256": "SIGN:sha256", "Content-Type": "application/json"}
	without := func(m map[string]string, name, value string) map[string]string {
		m = maps.Clone(m)
		if m[name] = value; value == "" {
			delete(m, name)
		}
		return m
	}
	gitLab := map[string]string{"X-Gitlab-Event": "Push Hook", "X-Gitlab-Token": token}
	bitbucket := map[string]string{"X-Event-Key": "repo:push", "X-Hub-Signature": "SIGN:sha256"}
	for _, s := range []sample{
		{name: "github, no event", typ: receiver.GitHub, header: without(gitHub, "X-GitHub-Event", ""), body: `{}`},
		{name: "github, no content type", typ: receiver.GitHub, header: without(gitHub, "Content-Type", ""), body: `{}`},
		{name: "github, text", typ: receiver.GitHub, header: without(gitHub, "Content-Type", "text/plain"), body: `{}`},
		{name: "github, no JSON", typ: receiver.GitHub, header: gitHub, body: `canary`},
		{name: "github, array", typ: receiver.GitHub, header: gitHub, body: `[]`},
		{name: "github, form without payload", typ: receiver.GitHub, header: without(gitHub, "Content-Type", "application/x-www-form-urlencoded"), body: `a=b`},
		{name: "github, no form", typ: receiver.GitHub, header: without(gitHub, "Content-Type", "application/x-www-form-urlencoded"), body: `payload=%zz`},
		{name: "gitlab, no event", typ: receiver.GitLab, header: without(gitLab, "X-Gitlab-Event", ""), body: `{}`},
		{name: "gitlab, no JSON", typ: receiver.GitLab, header: gitLab, body: `{`},
		{name: "bitbucket, no event", typ: receiver.Bitbucket, header: without(bitbucket, "X-Event-Key", ""), body: `{}`},
		{name: "bitbucket, no JSON", typ: receiver.Bitbucket, header: bitbucket, body: ``},
		{name: "harbor, no JSON", typ: receiver.Harbor, header: map[string]string{"Authorization": token}, body: `canary`},
		{name: "dockerhub, no JSON", typ: receiver.DockerHub, body: `canary`},
		{name: "dockerhub, no tag", typ: receiver.DockerHub, body: `{"repository":{"repo_url":"x"}}`},
		{name: "dockerhub, no repository", typ: receiver.DockerHub, body: `{"push_data":{"tag":"1"}}`},
	} {
		r, last := newReceiver(t, s.typ, receiver.Options{}, func(context.Context, receiver.Hook) error {
			t.Errorf("%s: handled", s.name)
			return nil
		})
		if code := answer(r, s.request()); code != 400 || !errors.Is(last.err, receiver.ErrPayload) || strings.Contains(last.err.Error(), "canary") {
			t.Errorf("%s: got %d, %v", s.name, code, last.err)
		}
	}
}

func TestEvents(t *testing.T) {
	for _, s := range samples() {
		if s.want.Event == "" {
			continue
		}
		for _, tc := range []struct {
			events []string
			want   int
		}{
			{[]string{s.want.Event}, 200}, {[]string{"other", strings.ToUpper(s.want.Event)}, 200}, {[]string{strings.ToLower(s.want.Event)}, 200}, {[]string{"other"}, 400},
		} {
			r, last := newReceiver(t, s.typ, receiver.Options{Events: tc.events}, nil)
			if code := answer(r, s.request()); code != tc.want || (code != 200) != errors.Is(last.err, receiver.ErrEvent) {
				t.Errorf("%s: %v: got %d, %v", s.name, tc.events, code, last.err)
			}
			if last.hook.Event != s.want.Event {
				t.Errorf("%s: the hook reported has the event %q", s.name, last.hook.Event)
			}
		}
	}
}

func TestNewReportsEveryProblem(t *testing.T) {
	handle := func(context.Context, receiver.Hook) error { return nil }
	for _, tc := range []struct {
		typ    receiver.Type
		token  string
		handle receiver.Func
		o      *receiver.Options
		want   []string
	}{
		{"quay", token, handle, nil, []string{`receiver: new "quay": unknown type`, "harbor"}},
		{receiver.GitHub, "", handle, nil, []string{"it is empty"}},
		{receiver.Generic, "", handle, nil, []string{"it is empty"}},
		{receiver.DockerHub, "", handle, nil, []string{"it is empty"}},
		{receiver.GitLab, "", handle, &receiver.Options{AllowWeakToken: true}, []string{"it is empty"}},
		{receiver.GitLab, "weak-canary", handle, nil, []string{"11 bytes, want 16"}},
		{"", "", nil, &receiver.Options{Limit: -1}, []string{"unknown type", "empty", "is nil", "negative"}},
		{receiver.Generic, token, handle, &receiver.Options{Events: []string{"push"}}, []string{"remove Events"}},
	} {
		_, err := receiver.New(tc.typ, []byte(tc.token), tc.handle, tc.o)
		if err == nil {
			t.Errorf("%s %s: no error", tc.typ, tc.token)
			continue
		}
		for _, want := range tc.want {
			if !strings.Contains(err.Error(), want) {
				t.Errorf("%s: the error does not mention %q: %v", tc.typ, want, err)
			}
		}
		if e, ok := errors.AsType[*receiver.Error](err); !ok || e.Op != "new" || strings.Contains(err.Error(), "canary") {
			t.Errorf("%s: got %T %v", tc.typ, err, err)
		}
	}
	if _, err := receiver.New(receiver.GitHub, []byte("short"), handle, &receiver.Options{AllowWeakToken: true}); err != nil {
		t.Error(err)
	}
}

func TestMethods(t *testing.T) {
	r, last := newReceiver(t, receiver.Generic, receiver.Options{}, nil)
	for _, method := range []string{"GET", "HEAD", "PUT", "DELETE", "OPTIONS", "post"} {
		w := httptest.NewRecorder()
		r.ServeHTTP(w, httptest.NewRequest(method, "/", nil))
		if w.Code != 405 || w.Header().Get("Allow") != "POST" || !errors.Is(last.err, receiver.ErrMethod) {
			t.Errorf("%s: got %d, %v", method, w.Code, last.err)
		}
	}
}

// endless is a body that counts what is read of it.
type endless struct{ read int }

func (b *endless) Read(p []byte) (int, error) {
	b.read += len(p)
	return len(p), nil
}

func TestBodiesAreBounded(t *testing.T) {
	r, last := newReceiver(t, receiver.Generic, receiver.Options{}, nil)
	body := &endless{}
	if code := answer(r, httptest.NewRequest("POST", "/", body)); code != 413 || body.read > 8<<20 || !errors.Is(last.err, receiver.ErrTooLarge) {
		t.Errorf("got %d after %d bytes, %v", code, body.read, last.err)
	}
	body = &endless{}
	req := httptest.NewRequest("POST", "/", body)
	req.ContentLength = 10 << 30
	if code := answer(r, req); code != 413 || body.read != 0 || !errors.Is(last.err, receiver.ErrTooLarge) {
		t.Errorf("announced: got %d after %d bytes, %v", code, body.read, last.err)
	}
	r, _ = newReceiver(t, receiver.Generic, receiver.Options{Limit: 4}, nil)
	for text, want := range map[string]int{"1234": 200, "12345": 413} {
		if code := answer(r, httptest.NewRequest("POST", "/", struct{ io.Reader }{strings.NewReader(text)})); code != want {
			t.Errorf("%s: got %d, want %d", text, code, want)
		}
	}
}

// A body that comes slowly is left; a function that takes its time is not.
func TestReadTimeout(t *testing.T) {
	const timeout = 20 * time.Millisecond
	var ended error
	r, last := newReceiver(t, receiver.Generic, receiver.Options{ReadTimeout: timeout}, func(ctx context.Context, _ receiver.Hook) error {
		select {
		case <-ctx.Done():
			ended = ctx.Err()
		case <-time.After(4 * timeout):
		}
		return nil
	})
	server := httptest.NewServer(r)
	post := func(body io.Reader) int {
		req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, server.URL, body)
		if err != nil {
			t.Fatal(err)
		}
		resp, err := server.Client().Do(req)
		if err != nil {
			return 400 // the connection was closed
		}
		defer func() { _ = resp.Body.Close() }()
		return resp.StatusCode
	}
	if code := post(strings.NewReader("x")); code != 200 || ended != nil {
		t.Errorf("slow function: got %d, %v", code, ended)
	}
	body, never := io.Pipe()
	if code := post(body); code != 400 {
		t.Errorf("slow body: got %d", code)
	}
	_ = never.Close()
	server.Close()
	if !errors.Is(last.err, receiver.ErrPayload) {
		t.Errorf("got %v", last.err)
	}
}

func TestHandlingFails(t *testing.T) {
	cause := fmt.Errorf("canary: %w", receiver.ErrReplay) // which class it is does not matter
	s := samples()[5]
	calls := 0
	r, last := newReceiver(t, s.typ, receiver.Options{}, func(context.Context, receiver.Hook) error {
		if calls++; calls == 1 {
			return cause
		}
		return nil
	})
	w := httptest.NewRecorder()
	r.ServeHTTP(w, s.request())
	if w.Code != 500 || !errors.Is(last.err, cause) || strings.Contains(w.Body.String(), "canary") {
		t.Errorf("got %d %q, %v", w.Code, w.Body, last.err)
	}
	if code := answer(r, s.request()); code != 200 || calls != 2 {
		t.Errorf("the second time: got %d after %d calls", code, calls)
	}
}

func TestReplay(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		for _, s := range samples() {
			calls := 0
			count := func(context.Context, receiver.Hook) error { calls++; return nil }
			r, last := newReceiver(t, s.typ, receiver.Options{}, count)
			again := func(change func(*http.Request)) {
				req := s.request()
				if change != nil {
					change(req)
				}
				if code := answer(r, req); code != 200 {
					t.Errorf("%s: got %d", s.name, code)
				}
			}
			again(nil)
			again(func(r *http.Request) { // what is not signed does not make another call
				if s.typ != receiver.GitLab {
					r.Header.Set("X-GitHub-Delivery", "other")
					r.Header.Set("X-Request-Id", "other")
				}
			})
			want := 2
			if s.typ == receiver.GitHub || s.typ == receiver.Bitbucket || s.typ == receiver.GitLab {
				if want = 1; !errors.Is(last.err, receiver.ErrReplay) {
					t.Errorf("%s: got %v", s.name, last.err)
				}
			}
			if calls != want {
				t.Errorf("%s: handled %d times, want %d", s.name, calls, want)
			}
			time.Sleep(10 * time.Minute)
			if again(nil); calls != want+1 {
				t.Errorf("%s: not handled after the window", s.name)
			}
			calls = 0
			r, _ = newReceiver(t, s.typ, receiver.Options{Replay: -1}, count)
			again(nil)
			if again(nil); calls != 2 {
				t.Errorf("%s: handled %d times without a window, want 2", s.name, calls)
			}
		}
	})
}

// Calls of GitLab without an identifier are not the same for that.
func TestCallsWithoutIdentifierDiffer(t *testing.T) {
	calls := 0
	r, _ := newReceiver(t, receiver.GitLab, receiver.Options{}, func(context.Context, receiver.Hook) error { calls++; return nil })
	s := sample{header: map[string]string{"X-Gitlab-Event": "Push Hook", "X-Gitlab-Token": token}, body: `{}`}
	if answer(r, s.request()); answer(r, s.request()) != 200 || calls != 2 {
		t.Errorf("handled %d times, want 2", calls)
	}
}

// The memory of a receiver is bounded: the oldest call is forgotten.
func TestReplayMemoryIsBounded(t *testing.T) {
	calls := 0
	r, _ := newReceiver(t, receiver.GitLab, receiver.Options{}, func(context.Context, receiver.Hook) error { calls++; return nil })
	send := func(id int) {
		s := sample{header: map[string]string{"X-Gitlab-Event": "Push Hook", "X-Gitlab-Token": token, "Idempotency-Key": fmt.Sprint(id)}, body: `{}`}
		if code := answer(r, s.request()); code != 200 {
			t.Fatalf("got %d", code)
		}
	}
	for id := range 1001 {
		send(id)
	}
	send(1000)
	if calls != 1001 {
		t.Errorf("handled %d times, want 1001", calls)
	}
	if send(0); calls != 1002 {
		t.Errorf("handled %d times, want 1002", calls)
	}
}
