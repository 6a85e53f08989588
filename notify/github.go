package notify

import (
	"encoding/json"
	"net/url"
	"strings"
)

// NewGitHubStatus returns a sender of commit statuses for a repository of GitHub or of a GitHub Enterprise Server, as
// https://github.com/owner/name. The token needs the permission to write statuses. The error is a [*SendError] that
// lists all problems with the arguments; no connection is made.
func NewGitHubStatus(repository, token string, o *CommitStatusOptions) (*CommitStatus, error) {
	header := map[string]string{"Authorization": "Bearer " + token, "Accept": "application/vnd.github+json"}
	return newCommitStatus("github", repository, token, header, o, gitHubAPI, newGitHub)
}

func gitHubAPI(r repository) string {
	if strings.EqualFold(r.host, "github.com") {
		return "https://api.github.com"
	}
	return r.scheme + "://" + r.host + "/api/v3"
}

type gitHub struct{ base *url.URL }

func newGitHub(api *url.URL, r repository) (forge, error) {
	path, err := r.owned()
	return gitHub{api.JoinPath(append([]string{"repos"}, path...)...)}, err
}

func (g gitHub) state(e Event) string { return simpleState(e, "failure") }

func (g gitHub) list(s status) *url.URL {
	u := g.base.JoinPath("commits", s.commit, "statuses")
	u.RawQuery = "per_page=100"
	return u
}

func (g gitHub) create(s status) *url.URL { return g.base.JoinPath("statuses", s.commit) }

type gitHubStatus struct {
	State       string `json:"state"`
	Context     string `json:"context"`
	Description string `json:"description"`
}

func (g gitHub) encode(s status) any { return gitHubStatus{s.state, s.name, s.description} }

// decode relies on GitHub listing the latest first.
func (g gitHub) decode(answer []byte, name string) (status, error) {
	var list []gitHubStatus
	if err := json.Unmarshal(answer, &list); err != nil {
		return status{}, err
	}
	for _, s := range list {
		if s.Context == name {
			return status{name: name, state: s.State, description: s.Description}, nil
		}
	}
	return status{}, nil
}
