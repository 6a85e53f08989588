package notify

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"regexp"
	"slices"
	"strings"
)

// CommitStatusOptions configure a [CommitStatus]; nil means the defaults.
type CommitStatusOptions struct {
	HTTPOptions
	// API is the base address of the forge's API; "" means the usual one of the repository's host: api.github.com or
	// /api/v3 for GitHub, /api/v4 for GitLab, /api/v1 for Gitea.
	API string
	// Instance tells apart the clusters that report about the same commits. It becomes the last part of the name
	// of a status; Flux has the first block of the provider's UID there.
	Instance string
	// Name returns the name of the status of an event, which a later event of the same name replaces; nil means the
	// kind and the name of the object and Instance in lower case, joined by slashes.
	Name func(Event) string
}

// CommitStatus is a [Sender] that reports at a forge how a commit fares: success or failure, under a name of its own for
// each object. It is made by [NewGitHubStatus], [NewGitLabStatus] or [NewGiteaStatus].
//
// The commit is that of [Event.Revision]; an event without one is a terminal error. Traces are passed over, and so are
// events of the reason Progressing where the forge has no use for them. A status that the commit already has is
// not repeated. Use [Event.ForCommitStatus] as the Match of a route.
type CommitStatus struct {
	*endpoint
	forge  forge
	header map[string]string
	o      CommitStatusOptions
}

var _ Sender = (*CommitStatus)(nil)

// status is what is said about a commit.
type status struct {
	commit, name, state, description string
}

// forge is what the APIs differ in.
type forge interface {
	// state returns the forge's word for an event, "" if there is none.
	state(e Event) string
	// list returns the address, below the API, of the statuses of a commit, and create where to post one.
	list(s status) *url.URL
	create(s status) *url.URL
	// encode returns the body to post, decode the latest status of that name in the answer of list.
	encode(s status) any
	decode(answer []byte, name string) (status, error)
}

// repository is where a forge has a repository.
type repository struct {
	scheme, host string
	path         []string
}

// newCommitStatus makes a sender. The API and the forge are those of the repository's address.
func newCommitStatus(kind, address, token string, header map[string]string, o *CommitStatusOptions,
	api func(repository) string, connect func(base *url.URL, r repository) (forge, error),
) (*CommitStatus, error) {
	if o == nil {
		o = &CommitStatusOptions{}
	}
	repo, problem := parseRepository(address)
	problems := []error{problem, checkToken(token)}
	if token == "" {
		problems = append(problems, errors.New("the token is empty"))
	}
	base := o.API
	if base == "" && problem == nil {
		base = api(repo)
	}
	if problem != nil {
		return nil, &SendError{Op: "new " + kind, Destination: "(unreadable repository)", Err: errors.Join(problems...), permanent: true}
	}
	var own []string
	for name := range header {
		own = append(own, http.CanonicalHeaderKey(name))
	}
	own = append(own, "Accept")
	c := &CommitStatus{header: header, o: *o}
	if u, _, errs := parseAddress(base); errs == nil {
		var err error
		c.forge, err = connect(u, repo)
		problems = append(problems, err)
	}
	var err error
	if c.endpoint, err = newEndpoint(kind, base, o.HTTPOptions, own, []string{token}, problems...); err != nil {
		return nil, err
	}
	return c, nil
}

// parseRepository reads the address of a repository as Git does; of ssh addresses only the host is used.
func parseRepository(address string) (repository, error) {
	if user, rest, ok := strings.Cut(address, "@"); ok && !strings.ContainsAny(user, "/:") && !strings.Contains(rest, "://") {
		host, path, _ := strings.Cut(rest, ":")
		address = "ssh://" + user + "@" + host + "/" + strings.TrimPrefix(path, "/")
	}
	const hint = "want one as https://host/owner/name"
	u, err := url.Parse(address)
	if err != nil {
		return repository{}, errors.New("the repository is not a URL: " + hint) // the text of err has the address in it
	}
	r := repository{scheme: u.Scheme, host: u.Host}
	switch u.Scheme {
	case "https", "http":
		if u.User != nil {
			return r, errors.New("the URL of the repository has credentials: remove them, the token is used")
		}
	case "ssh":
		r.scheme, r.host = "https", u.Hostname()
	default:
		return r, errors.New("the repository has no scheme https, http or ssh: " + hint)
	}
	r.path = strings.Split(strings.TrimSuffix(strings.Trim(u.Path, "/"), ".git"), "/")
	if r.host == "" || len(r.path) < 2 || slices.ContainsFunc(r.path, func(s string) bool { return s == "" || s == "." || s == ".." }) {
		return r, errors.New("the repository has no host, owner and name: " + hint)
	}
	return r, nil
}

