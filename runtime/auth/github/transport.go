package github

import (
	"net/http"
	"strings"
)

// Transport returns a transport that signs requests with tokens of the installation: those to the API as bearer, those
// to the Git repositories that belong to it as basic authentication. Requests to any other host, and requests that are
// signed already, pass as they are. When a token is refused (401), a new one is had and the request sent once more, if
// its body can be. Nil is http.DefaultTransport.
func (i *Installation) Transport(base http.RoundTripper) http.RoundTripper {
	if base == nil {
		base = http.DefaultTransport
	}
	return &signer{i, base}
}

type signer struct {
	installation *Installation
	base         http.RoundTripper
}

// CloseIdleConnections is what http.Client.CloseIdleConnections calls.
func (s *signer) CloseIdleConnections() {
	if c, ok := s.base.(interface{ CloseIdleConnections() }); ok {
		c.CloseIdleConnections()
	}
}

func (s *signer) RoundTrip(r *http.Request) (*http.Response, error) {
	api, git := s.installation.belongs(r)
	if !api && !git || r.Header.Get("Authorization") != "" {
		return s.base.RoundTrip(r)
	}
	signed, err := s.sign(r, api)
	if err != nil {
		if r.Body != nil {
			r.Body.Close()
		}
		return nil, err
	}
	resp, err := s.base.RoundTrip(signed)
	again := r.Body == nil || r.Body == http.NoBody || r.GetBody != nil
	if err != nil || resp.StatusCode != http.StatusUnauthorized || !again {
		return resp, err
	}
	s.installation.Forget()
	second := r.Clone(r.Context())
	if r.GetBody != nil {
		if second.Body, err = r.GetBody(); err != nil {
			return resp, nil //nolint:nilerr // the first answer is an answer
		}
	}
	if signed, err = s.sign(second, api); err != nil {
		return resp, nil //nolint:nilerr // likewise
	}
	resp.Body.Close()
	return s.base.RoundTrip(signed)
}

// sign returns a signed copy.
func (s *signer) sign(r *http.Request, api bool) (*http.Request, error) {
	user, token, err := s.installation.BasicAuth(r.Context())
	if err != nil {
		return nil, err
	}
	signed := r.Clone(r.Context())
	if api {
		signed.Header.Set("Authorization", "Bearer "+token)
	} else {
		signed.SetBasicAuth(user, token)
	}
	return signed, nil
}

// belongs reports whether a request goes to the API, or to the Git repositories that belong to it: github.com for
// api.github.com, NAME.ghe.com for api.NAME.ghe.com, and the same host for GitHub Enterprise Server.
func (i *Installation) belongs(r *http.Request) (api, git bool) {
	if r.URL.Scheme != "https" {
		return false, false
	}
	host := strings.ToLower(r.URL.Host)
	if i.api.Path == "" {
		site, _ := strings.CutPrefix(i.api.Host, "api.")
		return host == i.api.Host, host == site && site != i.api.Host
	}
	if host != i.api.Host {
		return false, false
	}
	api = r.URL.Path == i.api.Path || strings.HasPrefix(r.URL.Path, i.api.Path+"/") || strings.HasPrefix(r.URL.Path, "/api/")
	return api, !api
}
