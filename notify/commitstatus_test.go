package notify_test

import (
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/gitopskit/gitopskit/notify"
	"github.com/gitopskit/gitopskit/notify/notifytest"
)

func TestCommitStatusRequests(t *testing.T) {
	type connect = func(repository, token string, o *notify.CommitStatusOptions) (*notify.CommitStatus, error)
	for _, tc := range []struct {
		name      string
		connect   connect
		path      string
		event     notify.Event
		latest    string // what the list answers
		auth      [2]string
		want      []string
		wantState string
	}{
		{
			"github", notify.NewGitHubStatus, "/o/r.git", failedEvent(),
			`[{"state":"success","context":"kustomization/web/ab12","description":"reconciliation succeeded"},{"state":"failure","context":"kustomization/web/ab12","description":"health check failed"}]`,
			[2]string{"Authorization", "Bearer " + token},
			[]string{"GET /api/v3/repos/o/r/commits/" + hash + "/statuses?per_page=100", "POST /api/v3/repos/o/r/statuses/" + hash},
			`{"state":"failure","context":"kustomization/web/ab12","description":"health check failed"}`,
		},
		{
			"github has it", notify.NewGitHubStatus, "/o/r", failedEvent(),
			`[{"state":"success","context":"other","description":"x"},{"state":"failure","context":"kustomization/web/ab12","description":"health check failed"}]`,
			[2]string{"Authorization", "Bearer " + token},
			[]string{"GET /api/v3/repos/o/r/commits/" + hash + "/statuses?per_page=100"}, "",
		},
		{
			"gitlab", notify.NewGitLabStatus, "/g/sub/r/", succeededEvent(),
			`[{"id":2,"status":"failed","name":"kustomization/web/ab12","description":"x"},{"id":1,"status":"success","name":"kustomization/web/ab12","description":"reconciliation succeeded"}]`,
			[2]string{"Private-Token", token},
			[]string{"GET /api/v4/projects/g%2Fsub%2Fr/repository/commits/" + hash + "/statuses?name=kustomization%2Fweb%2Fab12", "POST /api/v4/projects/g%2Fsub%2Fr/statuses/" + hash},
			`{"state":"success","name":"kustomization/web/ab12","description":"reconciliation succeeded"}`,
		},
		{
			"gitlab has it", notify.NewGitLabStatus, "/g/r", failedEvent(),
			`[{"id":7,"status":"failed","name":"kustomization/web/ab12","description":"health check failed"}]`,
			[2]string{"Private-Token", token},
			[]string{"GET /api/v4/projects/g%2Fr/repository/commits/" + hash + "/statuses?name=kustomization%2Fweb%2Fab12"}, "",
		},
		{
			"gitea", notify.NewGiteaStatus, "/o/r", failedEvent(), `[]`, [2]string{"Authorization", "token " + token},
			[]string{"GET /api/v1/repos/o/r/statuses/" + hash + "?limit=50&sort=highestindex", "POST /api/v1/repos/o/r/statuses/" + hash},
			`{"state":"failure","target_url":"","description":"health check failed","context":"kustomization/web/ab12"}`,
		},
		{
			"gitea has it", notify.NewGiteaStatus, "/o/r", succeededEvent(),
			`[{"status":"success","context":"kustomization/web/ab12","description":"reconciliation succeeded"}]`,
			[2]string{"Authorization", "token " + token},
			[]string{"GET /api/v1/repos/o/r/statuses/" + hash + "?limit=50&sort=highestindex"}, "",
		},
		{
			"another description", notify.NewGiteaStatus, "/o/r", failedEvent(),
			`[{"status":"failure","context":"kustomization/web/ab12","description":"build failed"}]`,
			[2]string{"Authorization", "token " + token},
			[]string{"GET /api/v1/repos/o/r/statuses/" + hash + "?limit=50&sort=highestindex", "POST /api/v1/repos/o/r/statuses/" + hash},
			`{"state":"failure","target_url":"","description":"health check failed","context":"kustomization/web/ab12"}`,
		},
		{
			"another state", notify.NewGiteaStatus, "/o/r", failedEvent(),
			`[{"status":"pending","context":"kustomization/web/ab12","description":"health check failed"}]`,
			[2]string{"Authorization", "token " + token},
			[]string{"GET /api/v1/repos/o/r/statuses/" + hash + "?limit=50&sort=highestindex", "POST /api/v1/repos/o/r/statuses/" + hash},
			`{"state":"failure","target_url":"","description":"health check failed","context":"kustomization/web/ab12"}`,
		},
		{
			"gitea, another name", notify.NewGiteaStatus, "/o/r", failedEvent(),
			`[{"status":"failure","context":"kustomization/web/cd34","description":"health check failed"}]`,
			[2]string{"Authorization", "token " + token},
			[]string{"GET /api/v1/repos/o/r/statuses/" + hash + "?limit=50&sort=highestindex", "POST /api/v1/repos/o/r/statuses/" + hash},
			`{"state":"failure","target_url":"","description":"health check failed","context":"kustomization/web/ab12"}`,
		},
		{
			"gitlab, another name", notify.NewGitLabStatus, "/g/r", failedEvent(),
			`[{"id":7,"status":"failed","name":"kustomization/web/cd34","description":"health check failed"}]`,
			[2]string{"Private-Token", token},
			[]string{"GET /api/v4/projects/g%2Fr/repository/commits/" + hash + "/statuses?name=kustomization%2Fweb%2Fab12", "POST /api/v4/projects/g%2Fr/statuses/" + hash},
			`{"state":"failed","name":"kustomization/web/ab12","description":"health check failed"}`,
		},
		{
			"a list that cannot be read is no list", notify.NewGiteaStatus, "/o/r", failedEvent(), `{`, [2]string{"Authorization", "token " + token},
			[]string{"GET /api/v1/repos/o/r/statuses/" + hash + "?limit=50&sort=highestindex", "POST /api/v1/repos/o/r/statuses/" + hash},
			`{"state":"failure","target_url":"","description":"health check failed","context":"kustomization/web/ab12"}`,
		},
	} {
		t.Run(tc.name, func(t *testing.T) {
			server := notifytest.NewServer(t, notifytest.Step{Body: tc.latest})
			s, err := tc.connect(server.URL+tc.path, token, &notify.CommitStatusOptions{Instance: "AB12"})
			if err != nil {
				t.Fatal(err)
			}
			defer func() { _ = s.Close() }()
			if err := s.Send(t.Context(), tc.event); err != nil {
				t.Fatal(err)
			}
			var got []string
			for _, r := range server.Requests() {
				got = append(got, r.Method+" "+r.Path)
				if r.Header.Get(tc.auth[0]) != tc.auth[1] {
					t.Errorf("%s %s: got headers %v", r.Method, r.Path, r.Header)
				}
				if r.Method == "POST" {
					if diff := cmp.Diff(tc.wantState, compact(t, r.Body)); diff != "" {
						t.Error(diff)
					}
				}
			}
			if diff := cmp.Diff(tc.want, got); diff != "" {
				t.Error(diff)
			}
		})
	}
}