// owned returns owner and name, for forges whose repositories have no other parts.
func (r repository) owned() ([]string, error) {
	if len(r.path) != 2 {
		return nil, fmt.Errorf("the repository has a path of %d parts: want https://host/owner/name", len(r.path))
	}
	return []string{url.PathEscape(r.path[0]), url.PathEscape(r.path[1])}, nil
}

// Send sets the status of the event's commit. The error is a [*SendError].
func (c *CommitStatus) Send(ctx context.Context, e Event) error {
	if err := ctx.Err(); err != nil {
		return c.fail(err, false)
	}
	state := c.forge.state(e)
	if state == "" {
		return nil
	}
	commit, err := commitOf(e)
	if err != nil {
		return c.fail(err, true)
	}
	s := status{commit: commit, name: c.name(e), state: state, description: truncate(words(e.Reason), 140)}
	answer, err := c.do(ctx, call{method: http.MethodGet, url: c.forge.list(s), header: c.header}, 4<<20)
	if err != nil {
		return err
	}
	latest, err := c.forge.decode(answer, s.name)
	if err == nil && latest.state == s.state && latest.description == s.description {
		return nil
	}
	body, err := json.Marshal(c.forge.encode(s))
	if err != nil {
		return c.fail(err, true)
	}
	_, err = c.do(ctx, call{method: http.MethodPost, url: c.forge.create(s), header: c.header, body: body}, maxAnswer)
	return err
}

func (c *CommitStatus) name(e Event) string {
	if c.o.Name != nil {
		return c.o.Name(e)
	}
	name := e.InvolvedObject.Kind + "/" + e.InvolvedObject.Name
	if c.o.Instance != "" {
		name += "/" + c.o.Instance
	}
	return strings.ToLower(name)
}

var commitHash = regexp.MustCompile(`^(?:[0-9a-f]{40}|[0-9a-f]{64})$`)

// commitOf returns the hash in the revision of an event: main@sha1:<hash>, sha1:<hash>, main/<hash> or <hash>.
func commitOf(e Event) (string, error) {
	revision, ok := e.Revision()
	if !ok {
		return "", errors.New("the event has no revision in its metadata")
	}
	hash := revision[strings.LastIndexAny(revision, ":/@")+1:]
	if !commitHash.MatchString(hash) {
		return "", fmt.Errorf("the revision %q of the event names no commit: want one as main@sha1:<hash>", truncate(revision, 120))
	}
	return hash, nil
}

// ForCommitStatus reports whether a [CommitStatus] should be told: the event is an update of a commit's status, it names a
// commit, or it is an error.
func (e Event) ForCommitStatus() bool {
	_, commit := e.lookup("commit")
	return commit || e.Severity > SeverityInfo || e.OnlyForCommitStatus()
}

// OnlyForCommitStatus reports whether the event is marked as an update of a commit's status, which says nothing new to
// people: Flux hands it to commit statuses and plain webhooks only.
func (e Event) OnlyForCommitStatus() bool { return e.metadata("commit_status") == "update" }

// simpleState is success or the word for failure, and "" for events that tell of no result.
func simpleState(e Event, failure string) string {
	switch {
	case e.Severity > SeverityInfo:
		return failure
	case e.Severity < SeverityInfo, e.Reason == progressing:
		return ""
	}
	return "success"
}
