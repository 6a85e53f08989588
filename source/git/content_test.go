package git_test

import (
	"archive/tar"
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"math/rand/v2"
	"strings"
	"testing"
	"testing/fstest"

	"github.com/google/go-cmp/cmp"

	"github.com/gitopskit/gitopskit/internal/gitserver"
	"github.com/gitopskit/gitopskit/source"
	"github.com/gitopskit/gitopskit/source/git"
	"github.com/gitopskit/gitopskit/source/sourcetest"
)

// fill makes a repository with many similar files, so that packs have deltas,
// and with everything a tree can hold.
func fill(t testing.TB, srv *gitserver.Server) (head string) {
	t.Helper()
	commit(t, srv, "main", map[string]string{"old": "gone in the next commit"})
	random := rand.New(rand.NewPCG(1, 2))
	long := make([]byte, 20_000)
	for i := range long {
		long[i] = byte('a' + random.IntN(26))
	}
	c := gitserver.Change{Branch: "main", Message: "everything\n\nwith a body", Delete: []string{"old"}, Files: map[string]gitserver.File{
		"run.sh":     {Data: "#!/bin/sh\n", Mode: "100755"},
		"empty":      {},
		"binary":     {Data: "\x00\x01\xff\r\n"},
		"a.b":        {Data: "sorts between a and a/"},
		"a/file":     {Data: "1"},
		"a-b/file":   {Data: "2"},
		"ünï/çødé":   {Data: "unicode"},
		"x../y.yaml": {Data: "dots are characters"},
		"same/one":   {Data: "shared subtree"},
		"copy/one":   {Data: "shared subtree"},
	}}
	for i := range 30 {
		long[i*600] = '!'
		c.Files[fmt.Sprintf("similar/%02d.yaml", i)] = gitserver.File{Data: string(long)}
	}
	head, err := srv.CommitChange("app.git", c)
	if err != nil {
		t.Fatal(err)
	}
	run(t, srv, "repack", "-a", "-d", "-q", "-f", "--depth=20", "--window=20")
	return head
}

// archived is what git archive thinks a commit holds.
func archived(t testing.TB, srv *gitserver.Server, rev string) map[string]string {
	t.Helper()
	out := run(t, srv, "archive", "--format=tar", rev)
	files := map[string]string{}
	for r := tar.NewReader(strings.NewReader(out + "\n")); ; {
		h, err := r.Next()
		if errors.Is(err, io.EOF) {
			return files
		}
		if err != nil {
			t.Fatal(err)
		}
		if h.Typeflag != tar.TypeReg {
			continue
		}
		data, err := io.ReadAll(r)
		if err != nil {
			t.Fatal(err)
		}
		files[h.Name] = fmt.Sprintf("%v %q", h.Mode&0o100 != 0, data)
	}
}