func TestCommitStatusAddresses(t *testing.T) {
	for _, tc := range []struct {
		connect    func(string, string, *notify.CommitStatusOptions) (*notify.CommitStatus, error)
		repository string
		want       string
	}{
		{notify.NewGitHubStatus, "https://github.com/o/r", "github https://api.github.com"},
		{notify.NewGitHubStatus, "git@github.com:o/r.git", "github https://api.github.com"},
		{notify.NewGitHubStatus, "ssh://git@ghe.example.org:2222/o/r", "github https://ghe.example.org"},
		{notify.NewGitHubStatus, "http://ghe.example.org:8080/o/r", "github http://ghe.example.org:8080"},
		{notify.NewGitLabStatus, "https://gitlab.example.org/a/b/c/d.git", "gitlab https://gitlab.example.org"},
		{notify.NewGiteaStatus, "git@gitea.example.org:o/r", "gitea https://gitea.example.org"},
		{notify.NewGitHubStatus, "https://github.com/o/r/x", "error"},
		{notify.NewGiteaStatus, "https://github.com/o", "error"},
		{notify.NewGiteaStatus, "https://github.com/o/..", "error"},
		{notify.NewGitLabStatus, "https://github.com/o//r", "error"},
		{notify.NewGitLabStatus, "file:///o/r", "error"},
		{notify.NewGitLabStatus, "o/r", "error"},
		{notify.NewGitLabStatus, "", "error"},
		{notify.NewGitLabStatus, "https://h/%zz", "error"},
	} {
		s, err := tc.connect(tc.repository, token, nil)
		got := "error"
		if err == nil {
			got = s.String()
			_ = s.Close()
		}
		if got != tc.want {
			t.Errorf("%s: got %s, %v; want %s", tc.repository, got, err, tc.want)
		}
	}
}

