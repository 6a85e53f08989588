package git

import (
	"errors"
	"fmt"
	"net/url"
	"regexp"
	"strings"
)

// scpForm is "user@host:path", which git takes for ssh.
var scpForm = regexp.MustCompile(`^(?:([^@/:\s]+)@)?([^@/:\s]+|\[[0-9a-fA-F:]+\]):([^\s]+)$`)

// parseURL accepts http, https and ssh URLs without secrets.
func parseURL(raw string) (*url.URL, error) {
	if m := scpForm.FindStringSubmatch(raw); m != nil && !strings.HasPrefix(m[3], "//") {
		user := m[1]
		if user == "" {
			user = "git"
		}
		return nil, fmt.Errorf("the URL has git's short form: write ssh://%s@%s/%s", user, m[2], strings.TrimPrefix(m[3], "/"))
	}
	u, err := url.Parse(raw)
	if err != nil {
		// The parser's own message repeats the URL, which may hold a password.
		return nil, errors.New("the URL is malformed")
	}
	var errs []error
	switch u.Scheme {
	case "http", "https":
		if u.User != nil {
			errs = append(errs, errors.New("the URL contains credentials: move them to Options.Auth as git.Basic"))
		}
	case "ssh":
		if _, ok := u.User.Password(); ok {
			errs = append(errs, errors.New("the URL contains a password: use a key in Options.Auth as git.SSH"))
		}
	default:
		return nil, fmt.Errorf("the URL's scheme is %q: want https, http or ssh", u.Scheme)
	}
	if u.Hostname() == "" {
		errs = append(errs, errors.New("the URL has no host"))
	}
	if strings.HasPrefix(u.Hostname(), "-") || strings.HasPrefix(u.User.Username(), "-") {
		errs = append(errs, errors.New("the URL's host or user starts with a dash"))
	}
	if strings.Trim(u.Path, "/") == "" {
		errs = append(errs, errors.New("the URL has no path to a repository"))
	}
	if u.RawQuery != "" || u.ForceQuery || u.Fragment != "" {
		errs = append(errs, errors.New("the URL has a query or a fragment, which Git cannot send"))
	}
	if strings.ContainsFunc(u.Path, func(r rune) bool { return r < ' ' || r == 0x7f }) {
		errs = append(errs, errors.New("the URL's path contains control characters"))
	}
	return u, errors.Join(errs...)
}

// redactRaw shows a URL that may not even parse, without its credentials,
// query and fragment.
func redactRaw(raw string) string {
	if u, err := url.Parse(raw); err == nil && u.Host != "" {
		shown := &url.URL{Scheme: u.Scheme, Host: u.Host, Path: u.Path}
		if u.Scheme == "ssh" && u.User != nil {
			shown.User = url.User(u.User.Username())
		}
		return shown.String()
	}
	raw, _, _ = strings.Cut(raw, "?")
	if i := strings.LastIndexByte(raw, '@'); i >= 0 {
		raw = raw[i+1:]
	}
	return printable([]byte(raw))
}
