package verify_test

import (
	"bytes"
	"errors"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/gitopskit/gitopskit/internal/gitserver"
	"github.com/gitopskit/gitopskit/source"
	"github.com/gitopskit/gitopskit/source/git"
	"github.com/gitopskit/gitopskit/source/verify"
)

// repository is a server whose branch main has one commit, signed by signer.
func repository(t *testing.T, signer git.Signer) (*gitserver.Server, string, string) {
	t.Helper()
	srv, err := gitserver.New(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	srv.Writable = true
	srv.Config = []string{"receive.fsckObjects=true"}
	web := httptest.NewServer(srv)
	t.Cleanup(web.Close)
	url := web.URL + "/app.git"
	if err := srv.Init("app.git"); err != nil {
		t.Fatal(err)
	}
	src := newSource(t, url, &git.Options{Ref: git.Ref{Branch: "main"}})
	made, err := src.Commit(t.Context(), source.Revision{}, git.Change{
		Author: git.Person{Name: "A", Email: "a@example.com"}, Message: "first", Files: map[string][]byte{"a": []byte("1")}, Signer: signer,
	})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := src.Push(t.Context(), made, &git.PushOptions{Force: true}); err != nil {
		t.Fatal(err)
	}
	return srv, url, made.Revision.Digest.Encoded()
}

func newSource(t *testing.T, url string, opts *git.Options) *git.Source {
	t.Helper()
	src, err := git.New(url, opts)
	if err != nil {
		t.Fatal(err)
	}
	return src
}

func fetch(t *testing.T, src *git.Source) (*source.Artifact, error) {
	t.Helper()
	rev, err := src.Resolve(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	a, err := src.Fetch(t.Context(), rev)
	if err == nil {
		t.Cleanup(func() { _ = a.Close() })
	}
	return a, err
}

// tag makes an annotated tag, signed if there is a signer.
func tag(t *testing.T, srv *gitserver.Server, name, commit string, signer *verify.Signer) {
	t.Helper()
	text := "object " + commit + "\ntype commit\ntag " + name + "\ntagger A <a@example.com> 1700000000 +0000\n\nrelease\n"
	if signer != nil {
		text += string(sign(t, signer, text))
	}
	id, err := srv.Git("app.git", text, "mktag")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := srv.Git("app.git", "", "update-ref", "refs/tags/"+name, id); err != nil {
		t.Fatal(err)
	}
}

func TestGitModes(t *testing.T) {
	author, releaser := newSSH(t), newSSH(t)
	pgp, _ := newPGP(t, ed25519PGP(), "")
	signer, tagger := newSigner(t, author.private, ""), newSigner(t, pgp.private, "")
	srv, url, id := repository(t, signer)
	tag(t, srv, "signed", id, tagger)
	tag(t, srv, "plain", id, nil)
	tag(t, srv, "foreign", id, newSigner(t, releaser.private, ""))
	if err := srv.Tag("app.git", "light", id); err != nil {
		t.Fatal(err)
	}
	// A tag object that was signed under another name.
	other, err := srv.Git("app.git", "", "rev-parse", "refs/tags/signed")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := srv.Git("app.git", "", "update-ref", "refs/tags/renamed", other); err != nil {
		t.Fatal(err)
	}
	both := keyring(t, map[string][]byte{"a.sshpub": author.public, "b.asc": pgp.public})
	onlyTagger := keyring(t, map[string][]byte{"b.asc": pgp.public})
	for name, test := range map[string]struct {
		ref  git.Ref
		keys *verify.Keyring
		mode git.VerifyMode
		want string // the signers, or an error
	}{
		"branch":              {git.Ref{Branch: "main"}, both, "", signer.String()},
		"head":                {git.Ref{Branch: "main"}, both, "head", signer.String()},
		"HEAD of a tag":       {git.Ref{Tag: "plain"}, both, git.VerifyHEAD, signer.String()},
		"tag":                 {git.Ref{Tag: "signed"}, both, git.VerifyTag, tagger.String()},
		"tag by name":         {git.Ref{Name: "refs/tags/signed"}, both, git.VerifyTag, tagger.String()},
		"tag only":            {git.Ref{Tag: "signed"}, onlyTagger, git.VerifyTag, tagger.String()},
		"both":                {git.Ref{Tag: "signed"}, both, git.VerifyTagAndHEAD, tagger.String() + " " + signer.String()},
		"both, commit not":    {git.Ref{Tag: "signed"}, onlyTagger, git.VerifyTagAndHEAD, "error: commit " + id},
		"both, tag not":       {git.Ref{Tag: "plain"}, both, git.VerifyTagAndHEAD, "error: tag plain: source: unverified: it is not signed"},
		"unsigned tag":        {git.Ref{Tag: "plain"}, both, git.VerifyTag, "error: it is not signed"},
		"foreign tag":         {git.Ref{Tag: "foreign"}, both, git.VerifyTag, "error: nobody trusts"},
		"lightweight tag":     {git.Ref{Tag: "light"}, both, git.VerifyTag, "error: no annotated tag"},
		"tag of another name": {git.Ref{Tag: "renamed"}, both, git.VerifyTag, "error: no annotated tag"},
		"foreign commit":      {git.Ref{Branch: "main"}, onlyTagger, "", "error: commit " + id},
	} {
		t.Run(name, func(t *testing.T) {
			a, err := fetch(t, newSource(t, url, &git.Options{Ref: test.ref, Verifier: test.keys, VerifyMode: test.mode}))
			if want, ok := strings.CutPrefix(test.want, "error: "); ok {
				var typed *source.Error
				if a != nil || !errors.Is(err, source.ErrUnverified) || !errors.As(err, &typed) || typed.Terminal() || !strings.Contains(err.Error(), want) {
					t.Errorf("got %v, want %q", err, want)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			var got []string
			for _, e := range a.Verified {
				got = append(got, e.Signer)
			}
			if strings.Join(got, " ") != test.want {
				t.Errorf("got %v, want %s", got, test.want)
			}
		})
	}
}

func TestGitOptions(t *testing.T) {
	keys := keyring(t, map[string][]byte{"a.sshpub": newSSH(t).public})
	for _, opts := range []git.Options{
		{VerifyMode: git.VerifyHEAD}, {Verifier: keys, VerifyMode: git.VerifyTag, Ref: git.Ref{Branch: "main"}},
		{Verifier: keys, VerifyMode: git.VerifyTagAndHEAD}, {Verifier: keys, VerifyMode: "tag"},
	} {
		if _, err := git.New("https://example.com/a.git", &opts); !errors.Is(err, source.ErrInvalidSpec) || !strings.Contains(err.Error(), "VerifyMode") {
			t.Errorf("%+v: %v", opts, err)
		}
	}
}

// Without a signature the commit is refused, and without a verifier nobody asks.
func TestGitUnsigned(t *testing.T) {
	key := newSSH(t)
	_, url, _ := repository(t, nil)
	keys := keyring(t, map[string][]byte{"a.sshpub": key.public})
	if a, err := fetch(t, newSource(t, url, &git.Options{Verifier: keys})); a != nil || !errors.Is(err, source.ErrUnverified) || !bytes.Contains([]byte(err.Error()), []byte("not signed")) {
		t.Errorf("unsigned: %v", err)
	}
	a, err := fetch(t, newSource(t, url, nil))
	if err != nil || len(a.Verified) != 0 {
		t.Errorf("nobody asks: %v", err)
	}
}
