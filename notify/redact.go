package notify

import (
	"encoding/base64"
	"errors"
	"net/url"
	"slices"
	"strings"
)

// redactedError shows the text of an error without secrets. It does not unwrap, since what is inside may show them;
// errors.Is still finds what is inside.
type redactedError struct {
	text string
	err  error
}

func (e *redactedError) Error() string { return e.text }

// Is reports whether the hidden error is target.
func (e *redactedError) Is(target error) bool { return errors.Is(e.err, target) }

// Timeout reports whether the hidden error is a timeout.
func (e *redactedError) Timeout() bool {
	t, ok := errors.AsType[interface {
		error
		Timeout() bool
	}](e.err)
	return ok && t.Timeout()
}

// redact hides the secrets in the text of err.
func redact(err error, secrets []string) error {
	text := err.Error()
	for _, s := range secrets {
		text = strings.ReplaceAll(text, s, "[redacted]")
	}
	return &redactedError{text: shorten(text, 512), err: err}
}

// secretsOf lists what must not be shown of an address, of headers and of other secrets, the longest first. Parts of
// less than four bytes are no secrets, and hiding them would garble the text.
func secretsOf(u *url.URL, headers map[string]string, others []string) []string {
	list := append([]string{u.String(), u.RequestURI(), u.EscapedPath(), u.Path, u.RawQuery}, others...)
	for segment := range strings.SplitSeq(u.Path, "/") {
		list = append(list, segment)
	}
	for _, values := range u.Query() {
		list = append(list, values...)
	}
	list = append(list, userinfo(u)...)
	for _, value := range headers {
		list = append(list, value)
		if _, credentials, found := strings.Cut(value, " "); found { // Bearer, Basic
			list = append(list, credentials)
		}
	}
	list = slices.DeleteFunc(list, func(s string) bool { return len(s) < 4 })
	slices.SortFunc(list, func(a, b string) int {
		if len(a) != len(b) {
			return len(b) - len(a)
		}
		return strings.Compare(a, b)
	})
	return slices.Compact(list)
}

// userinfo lists the user and password in a URL, and the form they have in a header.
func userinfo(u *url.URL) []string {
	if u.User == nil {
		return nil
	}
	password, _ := u.User.Password()
	basic := base64.StdEncoding.EncodeToString([]byte(u.User.Username() + ":" + password))
	return []string{u.User.String(), u.User.Username(), password, basic}
}