// contents is what a file system holds, in the form of archived. It reads by
// Open, and checks that ReadFile agrees.
func contents(t testing.TB, fsys fs.FS) map[string]string {
	t.Helper()
	files := map[string]string{}
	err := fs.WalkDir(fsys, ".", func(name string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		f, err := fsys.Open(name)
		if err != nil {
			return err
		}
		defer f.Close()
		data, err := io.ReadAll(f)
		if err != nil {
			return err
		}
		info, err := d.Info()
		if err != nil {
			return err
		}
		if other, err := fs.ReadFile(fsys, name); err != nil || !bytes.Equal(data, other) || info.Size() != int64(len(data)) {
			return fmt.Errorf("%s: Open, ReadFile and Size disagree: %v", name, err)
		}
		files[name] = fmt.Sprintf("%v %q", info.Mode()&0o100 != 0, data)
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return files
}

// protocols runs a test against a server of today and one of yesterday.
func protocols(t *testing.T, f func(t *testing.T, srv *gitserver.Server, url string)) {
	for name, config := range map[string][]string{
		"v2":         nil,
		"v1":         {"protocol.version=1"},
		"v0":         {"v0"},
		"v0 any":     {"v0", "uploadpack.allowAnySHA1InWant=true"},
		"v0 filters": {"v0", "uploadpack.allowReachableSHA1InWant=true", "uploadpack.allowFilter=true"},
		"v2 filters": {"uploadpack.allowFilter=true"},
	} {
		t.Run(name, func(t *testing.T) {
			srv, url := newServer(t)
			if len(config) > 0 && config[0] == "v0" {
				srv.ForceV0, config = true, config[1:]
			}
			srv.Config = config
			f(t, srv, url+"/app.git")
		})
	}
}

func TestContentEqualsGitArchive(t *testing.T) {
	protocols(t, func(t *testing.T, srv *gitserver.Server, url string) {
		head := fill(t, srv)
		a := get(t, newSource(t, url, &git.Options{Ref: git.Ref{Branch: "main"}}))
		if got, want := a.Revision.String(), "main@sha1:"+head; got != want {
			t.Errorf("revision %s, want %s", got, want)
		}
		if diff := cmp.Diff(archived(t, srv, "main"), contents(t, a)); diff != "" {
			t.Error(diff)
		}
		if err := fstest.TestFS(a, "run.sh", "ünï/çødé", "similar/29.yaml"); err != nil {
			t.Error(err)
		}
	})
}

func TestSuite(t *testing.T) {
	srv, url := newServer(t)
	head := fill(t, srv)
	for _, ref := range []git.Ref{{}, {Commit: head}} {
		if err := sourcetest.TestSource(t.Context(), newSource(t, url+"/app.git", &git.Options{Ref: ref}), "run.sh", "a/file"); err != nil {
			t.Errorf("%v: %v", ref, err)
		}
	}
	srv.ForceV0 = true
	if err := sourcetest.TestSource(t.Context(), newSource(t, url+"/app.git", nil), "run.sh", "a/file"); err != nil {
		t.Errorf("v0: %v", err)
	}
}

// A working copy, read as a directory, has the content of the commit.
func TestDigestEqualsCheckout(t *testing.T) {
	srv, url := newServer(t)
	fill(t, srv)
	dir := t.TempDir()
	run(t, srv, "clone", "-q", ".", dir)
	rev, err := (&source.Dir{Path: dir}).Resolve(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	got, err := get(t, newSource(t, url+"/app.git", nil)).Digest(t.Context())
	if err != nil || got != rev.Digest {
		t.Errorf("digest %s, %v; the checkout has %s", got, err, rev.Digest)
	}
}

func TestMetadata(t *testing.T) {
	srv, url := newServer(t)
	head := fill(t, srv)
	got := get(t, newSource(t, url+"/app.git", nil)).Metadata
	want := map[string]string{
		git.MetaCommit: head, git.MetaTree: run(t, srv, "rev-parse", "main^{tree}"), git.MetaSubject: "everything",
		git.MetaAuthor: gitserver.Identity, git.MetaCommitter: gitserver.Identity,
		git.MetaAuthorDate: "2024-01-01T00:01:00Z", git.MetaCommitterDate: "2024-01-01T00:01:00Z",
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
}

func TestRefs(t *testing.T) {
	protocols(t, func(t *testing.T, srv *gitserver.Server, url string) {
		first := commit(t, srv, "main", map[string]string{"file": "first"})
		topic := commit(t, srv, "topic/x", map[string]string{"file": "topic"})
		pull := commit(t, srv, "tmp", map[string]string{"file": "pull"})
		run(t, srv, "update-ref", "refs/pull/1/head", pull)
		run(t, srv, "branch", "-q", "-D", "tmp")
		head := commit(t, srv, "main", map[string]string{"file": "head"})
		if err := srv.Tag("app.git", "light", first); err != nil {
			t.Fatal(err)
		}
		tagID, err := srv.AnnotatedTag("app.git", "app@1.0.0", first, "The release\n\nbody")
		if err != nil {
			t.Fatal(err)
		}
		run(t, srv, "tag", "-a", "-m", "a tag of a tag", "nested", "app@1.0.0")
		for _, test := range []struct {
			ref       git.Ref
			rev, file string
		}{
			{git.Ref{}, "main@sha1:" + head, "head"},
			{git.Ref{Branch: "topic/x"}, "topic/x@sha1:" + topic, "topic"},
			{git.Ref{Tag: "light"}, "light@sha1:" + first, "first"},
			{git.Ref{Tag: "app@1.0.0"}, "app@1.0.0@sha1:" + first, "first"},
			{git.Ref{Tag: "nested"}, "nested@sha1:" + first, "first"},
			{git.Ref{Name: "refs/tags/app@1.0.0^{}"}, "refs/tags/app@1.0.0@sha1:" + first, "first"},
			{git.Ref{Name: "refs/heads/main"}, "refs/heads/main@sha1:" + head, "head"},
			{git.Ref{Name: "HEAD"}, "HEAD@sha1:" + head, "head"},
			{git.Ref{Name: "refs/pull/1/head"}, "refs/pull/1/head@sha1:" + pull, "pull"},
			{git.Ref{Commit: first}, "sha1:" + first, "first"},
			{git.Ref{Commit: first, Branch: "main"}, "main@sha1:" + first, "first"},
			{git.Ref{Commit: topic, Branch: "topic/x"}, "topic/x@sha1:" + topic, "topic"},
		} {
			a := get(t, newSource(t, url, &git.Options{Ref: test.ref}))
			data, err := a.ReadFile("file")
			if a.Revision.String() != test.rev || string(data) != test.file || err != nil {
				t.Errorf("%v: %s %q %v, want %s %q", test.ref, a.Revision, data, err, test.rev, test.file)
			}
			if again, err := source.ParseRevision(test.rev); err != nil || again != a.Revision {
				t.Errorf("%v: the revision parses back as %+v, %v", test.ref, again, err)
			}
			if test.ref.Tag == "app@1.0.0" {
				if a.Metadata[git.MetaTag] != tagID || a.Metadata[git.MetaTagSubject] != "The release" || a.Metadata[git.MetaTagger] != gitserver.Identity {
					t.Errorf("metadata of the tag: %v", a.Metadata)
				}
			}
		}
	})
}

// What was resolved is what is fetched, also when the branch has moved on,
// and also when it was rewritten.
func TestFetchIsExact(t *testing.T) {
	protocols(t, func(t *testing.T, srv *gitserver.Server, url string) {
		commit(t, srv, "main", map[string]string{"file": "root"})
		commit(t, srv, "main", map[string]string{"file": "old"})
		src := newSource(t, url, &git.Options{Ref: git.Ref{Branch: "main"}})
		rev, err := src.Resolve(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		for i := range 3 {
			commit(t, srv, "main", map[string]string{"file": fmt.Sprint("new ", i)})
		}
		a := fetch(t, src, rev)
		if data, err := a.ReadFile("file"); err != nil || string(data) != "old" || a.Revision != rev {
			t.Errorf("fetched %q of %s, %v", data, a.Revision, err)
		}
	})
}

// A server of protocol version 0 that gives out refs only is asked for more
// and more history; the artifact says so.
func TestFallbackDeepens(t *testing.T) {
	srv, url := newServer(t)
	srv.ForceV0 = true
	old := commit(t, srv, "main", map[string]string{"file": "old", "n": "0"})
	for i := range 70 {
		commit(t, srv, "main", map[string]string{"n": fmt.Sprint(i)})
	}
	for _, ref := range []git.Ref{{Commit: old}, {Commit: old, Branch: "main"}} {
		a := get(t, newSource(t, url+"/app.git", &git.Options{Ref: ref}))
		if data, err := a.ReadFile("file"); err != nil || string(data) != "old" {
			t.Errorf("%v: %q, %v", ref, data, err)
		}
		if !strings.Contains(a.Metadata[git.MetaFallback], "by its hash") {
			t.Errorf("%v: metadata %v", ref, a.Metadata)
		}
	}
}

func TestCommitNotOnBranch(t *testing.T) {
	protocols(t, func(t *testing.T, srv *gitserver.Server, url string) {
		commit(t, srv, "main", map[string]string{"file": "1"})
		other, err := srv.CommitChange("app.git", gitserver.Change{Branch: "other", Root: true, Message: "unrelated"})
		if err != nil {
			t.Fatal(err)
		}
		src := newSource(t, url, &git.Options{Ref: git.Ref{Branch: "main", Commit: other}})
		rev, err := src.Resolve(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		_, err = src.Fetch(t.Context(), rev)
		if !errors.Is(err, source.ErrNotFound) || !strings.Contains(err.Error(), other) || !strings.Contains(err.Error(), "main") {
			t.Errorf("got %v, want ErrNotFound naming both", err)
		}
	})
}

func TestMissing(t *testing.T) {
	protocols(t, func(t *testing.T, srv *gitserver.Server, url string) {
		if err := srv.Init("app.git"); err != nil {
			t.Fatal(err)
		}
		_, err := newSource(t, url, nil).Resolve(t.Context())
		if !errors.Is(err, source.ErrNotFound) || !strings.Contains(err.Error(), "repository is empty") {
			t.Errorf("empty repository: %v", err)
		}
		commit(t, srv, "main", map[string]string{"file": "1"})
		for _, ref := range []git.Ref{{Branch: "nope"}, {Tag: "nope"}, {Name: "refs/pull/9/head"}, {Branch: "mai"}} {
			_, err := newSource(t, url, &git.Options{Ref: ref}).Resolve(t.Context())
			if !errors.Is(err, source.ErrNotFound) || !strings.Contains(err.Error(), url) || !strings.Contains(err.Error(), "(refs/") {
				t.Errorf("%v: got %v, want ErrNotFound with URL and ref", ref, err)
			}
		}
		_, err = newSource(t, strings.Replace(url, "app.git", "none.git", 1), nil).Resolve(t.Context())
		if !errors.Is(err, source.ErrNotFound) {
			t.Errorf("missing repository: %v", err)
		}
	})
}

func TestTagOfTree(t *testing.T) {
	srv, url := newServer(t)
	commit(t, srv, "main", map[string]string{"file": "1"})
	run(t, srv, "tag", "tree", "main^{tree}")
	src := newSource(t, url+"/app.git", &git.Options{Ref: git.Ref{Tag: "tree"}})
	rev, err := src.Resolve(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	_, err = src.Fetch(t.Context(), rev)
	if !errors.Is(err, source.ErrInvalidSpec) || !strings.Contains(err.Error(), "is a tree, not a commit") {
		t.Errorf("got %v", err)
	}
}

// A poll of a repository with thousands of refs is one small request.
func TestResolveIsCheap(t *testing.T) {
	srv, url := newServer(t)
	head := commit(t, srv, "main", map[string]string{"file": "1"})
	var in strings.Builder
	for i := range 2000 {
		fmt.Fprintf(&in, "create refs/heads/branch-%d %s\n", i, head)
	}
	if _, err := srv.Git("app.git", in.String(), "update-ref", "--stdin"); err != nil {
		t.Fatal(err)
	}
	src := newSource(t, url+"/app.git", &git.Options{Ref: git.Ref{Branch: "main"}})
	for _, want := range []int{2, 1} {
		srv.ResetTraffic()
		if _, err := src.Resolve(t.Context()); err != nil {
			t.Fatal(err)
		}
		if got := srv.Traffic(); got.Requests != want || got.Sent > 1024 {
			t.Errorf("%d requests, %d bytes received; want %d requests", got.Requests, got.Sent, want)
		}
	}
	// The server is downgraded: what was remembered about it is forgotten.
	srv.ForceV0 = true
	if rev, err := src.Resolve(t.Context()); err != nil || rev.String() != "main@sha1:"+head {
		t.Errorf("after the downgrade: %v, %v", rev, err)
	}
	srv.ResetTraffic()
	pin := newSource(t, url+"/app.git", &git.Options{Ref: git.Ref{Commit: head}})
	if _, err := pin.Resolve(t.Context()); err != nil || srv.Traffic().Requests != 0 {
		t.Errorf("a pinned commit cost %d requests, %v", srv.Traffic().Requests, err)
	}
}

func TestCommitPinIsShallow(t *testing.T) {
	srv, url := newServer(t)
	var pinned string
	for i := range 40 {
		hash := commit(t, srv, "main", map[string]string{fmt.Sprintf("dir/%d", i%5): strings.Repeat(fmt.Sprint(rand.Int64()), 500)})
		if i == 20 {
			pinned = hash
		}
	}
	src := newSource(t, url+"/app.git", &git.Options{Ref: git.Ref{Commit: pinned}})
	a := get(t, src)
	if diff := cmp.Diff(archived(t, srv, pinned), contents(t, a)); diff != "" {
		t.Error(diff)
	}
	shallow := srv.Traffic().Sent
	srv.ForceV0 = true
	srv.ResetTraffic()
	get(t, newSource(t, url+"/app.git", &git.Options{Ref: git.Ref{Commit: pinned}}))
	if full := srv.Traffic().Sent; shallow*4 > full {
		t.Errorf("%d bytes by hash, %d with history", shallow, full)
	}
}
