package notify_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/gitopskit/gitopskit/notify"
	"github.com/gitopskit/gitopskit/notify/notifytest"
)

// post sends a body to the handler without a network, and returns the status.
func post(h http.Handler, method, path string, body io.Reader) *httptest.ResponseRecorder {
	w := httptest.NewRecorder()
	h.ServeHTTP(w, httptest.NewRequest(method, path, body))
	return w
}

func encoded(t testing.TB, e notify.Event) io.Reader {
	t.Helper()
	data, err := json.Marshal(e)
	if err != nil {
		t.Fatal(err)
	}
	return strings.NewReader(string(data))
}

// What a webhook posts arrives in the bus behind an event server.
func TestEventServerTakesWhatWebhooksPost(t *testing.T) {
	rec := &notifytest.Recorder{}
	b := newBus(t, nil, notify.Route{Sender: rec, Parallel: 1})
	server := httptest.NewServer(&notify.EventServer{Emit: b.Emit})
	defer server.Close()
	w := newWebhook(t, server.URL)
	var want []notify.Event
	for _, e := range notifytest.Events() {
		e.InvolvedObject.Name += fmt.Sprint(len(want)) // of different objects, and in order for that
		if e.Message == "" {
			continue
		}
		if err := w.Send(t.Context(), e); err != nil {
			t.Fatal(err)
		}
		want = append(want, e)
	}
	if _, err := b.Close(t.Context()); err != nil {
		t.Fatal(err)
	}
	byName := map[string]notify.Event{}
	for _, e := range rec.Events() {
		byName[e.InvolvedObject.Name] = e
	}
	for _, e := range want {
		if diff := cmp.Diff(e, byName[e.InvolvedObject.Name]); diff != "" {
			t.Error(diff)
		}
	}
}

func TestEventServerAnswers(t *testing.T) {
	const fine = `{"involvedObject":{"kind":"App","name":"a"},"severity":"error","message":"m"}`
	var result error
	emitted := 0
	s := &notify.EventServer{Emit: func(notify.Event) error { emitted++; return result }, Limit: 1000, Window: -1}
	for _, tc := range []struct {
		name, method, body string
		err                error
		want, emits        int
	}{
		{"an event", "POST", fine, nil, 202, 1},
		{"again, as no window is set", "POST", fine, nil, 202, 1},
		{"the queue is full", "POST", fine, fmt.Errorf("x: %w", notify.ErrFull), 202, 1},
		{"too large for the queue", "POST", fine, fmt.Errorf("x: %w", notify.ErrTooLarge), 202, 1},
		{"the bus is closed", "POST", fine, fmt.Errorf("x: %w", notify.ErrClosed), 503, 1},
		{"one queue is full, another closed", "POST", fine, errors.Join(notify.ErrFull, notify.ErrClosed), 503, 1},
		{"another error", "POST", fine, errors.New("SECRET"), 503, 1},
		{"GET", "GET", "", nil, 405, 0},
		{"PUT", "PUT", fine, nil, 405, 0},
		{"nothing", "POST", "", nil, 400, 0},
		{"no JSON", "POST", "SECRET", nil, 400, 0},
		{"an array", "POST", "[" + fine + "]", nil, 400, 0},
		{"two events", "POST", fine + fine, nil, 400, 0},
		{"another severity", "POST", strings.Replace(fine, "error", "fatal", 1), nil, 400, 0},
		{"no kind", "POST", strings.Replace(fine, "App", "", 1), nil, 400, 0},
		{"no name", "POST", strings.Replace(fine, `"a"`, `""`, 1), nil, 400, 0},
		{"no message", "POST", strings.Replace(fine, `"m"`, `""`, 1), nil, 400, 0},
		{"exactly the limit", "POST", fine + strings.Repeat(" ", 1000-len(fine)), nil, 202, 1},
		{"over the limit", "POST", fine + strings.Repeat(" ", 1001-len(fine)), nil, 413, 0},
	} {
		emitted, result = 0, tc.err
		w := post(s, tc.method, "/any/path?q", strings.NewReader(tc.body))
		if w.Code != tc.want || emitted != tc.emits {
			t.Errorf("%s: got %d and %d events, want %d and %d", tc.name, w.Code, emitted, tc.want, tc.emits)
		}
		if strings.Contains(w.Body.String(), "SECRET") {
			t.Errorf("%s: the answer shows %q", tc.name, w.Body)
		}
		if w.Code == 405 && w.Header().Get("Allow") != "POST" {
			t.Errorf("%s: no Allow header", tc.name)
		}
	}
}

// endless is a body that tells no length and counts what is read of it.
type endless struct{ read int }

func (b *endless) Read(p []byte) (int, error) {
	b.read += len(p)
	for i := range p {
		p[i] = ' '
	}
	return len(p), nil
}