func TestCommitStatusRevisions(t *testing.T) {
	sha256 := strings.Repeat("ab", 32)
	for _, tc := range []struct {
		key, revision, want string
	}{
		{"revision", "main@sha1:" + hash, hash},
		{"kustomize.toolkit.fluxcd.io/revision", "refs/heads/a/b@sha1:" + hash, hash},
		{"kustomize.toolkit.fluxcd.io/originRevision", "sha1:" + hash, hash},
		{"event.toolkit.fluxcd.io/commit", hash, hash},
		{"revision", "main/" + hash, hash},
		{"revision", "main@sha256:" + sha256, sha256},
		{"revision", "6.5.4", ""},
		{"revision", "main@sha1:", ""},
		{"revision", "main@sha1:" + strings.ToUpper(hash), ""},
		{"revision", "main@sha1:" + hash + "/../x", ""},
		{"other", hash, ""},
	} {
		server := notifytest.NewServer(t)
		s, err := notify.NewGiteaStatus(server.URL+"/o/r", token, nil)
		if err != nil {
			t.Fatal(err)
		}
		e := failedEvent()
		e.Metadata = map[string]string{tc.key: tc.revision}
		err = s.Send(t.Context(), e)
		_ = s.Close()
		got := ""
		if err == nil {
			_, got, _ = strings.Cut(server.Requests()[1].Path, "/statuses/")
		} else if se, ok := errors.AsType[*notify.SendError](err); !ok || !se.Terminal() {
			t.Errorf("%s: got %v, want a terminal *SendError", tc.revision, err)
		}
		if got != tc.want {
			t.Errorf("%s: got %q, %v; want %q", tc.revision, got, err, tc.want)
		}
	}
}

func TestCommitStatusStates(t *testing.T) {
	for _, tc := range []struct {
		severity            notify.Severity
		reason              string
		github, gitlab, tea string
	}{
		{notify.SeverityInfo, "Applied", "success", "success", "success"},
		{notify.SeverityError, "Failed", "failure", "failed", "failure"},
		{notify.SeverityInfo, "Progressing", "", "", "pending"},
		{notify.SeverityError, "Progressing", "failure", "failed", "failure"},
		{notify.SeverityTrace, "Applied", "", "", ""},
	} {
		for name, want := range map[string]string{"github": tc.github, "gitlab": tc.gitlab, "gitea": tc.tea} {
			server := notifytest.NewServer(t)
			s, err := destinations[name](server.URL, notify.HTTPOptions{})
			if err != nil {
				t.Fatal(err)
			}
			e := failedEvent()
			e.Severity, e.Reason = tc.severity, tc.reason
			if err := s.Send(t.Context(), e); err != nil {
				t.Error(err)
			}
			_ = s.Close()
			got := ""
			if r := server.Requests(); len(r) == 2 {
				_, got, _ = strings.Cut(string(r[1].Body), `"state":"`)
				got, _, _ = strings.Cut(got, `"`)
			}
			if got != want {
				t.Errorf("%s: %v %s: got %q, want %q", name, tc.severity, tc.reason, got, want)
			}
		}
	}
}

func TestCommitStatusName(t *testing.T) {
	server := notifytest.NewServer(t)
	s, err := notify.NewGitHubStatus("https://github.com/o/r", token, &notify.CommitStatusOptions{
		API: server.URL, Name: func(e notify.Event) string { return "deploy/" + e.InvolvedObject.Namespace },
	})
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = s.Close() }()
	e := failedEvent()
	e.Reason = strings.Repeat("LongReasonHTTPError", 20)
	if err := s.Send(t.Context(), e); err != nil {
		t.Fatal(err)
	}
	body := string(server.Requests()[1].Body)
	if !strings.Contains(body, `"context":"deploy/apps"`) || !strings.Contains(body, `"description":"long reason http error`) || len(body) > 230 {
		t.Errorf("got %s", body)
	}
}

func TestForCommitStatus(t *testing.T) {
	const group = "kustomize.toolkit.fluxcd.io/"
	for i, tc := range []struct {
		severity notify.Severity
		metadata map[string]string
		want     bool
		only     bool
	}{
		{notify.SeverityInfo, nil, false, false},
		{notify.SeverityInfo, map[string]string{group + "revision": "x"}, false, false},
		{notify.SeverityError, nil, true, false},
		{notify.SeverityInfo, map[string]string{"event.toolkit.fluxcd.io/commit": "x"}, true, false},
		{notify.SeverityInfo, map[string]string{group + "commit_status": "update"}, true, true},
		{notify.SeverityInfo, map[string]string{group + "commit_status": "other"}, false, false},
		{notify.SeverityInfo, map[string]string{"other.example.org/commit_status": "update"}, false, false},
	} {
		e := succeededEvent()
		e.Severity, e.Metadata = tc.severity, tc.metadata
		if got := fmt.Sprint(e.ForCommitStatus(), e.OnlyForCommitStatus()); got != fmt.Sprint(tc.want, tc.only) {
			t.Errorf("row %d: got %s", i, got)
		}
	}
}
