package notify

import (
	"encoding/json"
	"net/url"
	"strings"
)

// NewGitLabStatus returns a sender of commit statuses for a project of GitLab, as https://host/group/name, with any number
// of groups. The token needs the scope api. The error is a [*SendError] that lists all problems with the arguments; no
// connection is made.
func NewGitLabStatus(repository, token string, o *CommitStatusOptions) (*CommitStatus, error) {
	header := map[string]string{"Private-Token": token, "Accept": "application/json"}
	return newCommitStatus("gitlab", repository, token, header, o, gitLabAPI, newGitLab)
}

func gitLabAPI(r repository) string { return r.scheme + "://" + r.host + "/api/v4" }

type gitLab struct{ base *url.URL }

func newGitLab(api *url.URL, r repository) (forge, error) {
	return gitLab{api.JoinPath("projects", url.PathEscape(strings.Join(r.path, "/")))}, nil
}

func (g gitLab) state(e Event) string { return simpleState(e, "failed") }

// list asks for the latest status of the name only, which is what GitLab gives unless asked for all.
func (g gitLab) list(s status) *url.URL {
	u := g.base.JoinPath("repository", "commits", s.commit, "statuses")
	u.RawQuery = url.Values{"name": {s.name}}.Encode()
	return u
}

func (g gitLab) create(s status) *url.URL { return g.base.JoinPath("statuses", s.commit) }

func (g gitLab) encode(s status) any {
	return struct {
		State       string `json:"state"`
		Name        string `json:"name"`
		Description string `json:"description"`
	}{s.state, s.name, s.description}
}

// decode takes the one with the highest number, should there be several.
func (g gitLab) decode(answer []byte, name string) (status, error) {
	var list []struct {
		ID          int64  `json:"id"`
		Status      string `json:"status"`
		Name        string `json:"name"`
		Description string `json:"description"`
	}
	if err := json.Unmarshal(answer, &list); err != nil {
		return status{}, err
	}
	var latest status
	id := int64(-1)
	for _, s := range list {
		if s.Name == name && s.ID > id {
			id, latest = s.ID, status{name: name, state: s.Status, description: s.Description}
		}
	}
	return latest, nil
}
