package notify

import (
	"encoding/json"
	"net/url"
)

// NewGiteaStatus returns a sender of commit statuses for a repository of Gitea or Forgejo, as
// https://host/owner/name. The token needs the permission to write to the repository. The error is a [*SendError] that
// lists all problems with the arguments; no connection is made.
func NewGiteaStatus(repository, token string, o *CommitStatusOptions) (*CommitStatus, error) {
	header := map[string]string{"Authorization": "token " + token, "Accept": "application/json"}
	return newCommitStatus("gitea", repository, token, header, o, giteaAPI, newGitea)
}

func giteaAPI(r repository) string { return r.scheme + "://" + r.host + "/api/v1" }

type gitea struct{ base *url.URL }

func newGitea(api *url.URL, r repository) (forge, error) {
	path, err := r.owned()
	return gitea{api.JoinPath(append([]string{"repos"}, path...)...)}, err
}

// state has a word for progress too, unlike those of other forges.
func (g gitea) state(e Event) string {
	if e.Reason == progressing && e.Severity == SeverityInfo {
		return "pending"
	}
	return simpleState(e, "failure")
}

func (g gitea) list(s status) *url.URL {
	u := g.create(s)
	u.RawQuery = "limit=50&sort=highestindex"
	return u
}

func (g gitea) create(s status) *url.URL { return g.base.JoinPath("statuses", s.commit) }

func (g gitea) encode(s status) any {
	return struct {
		State       string `json:"state"`
		TargetURL   string `json:"target_url"`
		Description string `json:"description"`
		Context     string `json:"context"`
	}{s.state, "", s.description, s.name}
}

// decode relies on the latest being the first, for which list asks.
func (g gitea) decode(answer []byte, name string) (status, error) {
	var list []struct {
		Status      string `json:"status"`
		Context     string `json:"context"`
		Description string `json:"description"`
	}
	if err := json.Unmarshal(answer, &list); err != nil {
		return status{}, err
	}
	for _, s := range list {
		if s.Context == name {
			return status{name: name, state: s.Status, description: s.Description}, nil
		}
	}
	return status{}, nil
}
