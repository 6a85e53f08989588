package receiver_test

import (
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"

	"github.com/gitopskit/gitopskit/notify/receiver"
)

// The path is what printf %s tokenwebapps | sha256sum prints.
func TestPath(t *testing.T) {
	const want = "/hook/a1394b3d75f88fa1da8b5863e97bcbd61b8df2090f787482bdc833b5f2fd849d"
	if got := receiver.Path("token", "web", "apps"); got != want {
		t.Errorf("got %s, want %s", got, want)
	}
}

// named answers with its name.
func named(name string) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { _, _ = fmt.Fprint(w, name) })
}

func get(m *receiver.Mux, path string) string {
	w := httptest.NewRecorder()
	m.ServeHTTP(w, httptest.NewRequest(http.MethodPost, path, &endless{}))
	if w.Code != http.StatusOK {
		return fmt.Sprint(w.Code)
	}
	return w.Body.String()
}

func TestMux(t *testing.T) {
	var m receiver.Mux
	check := func(path, want string) {
		t.Helper()
		if got := get(&m, path); got != want {
			t.Errorf("%s: got %s, want %s", path, got, want)
		}
	}
	set := func(owner, path string, h http.Handler) {
		t.Helper()
		if err := m.Set(owner, path, h); err != nil {
			t.Error(err)
		}
	}
	check("/hook/1", "404")
	set("apps/web", "/hook/1", named("web"))
	set("apps/db", "/hook/2", named("db"))
	check("/hook/1", "web")
	check("/hook/2?query=1", "db")
	check("/hook/1/", "404")
	check("/hook/3", "404")
	set("apps/web", "/hook/3", named("web, with another token"))
	check("/hook/1", "404")
	check("/hook/3", "web, with another token")
	set("apps/web", "/hook/3", nil)
	check("/hook/3", "503")
	m.Delete("apps/web")
	m.Delete("apps/none")
	check("/hook/3", "404")
	check("/hook/2", "db")
	set("apps/other", "/hook/3", named("other"))
	set("apps/web", "/hook/4", named("web"))
	check("/hook/3", "other") // is no longer that of apps/web
	if err := m.Set("apps/x", "hook", named("x")); err == nil || strings.Contains(err.Error(), "hook\"") {
		t.Errorf("got %v", err)
	}
}

// Receivers whose token, name and namespace are equal when joined have the same path, and only one can be served.
func TestMuxRefusesAPathThatIsTaken(t *testing.T) {
	var m receiver.Mux
	if err := m.Set("c/ab", receiver.Path("t", "ab", "c"), named("first")); err != nil {
		t.Fatal(err)
	}
	if err := m.Set("bc/a", "/hook/own", named("second")); err != nil {
		t.Fatal(err)
	}
	err := m.Set("bc/a", receiver.Path("t", "a", "bc"), named("second"))
	if !errors.Is(err, receiver.ErrPathTaken) || !strings.Contains(err.Error(), "bc/a and c/ab") || strings.Contains(err.Error(), "/hook/") {
		t.Errorf("got %v", err)
	}
	if got := get(&m, receiver.Path("t", "ab", "c")) + " " + get(&m, "/hook/own"); got != "first second" {
		t.Errorf("got %s", got)
	}
}

func TestMuxIsUpdatedWhileItServes(t *testing.T) {
	var m receiver.Mux
	var group sync.WaitGroup
	for i := range 8 {
		owner := fmt.Sprint("apps/", i)
		group.Go(func() {
			for n := range 100 {
				if err := m.Set(owner, fmt.Sprintf("/hook/%d/%d", i, n), named(owner)); err != nil {
					t.Error(err)
				}
				if got := get(&m, fmt.Sprintf("/hook/%d/%d", i, n)); got != owner {
					t.Errorf("got %s", got)
				}
			}
			m.Delete(owner)
		})
	}
	group.Wait()
	if got := get(&m, "/hook/0/99"); got != "404" {
		t.Errorf("got %s", got)
	}
}

// What no receiver is for is refused before anything of its body is read.
func TestMuxDoesNotReadUnknownCalls(t *testing.T) {
	var m receiver.Mux
	body := &endless{}
	w := httptest.NewRecorder()
	if m.ServeHTTP(w, httptest.NewRequest(http.MethodPost, "/hook/x", body)); w.Code != 404 || body.read != 0 {
		t.Errorf("got %d after %d bytes", w.Code, body.read)
	}
}
