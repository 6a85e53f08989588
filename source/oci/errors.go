package oci

import (
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"strings"

	"github.com/google/go-containerregistry/pkg/v1/remote/transport"

	"github.com/gitopskit/gitopskit/source"
)

// status gives an answer that is no success its class, with the registry's own
// code: many refuse what does not exist.
func status(err error) error {
	var answer *transport.Error
	if !errors.As(err, &answer) {
		var wrapped *url.Error
		if errors.As(err, &wrapped) {
			err = wrapped.Err // without the URL
		}
		return fmt.Errorf("%w: %w", source.ErrUnavailable, err)
	}
	class := source.ErrUnavailable
	switch answer.StatusCode {
	case http.StatusUnauthorized, http.StatusForbidden:
		class = source.ErrUnauthorized
	case http.StatusNotFound, http.StatusGone:
		class = source.ErrNotFound
	}
	text := fmt.Sprintf("%d %s", answer.StatusCode, http.StatusText(answer.StatusCode))
	if len(answer.Errors) > 0 {
		text += ": " + short(string(answer.Errors[0].Code)+" "+answer.Errors[0].Message)
	}
	asked := ""
	if answer.Request != nil {
		asked = " to " + answer.Request.Method + " " + (&url.URL{Path: answer.Request.URL.Path}).String()
	}
	return fmt.Errorf("%w: the registry answered %s%s", class, text, asked)
}

// short is a text of the server that fits into an error.
func short(s string) string {
	const most = 200
	if len(s) > most {
		s = s[:most] + "..."
	}
	return strings.ToValidUTF8(strings.TrimSpace(strings.Map(printable, s)), "?")
}
