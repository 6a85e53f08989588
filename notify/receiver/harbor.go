package receiver

import (
	"net/http"
)

type harbor struct{}

func (harbor) verify(header http.Header, _, token []byte) error {
	return verifyToken(header, token, "Authorization")
}

// read takes the default format of Harbor, and its form of CloudEvents, whose data is the same.
func (harbor) read(_ http.Header, h *Hook) error {
	type eventData struct {
		Resources []struct {
			Tag    string `json:"tag"`
			Digest string `json:"digest"`
		} `json:"resources"`
		Repository struct {
			FullName string `json:"repo_full_name"`
		} `json:"repository"`
	}
	var p struct {
		ID        string    `json:"id"`
		Type      string    `json:"type"`
		EventData eventData `json:"event_data"`
		Data      eventData `json:"data"`
	}
	if err := decode(h.Body, &p); err != nil {
		return err
	}
	h.Event, h.Delivery = p.Type, p.ID
	for _, data := range []eventData{p.EventData, p.Data} {
		if data.Repository.FullName != "" {
			h.Repository = data.Repository.FullName
		}
		if len(data.Resources) > 0 {
			h.Tag, h.Digest = data.Resources[0].Tag, data.Resources[0].Digest
		}
	}
	return nil
}
