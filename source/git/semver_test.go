package git_test

import (
	"errors"
	"strings"
	"testing"

	"github.com/gitopskit/gitopskit/source"
	"github.com/gitopskit/gitopskit/source/git"
)

func TestSemVer(t *testing.T) {
	for _, v0 := range []bool{false, true} {
		srv, url := newServer(t)
		srv.ForceV0 = v0
		for _, name := range []string{"v1.0.0", "1.2.0", "v1.10.0", "2.0.0", "2.1.0-rc.1", "junk", "1.10", "v1.9.9"} {
			id := commit(t, srv, "main", map[string]string{"version": name})
			if err := srv.Tag("app.git", name, id); err != nil {
				t.Fatal(err)
			}
		}
		older := commit(t, srv, "main", map[string]string{"version": "older"})
		newer := commit(t, srv, "main", map[string]string{"version": "newer"})
		for name, id := range map[string]string{"3.0.0+b": older, "3.0.0+a": newer, "3.0.0": older} {
			if err := srv.Tag("app.git", name, id); err != nil {
				t.Fatal(err)
			}
		}
		if _, err := srv.AnnotatedTag("app.git", "4.0.0", older, "release"); err != nil {
			t.Fatal(err)
		}
		for within, want := range map[string]string{
			">=1.0.0 <1.5.0": "1.2.0", "~1.9": "v1.9.9", "1.x": "1.10", "<= 2.1.0": "2.0.0", ">=2.1.0-0 <3": "2.1.0-rc.1", "^3": "3.0.0+a", "*": "4.0.0",
		} {
			src := newSource(t, url+"/app.git", &git.Options{Ref: git.Ref{SemVer: within}})
			a := get(t, src)
			if a.Revision.Ref != want {
				t.Errorf("%s: got %s, want %s", within, a.Revision.Ref, want)
			}
			if got := a.Revision.Digest.Encoded(); got != run(t, srv, "rev-parse", a.Revision.Ref+"^{commit}") {
				t.Errorf("%s: commit %s", within, got)
			}
			if (a.Metadata[git.MetaTag] != "") != (want == "4.0.0") {
				t.Errorf("%s: metadata %v", within, a.Metadata)
			}
		}
		_, err := newSource(t, url+"/app.git", &git.Options{Ref: git.Ref{SemVer: ">=9"}}).Resolve(t.Context())
		if !errors.Is(err, source.ErrNotFound) || !strings.Contains(err.Error(), ">=9") {
			t.Errorf("no match: %v", err)
		}
	}
}

func TestSemVerRefuses(t *testing.T) {
	for _, ref := range []git.Ref{
		{SemVer: "newest"}, {SemVer: "1.x", Tag: "v1"}, {SemVer: "1.x", Branch: "main"}, {SemVer: "1.x", Commit: strings.Repeat("1", 40)}, {SemVer: "1.x", Name: "HEAD"},
	} {
		if _, err := git.New("https://example.com/a.git", &git.Options{Ref: ref}); !errors.Is(err, source.ErrInvalidSpec) {
			t.Errorf("%+v: %v", ref, err)
		}
	}
}

// A poll transfers the names of tags and no content.
func TestSemVerIsCheap(t *testing.T) {
	srv, url := newServer(t)
	srv.Config = []string{"uploadpack.allowFilter=true"}
	for _, name := range []string{"1.0.0+a", "1.0.0+b"} {
		id := commit(t, srv, "main", map[string]string{"big" + name: strings.Repeat(name, 1<<20)})
		if err := srv.Tag("app.git", name, id); err != nil {
			t.Fatal(err)
		}
	}
	src := newSource(t, url+"/app.git", &git.Options{Ref: git.Ref{SemVer: "*"}})
	rev, err := src.Resolve(t.Context())
	if err != nil || rev.Ref != "1.0.0+b" {
		t.Fatal(rev, err)
	}
	if got := srv.Traffic(); got.Sent > 4<<10 {
		t.Errorf("received %d bytes", got.Sent)
	}
}
