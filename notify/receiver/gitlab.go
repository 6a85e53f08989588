package receiver

import (
	"errors"
	"net/http"
)

type gitLab struct{}

func (gitLab) verify(header http.Header, _, token []byte) error {
	return verifyToken(header, token, "X-Gitlab-Token")
}

func (gitLab) read(header http.Header, h *Hook) error {
	h.Event = header.Get("X-Gitlab-Event")
	if h.Event == "" {
		return errors.New("there is no header X-Gitlab-Event")
	}
	// The first stays the same when GitLab tries again; older versions have the second only.
	if h.Delivery = header.Get("Idempotency-Key"); h.Delivery == "" {
		h.Delivery = header.Get("X-Gitlab-Event-Uuid")
	}
	var p struct {
		Ref      string `json:"ref"`
		Checkout string `json:"checkout_sha"`
		Project  struct {
			Path string `json:"path_with_namespace"`
		} `json:"project"`
	}
	if err := decode(h.Body, &p); err != nil {
		return err
	}
	h.Repository, h.Ref, h.Commit = p.Project.Path, p.Ref, p.Checkout
	return nil
}
