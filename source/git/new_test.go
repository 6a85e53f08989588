package git_test

import (
	"errors"
	"net/http"
	"net/url"
	"strings"
	"testing"

	"github.com/gitopskit/gitopskit/source"
	"github.com/gitopskit/gitopskit/source/git"
)

func TestNewRefuses(t *testing.T) {
	const hash = "5394cb7f48332b2de7c17dd8b8384bbc84b7e738"
	for _, test := range []struct {
		name, url string
		opts      *git.Options
		texts     []string
	}{
		{"scp", "git@example.com:org/app.git", nil, []string{"ssh://git@example.com/org/app.git"}},
		{"scp without user", "example.com:org/app.git", nil, []string{"ssh://git@example.com/org/app.git"}},
		{"file", "file:///srv/app.git", nil, []string{`scheme is "file"`}},
		{"git", "git://example.com/app.git", nil, []string{`scheme is "git"`}},
		{"helper", "ext::sh -c id", nil, []string{"URL"}},
		{"path", "/srv/app.git", nil, []string{"scheme"}},
		{"empty", "", nil, []string{"scheme"}},
		{"userinfo", "https://me:s3cret@example.com/app.git", nil, []string{"Options.Auth", "git.Basic"}},
		{"user", "https://s3cret@example.com/app.git", nil, []string{"Options.Auth"}},
		{"malformed", "https://me:s3cret@example.com:x/app.git%zz", nil, []string{"malformed"}},
		{"ssh password", "ssh://git:s3cret@example.com/app.git", nil, []string{"password", "git.SSH"}},
		{"ssh without auth", "ssh://git@example.com/app.git", nil, []string{"Options.Auth"}},
		{"option as host", "ssh://-oProxyCommand=id/app.git", nil, []string{"dash"}},
		{"query", "https://example.com/app.git?token=s3cret", nil, []string{"query"}},
		{"no host", "https:///app.git", nil, []string{"host"}},
		{"no path", "https://example.com/", nil, []string{"path"}},
		{"basic over ssh", "ssh://example.com/app.git", &git.Options{Auth: git.Basic{Username: "u"}}, []string{"git.SSH"}},
		{"ssh over https", "https://example.com/app.git", &git.Options{Auth: git.SSH{}}, []string{"git.Basic", "PrivateKey", "KnownHosts"}},
		{"password alone", "https://example.com/app.git", &git.Options{Auth: git.Basic{Password: "s3cret"}}, []string{"no user name"}},
		{"token line end", "https://example.com/app.git", &git.Options{Auth: git.Token("s3cret\n")}, []string{"trim"}},
		{"short hash", "https://example.com/app.git", &git.Options{Ref: git.Ref{Commit: hash[:10]}}, []string{"40 hexadecimal"}},
		{"two refs", "https://example.com/app.git", &git.Options{Ref: git.Ref{Branch: "a", Tag: "b"}}, []string{"more than one"}},
		{"tag and commit", "https://example.com/app.git", &git.Options{Ref: git.Ref{Tag: "b", Commit: hash}}, []string{"more than one"}},
		{"full branch", "https://example.com/app.git", &git.Options{Ref: git.Ref{Branch: "refs/heads/main"}}, []string{"Ref.Name"}},
		{"short name", "https://example.com/app.git", &git.Options{Ref: git.Ref{Name: "main"}}, []string{"refs/heads/main"}},
		{"option as ref", "https://example.com/app.git", &git.Options{Ref: git.Ref{Branch: "--upload-pack=id"}}, []string{"dash"}},
		{"ref with newline", "https://example.com/app.git", &git.Options{Ref: git.Ref{Branch: "a\n0000"}}, []string{"character"}},
		{"ref with slash", "https://example.com/app.git", &git.Options{Ref: git.Ref{Name: "refs/heads/a/"}}, []string{"slash"}},
		{"ref with dots", "https://example.com/app.git", &git.Options{Ref: git.Ref{Tag: "a..b"}}, []string{".."}},
		{"limits", "https://example.com/app.git", &git.Options{Limits: source.Limits{Files: -5}}, []string{"Unlimited"}},
		{"CAs", "https://example.com/app.git", &git.Options{CAs: []byte("x")}, []string{"CAs"}},
		{"transport", "https://example.com/app.git", &git.Options{Transport: http.DefaultTransport, CAs: []byte("x")}, []string{"Transport"}},
		{"symlinks", "https://example.com/app.git", &git.Options{Symlinks: 7}, []string{"policy"}},
		{"all at once", "ftp://example.com", &git.Options{Ref: git.Ref{Commit: "x"}, Limits: source.Limits{File: -9}}, []string{"scheme", "Ref.Commit", "limit File"}},
	} {
		src, err := git.New(test.url, test.opts)
		var terminal interface{ Terminal() bool }
		if src != nil || !errors.Is(err, source.ErrInvalidSpec) || !errors.As(err, &terminal) || !terminal.Terminal() {
			t.Errorf("%s: got %v, want a terminal ErrInvalidSpec", test.name, err)
			continue
		}
		for _, text := range test.texts {
			if !strings.Contains(err.Error(), text) {
				t.Errorf("%s: %v does not say %q", test.name, err, text)
			}
		}
		if strings.Contains(err.Error(), "s3cret") {
			t.Errorf("%s: the error contains the secret: %v", test.name, err)
		}
	}
}

func TestNewAccepts(t *testing.T) {
	for _, url := range []string{
		"https://example.com/org/app", "http://example.com:8080/app.git", "https://[::1]:8443/app.git", "https://example.com/with%20space/app.git",
	} {
		if _, err := git.New(url, nil); err != nil {
			t.Errorf("%s: %v", url, err)
		}
	}
}

func FuzzNew(f *testing.F) {
	f.Add("https://me:s3cret@example.com/app.git")
	f.Add("git@example.com:org/app.git")
	f.Add("ssh://git@[::1]:22/~me/app.git")
	f.Fuzz(func(t *testing.T, raw string) {
		src, err := git.New(raw, nil)
		if err == nil {
			u, parseErr := url.Parse(raw)
			if parseErr != nil || u.User != nil || u.Scheme != "http" && u.Scheme != "https" {
				t.Errorf("%q was accepted: %v", raw, src)
			}
			return
		}
		if !errors.Is(err, source.ErrInvalidSpec) {
			t.Errorf("%q: %v", raw, err)
		}
		if u, parseErr := url.Parse(raw); parseErr == nil {
			if pw, ok := u.User.Password(); ok && len(pw) > 8 && strings.Count(raw, pw) == 1 && strings.Contains(err.Error(), pw) {
				t.Errorf("%q: the error contains the password: %v", raw, err)
			}
		}
	})
}
