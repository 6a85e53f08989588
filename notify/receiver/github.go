package receiver

import (
	"encoding/json"
	"errors"
	"mime"
	"net/http"
	"net/url"
)

type gitHub struct{}

func (gitHub) verify(header http.Header, body, token []byte) error {
	return verifyHMAC(header, body, token, "X-Hub-Signature-256", "X-Hub-Signature")
}

func (gitHub) read(header http.Header, h *Hook) error {
	h.Event, h.Delivery = header.Get("X-GitHub-Event"), header.Get("X-GitHub-Delivery")
	if h.Event == "" {
		return errors.New("there is no header X-GitHub-Event")
	}
	media, _, err := mime.ParseMediaType(header.Get("Content-Type"))
	switch {
	case err != nil || media != "application/json" && media != "application/x-www-form-urlencoded":
		return errors.New("the Content-Type is neither application/json nor application/x-www-form-urlencoded")
	case media == "application/x-www-form-urlencoded":
		form, err := url.ParseQuery(string(h.Body))
		if err != nil {
			return errors.New("the form cannot be read")
		}
		h.Body = []byte(form.Get("payload"))
	}
	var p struct {
		Ref        string `json:"ref"`
		After      string `json:"after"`
		Repository struct {
			FullName string `json:"full_name"`
		} `json:"repository"`
		Package         gitHubPackage `json:"package"`
		RegistryPackage gitHubPackage `json:"registry_package"`
	}
	if err := decode(h.Body, &p); err != nil {
		return err
	}
	h.Repository, h.Ref, h.Commit = p.Repository.FullName, p.Ref, commit(p.After)
	for _, pkg := range []gitHubPackage{p.Package, p.RegistryPackage} {
		if tag := pkg.Version.Container.Tag; tag.Name != "" || tag.Digest != "" {
			h.Tag, h.Digest = tag.Name, tag.Digest
		}
	}
	return nil
}

type gitHubPackage struct {
	Version struct {
		Container struct {
			Tag struct {
				Name   string `json:"name"`
				Digest string `json:"digest"`
			} `json:"tag"`
		} `json:"container_metadata"`
	} `json:"package_version"`
}

// commit leaves out the hash of zeros that stands for none.
func commit(hash string) string {
	for _, c := range hash {
		if c != '0' {
			return hash
		}
	}
	return ""
}

// decode reads a JSON object.
func decode(body []byte, to any) error {
	if err := json.Unmarshal(body, to); err != nil {
		return errors.New("the body is not the JSON that was expected")
	}
	return nil
}
