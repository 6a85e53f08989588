package chartserver_test

import (
	"io"
	"net/http"
	"net/http/httptest"
	"testing"

	"go.uber.org/goleak"

	"github.com/gitopskit/gitopskit/internal/chartserver"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func TestServer(t *testing.T) {
	srv := chartserver.New()
	srv.Username, srv.Password = "me", "secret"
	srv.Add("app", "1.0.0", []byte("archive"))
	web := httptest.NewServer(srv)
	defer web.Close()
	client := web.Client()
	get := func(path, password, tag string) (int, string, string) {
		t.Helper()
		r, err := http.NewRequestWithContext(t.Context(), http.MethodGet, web.URL+path, nil)
		if err != nil {
			t.Fatal(err)
		}
		r.SetBasicAuth("me", password)
		if tag != "" {
			r.Header.Set("If-None-Match", tag)
		}
		res, err := client.Do(r)
		if err != nil {
			t.Fatal(err)
		}
		defer res.Body.Close()
		body, err := io.ReadAll(res.Body)
		if err != nil {
			t.Fatal(err)
		}
		return res.StatusCode, string(body), res.Header.Get("ETag")
	}
	if status, _, _ := get("/charts/index.yaml", "wrong", ""); status != http.StatusUnauthorized {
		t.Errorf("wrong password: %d", status)
	}
	status, body, tag := get("/charts/index.yaml", "secret", "")
	if status != http.StatusOK || body != string(srv.Index()) {
		t.Errorf("index: %d %s", status, body)
	}
	if status, body, _ := get("/charts/index.yaml", "secret", tag); status != http.StatusNotModified || body != "" {
		t.Errorf("unchanged index: %d %s", status, body)
	}
	if status, body, _ := get("/charts/app-1.0.0.tgz", "secret", ""); status != http.StatusOK || body != "archive" {
		t.Errorf("archive: %d %s", status, body)
	}
	if status, _, _ := get("/other", "secret", ""); status != http.StatusNotFound {
		t.Errorf("elsewhere: %d", status)
	}
	if seen := srv.Requests(); len(seen) != 5 || seen[2].Status != http.StatusNotModified {
		t.Errorf("requests: %+v", seen)
	}
}
