package notify_test

import (
	"io"
	"net/http"
	"strings"
	"testing"

	"github.com/gitopskit/gitopskit/notify"
)

// Whatever the repository and the revision are, requests stay on the host and below the API, and the token goes
// nowhere else.
func FuzzCommitStatus(f *testing.F) {
	f.Add("https://git.example.org/o/r", "main@sha1:"+hash)
	f.Add("git@git.example.org:o/r.git", hash)
	f.Fuzz(func(t *testing.T, repository, revision string) {
		for name, connect := range map[string]func(string, string, *notify.CommitStatusOptions) (*notify.CommitStatus, error){
			"repos": notify.NewGiteaStatus, "projects": notify.NewGitLabStatus,
		} {
			transport := roundTripper(func(r *http.Request) (*http.Response, error) {
				if r.URL.Host != "api.example.org" || !strings.HasPrefix(r.URL.EscapedPath(), "/base/"+name+"/") || strings.Contains(r.URL.Path+"/", "/../") {
					t.Errorf("a request to %s", r.URL)
				}
				return &http.Response{StatusCode: http.StatusOK, Body: io.NopCloser(strings.NewReader("[]")), Request: r}, nil
			})
			s, err := connect(repository, token, &notify.CommitStatusOptions{
				API: "https://api.example.org/base", HTTPOptions: notify.HTTPOptions{Transport: transport},
			})
			if err != nil {
				continue
			}
			e := failedEvent()
			e.Metadata = map[string]string{"revision": revision}
			if err := s.Send(t.Context(), e); err != nil && strings.Contains(err.Error(), token) {
				t.Errorf("the error shows the token: %v", err)
			}
		}
	})
}

// Whatever is posted, the answer is one of a few, and what is emitted is an event.
func FuzzEventServer(f *testing.F) {
	f.Add([]byte(`{"involvedObject":{"kind":"App","name":"a"},"severity":"error","message":"m"}`))
	f.Fuzz(func(t *testing.T, body []byte) {
		s := &notify.EventServer{Limit: 4096, Emit: func(e notify.Event) error {
			if e.InvolvedObject.Kind == "" || e.InvolvedObject.Name == "" || e.Message == "" {
				t.Errorf("emitted %+v", e)
			}
			return nil
		}}
		switch code := post(s, "POST", "/", strings.NewReader(string(body))).Code; code {
		case 202, 400, 413:
		default:
			t.Errorf("got %d", code)
		}
	})
}
