package receiver

import (
	"errors"
	"net/http"
)

type dockerHub struct{ generic }

func (dockerHub) read(_ http.Header, h *Hook) error {
	var p struct {
		PushData struct {
			Tag string `json:"tag"`
		} `json:"push_data"`
		Repository struct {
			Name string `json:"repo_name"`
			URL  string `json:"repo_url"`
		} `json:"repository"`
	}
	if err := decode(h.Body, &p); err != nil {
		return err
	}
	if p.PushData.Tag == "" || p.Repository.URL == "" && p.Repository.Name == "" {
		return errors.New("there is no push_data.tag or no repository")
	}
	h.Repository, h.Tag = p.Repository.Name, p.PushData.Tag
	return nil
}