func TestEventServerReadsNoMoreThanItsLimit(t *testing.T) {
	s := &notify.EventServer{Emit: func(notify.Event) error { return nil }}
	body := &endless{}
	if w := post(s, "POST", "/", body); w.Code != 413 || int64(body.read) > 2*notify.DefaultLimit {
		t.Errorf("got %d after %d bytes", w.Code, body.read)
	}
	body = &endless{}
	r := httptest.NewRequest("POST", "/", body)
	r.ContentLength = 10 << 30
	w := httptest.NewRecorder()
	if s.ServeHTTP(w, r); w.Code != 413 || body.read != 0 {
		t.Errorf("announced: got %d after %d bytes", w.Code, body.read)
	}
}

// A body that comes slowly is left.
func TestEventServerReadTimeout(t *testing.T) {
	server := httptest.NewServer(&notify.EventServer{Emit: func(notify.Event) error { return nil }, ReadTimeout: 20 * time.Millisecond})
	defer server.Close()
	body, never := io.Pipe()
	defer func() { _ = never.Close() }()
	req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, server.URL, body)
	if err != nil {
		t.Fatal(err)
	}
	resp, err := server.Client().Do(req)
	if err != nil {
		return // the connection was closed
	}
	defer func() { _ = resp.Body.Close() }()
	if resp.StatusCode != http.StatusBadRequest {
		t.Errorf("got %d", resp.StatusCode)
	}
}

func TestEventServerRefusesRepetitions(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var result error
		s := &notify.EventServer{Emit: func(notify.Event) error { return result }, Keys: 3}
		send := func(change func(*notify.Event)) int {
			e := event("a", "m", notify.SeverityError)
			e.InvolvedObject.APIVersion = "apps.example.org/v1"
			if change != nil {
				change(&e)
			}
			return post(s, "POST", "/", encoded(t, e)).Code
		}
		check := func(name string, got, want int) {
			t.Helper()
			if got != want {
				t.Errorf("%s: got %d, want %d", name, got, want)
			}
		}
		result = notify.ErrClosed
		check("not taken", send(nil), 503)
		result = nil
		check("so no repetition", send(nil), 202)
		check("repetition", send(nil), 429)
		check("another time, severity and reason", send(func(e *notify.Event) {
			e.Timestamp, e.Severity, e.Reason = time.Now(), notify.SeverityInfo, "Other"
		}), 429)
		check("another revision", send(func(e *notify.Event) { e.Metadata = map[string]string{"apps.example.org/revision": "2"} }), 202)
		time.Sleep(5*time.Minute - 1)
		check("within the window", send(nil), 429)
		time.Sleep(time.Nanosecond)
		check("after it", send(nil), 202)
		for i := range 3 {
			check("others", send(func(e *notify.Event) { e.Message = fmt.Sprint(i) }), 202)
		}
		check("forgotten, as there were too many", send(nil), 202)
	})
}

func TestKey(t *testing.T) {
	base := func() notify.Event {
		return notify.Event{
			InvolvedObject: notify.Object{Kind: "App", Namespace: "ns", Name: "a", APIVersion: "g.example.org/v1"}, Message: "m",
			Metadata: map[string]string{"g.example.org/revision": "1"},
		}
	}
	keys := map[string]string{base().Key(): "base"}
	for name, change := range map[string]func(*notify.Event){
		"kind":            func(e *notify.Event) { e.InvolvedObject.Kind = "B" },
		"namespace":       func(e *notify.Event) { e.InvolvedObject.Namespace = "b" },
		"name":            func(e *notify.Event) { e.InvolvedObject.Name = "b" },
		"message":         func(e *notify.Event) { e.Message = "b" },
		"revision":        func(e *notify.Event) { e.Metadata["g.example.org/revision"] = "2" },
		"origin revision": func(e *notify.Event) { e.Metadata["g.example.org/originRevision"] = "1" },
		"token":           func(e *notify.Event) { e.Metadata["g.example.org/token"] = "1" },
		"borders": func(e *notify.Event) {
			e.InvolvedObject.Kind, e.InvolvedObject.Namespace = "Appn", "s"
		},
	} {
		e := base()
		change(&e)
		if same, ok := keys[e.Key()]; ok {
			t.Errorf("another %s has the key of another %s", name, same)
		}
		keys[e.Key()] = name
	}
	e := base()
	e.Severity, e.Reason, e.Timestamp, e.InvolvedObject.UID = notify.SeverityError, "R", time.Now(), "u"
	e.Metadata["g.example.org/checksum"] = "c"
	if keys[e.Key()] != "base" {
		t.Error("severity, reason, time or other metadata are in the key")
	}
}
