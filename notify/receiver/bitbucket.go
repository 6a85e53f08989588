package receiver

import (
	"errors"
	"net/http"
)

type bitbucket struct{}

func (bitbucket) verify(header http.Header, body, token []byte) error {
	return verifyHMAC(header, body, token, "X-Hub-Signature")
}

func (bitbucket) read(header http.Header, h *Hook) error {
	h.Event = header.Get("X-Event-Key")
	if h.Event == "" {
		return errors.New("there is no header X-Event-Key")
	}
	if h.Delivery = header.Get("X-Request-Id"); h.Delivery == "" {
		h.Delivery = header.Get("X-Request-Uuid")
	}
	var p bitbucketPayload
	if err := decode(h.Body, &p); err != nil {
		return err
	}
	h.Repository, h.Ref, h.Commit = p.read()
	return nil
}

// bitbucketPayload has the fields of both products.
type bitbucketPayload struct {
	Repository struct {
		FullName string `json:"full_name"` // Cloud
		Slug     string `json:"slug"`      // Server
		Project  struct {
			Key string `json:"key"`
		} `json:"project"`
	} `json:"repository"`
	Changes []struct { // Server
		Ref struct {
			ID string `json:"id"`
		} `json:"ref"`
		ToHash string `json:"toHash"`
	} `json:"changes"`
	Push struct { // Cloud
		Changes []struct {
			New *struct {
				Type   string `json:"type"`
				Name   string `json:"name"`
				Target struct {
					Hash string `json:"hash"`
				} `json:"target"`
			} `json:"new"`
		} `json:"changes"`
	} `json:"push"`
}

// read returns the repository, and the ref and commit of the first change.
func (p bitbucketPayload) read() (repository, ref, hash string) {
	repository = p.Repository.FullName
	if repository == "" && p.Repository.Slug != "" {
		repository = p.Repository.Project.Key + "/" + p.Repository.Slug
	}
	switch {
	case len(p.Changes) > 0:
		return repository, p.Changes[0].Ref.ID, commit(p.Changes[0].ToHash)
	case len(p.Push.Changes) > 0 && p.Push.Changes[0].New != nil:
		change := p.Push.Changes[0].New
		prefix := "refs/heads/"
		if change.Type == "tag" {
			prefix = "refs/tags/"
		}
		return repository, prefix + change.Name, change.Target.Hash
	}
	return repository, "", ""
}
