package oci_test

import (
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/gitopskit/gitopskit/internal/registry"
	"github.com/gitopskit/gitopskit/source"
	"github.com/gitopskit/gitopskit/source/oci"
	"github.com/gitopskit/gitopskit/source/sourcetest"
)

func TestSource(t *testing.T) {
	srv, url := newRegistry(t)
	digest := srv.PutImage("org/app", nil, content(t, map[string]string{"app.yaml": "a", "dir/b.yaml": "b"}))
	srv.Tag("org/app", digest, "latest", "1.0.0")
	for _, ref := range []oci.Ref{{}, {Tag: "1.0.0"}, {SemVer: "1.x"}, {Digest: digest}} {
		if err := sourcetest.TestSource(t.Context(), open(t, url, &oci.Options{Ref: ref}), "app.yaml", "dir/b.yaml"); err != nil {
			t.Errorf("%v: %v", ref, err)
		}
	}
}

func TestRefs(t *testing.T) {
	srv, url := newRegistry(t)
	want := map[string]string{}
	for _, tag := range []string{"latest", "1.0.0", "v1.2.0", "1.10.0", "2.0.0", "1.11.0-rc.1", "app-3.0.0", "1.5", "junk", "1.9.0_b1"} {
		want[tag] = put(t, srv, "of "+tag, tag)
	}
	for _, test := range []struct {
		ref oci.Ref
		tag string
	}{
		{oci.Ref{}, "latest"},
		{oci.Ref{Tag: "junk"}, "junk"},
		{oci.Ref{SemVer: ">=1.0.0 <2.0.0"}, "1.10.0"},
		{oci.Ref{SemVer: "~1.2.0"}, "v1.2.0"},
		{oci.Ref{SemVer: ">=1.0.0-0 <2.0.0-0"}, "1.11.0-rc.1"},
		{oci.Ref{SemVer: "*"}, "2.0.0"},
		{oci.Ref{SemVer: "*", Filter: `^v`}, "v1.2.0"},
	} {
		t.Run(test.ref.String()+test.ref.Filter, func(t *testing.T) {
			a := get(t, open(t, url, &oci.Options{Ref: test.ref}))
			if got := a.Revision.String(); got != test.tag+"@"+want[test.tag] {
				t.Errorf("revision %s, want %s@%s", got, test.tag, want[test.tag])
			}
			if got := text(t, a, "app.yaml"); got != "of "+test.tag {
				t.Errorf("content %q", got)
			}
		})
	}
	pinned := get(t, open(t, url, &oci.Options{Ref: oci.Ref{Digest: want["1.0.0"]}}))
	if pinned.Revision.String() != want["1.0.0"] || text(t, pinned, "app.yaml") != "of 1.0.0" {
		t.Errorf("pinned: %s", pinned.Revision)
	}
	err := try(t, open(t, url, &oci.Options{Ref: oci.Ref{SemVer: ">=3", Filter: "^1"}}), source.ErrNotFound)
	if !strings.Contains(err.Error(), `">=3"`) || !strings.Contains(err.Error(), `"^1"`) {
		t.Errorf("the error does not name range and filter: %v", err)
	}
	refuses(t, open(t, url, &oci.Options{Ref: oci.Ref{Tag: "none"}}), source.ErrNotFound)
	refuses(t, open(t, strings.TrimSuffix(url, "app")+"none", nil), source.ErrNotFound)
}

// Charts have "+" in their versions, which no tag can hold.
func TestRefOfChart(t *testing.T) {
	srv, url := newRegistry(t)
	put(t, srv, "a", "1.0.0")
	d := srv.PutImage("org/app", nil, registry.Layer{MediaType: oci.ChartMediaType, Data: archive(t, map[string]string{"app/Chart.yaml": ""})})
	srv.Tag("org/app", d, "1.1.0_build.2")
	a := get(t, open(t, url, &oci.Options{Ref: oci.Ref{SemVer: "1.x"}, Layer: oci.Layer{MediaType: oci.ChartMediaType}}))
	if a.Revision.Ref != "1.1.0_build.2" {
		t.Errorf("revision %s", a.Revision)
	}
}

// What was resolved is fetched, also when the tag moved in between.
func TestFetchIsExact(t *testing.T) {
	srv, url := newRegistry(t)
	put(t, srv, "old", "latest")
	repo := open(t, url, nil)
	rev, err := repo.Resolve(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	put(t, srv, "new", "latest")
	a, err := repo.Fetch(t.Context(), rev)
	if err != nil {
		t.Fatal(err)
	}
	defer a.Close()
	if got := text(t, a, "app.yaml"); got != "old" || a.Revision != rev {
		t.Errorf("%s is %q", a.Revision, got)
	}
}

// A poll of an unchanged tag is one HEAD, whatever the registry wants first.
func TestPollIsOneRequest(t *testing.T) {
	for _, bearer := range []bool{false, true} {
		srv := registry.New()
		srv.Username, srv.Password, srv.Bearer = "me", "secret", bearer
		url := serve(t, srv)
		put(t, srv, "a", "latest")
		repo := open(t, url, &oci.Options{Client: oci.Client{Keychain: login{"me", "secret"}}})
		for range 3 {
			if _, err := repo.Resolve(t.Context()); err != nil {
				t.Fatal(err)
			}
			if n := srv.Count("", ""); srv.Count("HEAD", "/manifests/latest") != 1 || n != 1 && srv.Count("GET", "/v2/") == 0 {
				t.Errorf("bearer %v: %d requests: %v", bearer, n, srv.Requests())
			}
			srv.ResetRequests()
		}
	}
}

// Registries that do not know HEAD, or break it, are asked for the manifest.
func TestNoHead(t *testing.T) {
	srv := registry.New()
	srv.NoHead = true
	url := serve(t, srv)
	digest := put(t, srv, "a", "latest")
	rev, err := open(t, url, nil).Resolve(t.Context())
	if err != nil || rev.Digest.String() != digest {
		t.Errorf("%s, %v", rev, err)
	}
}

func TestTags(t *testing.T) {
	srv := registry.New()
	srv.PageSize = 100
	url := serve(t, srv)
	var want []string
	for i := range 1050 {
		want = append(want, fmt.Sprintf("1.%04d", i))
	}
	put(t, srv, "a", want...)
	repo := open(t, url, nil)
	got, err := repo.Tags(t.Context())
	if err != nil || !cmp.Equal(got, want) {
		t.Errorf("%d tags, %v", len(got), err)
	}
	_, err = open(t, url, &oci.Options{Limits: source.Limits{Files: 500}}).Tags(t.Context())
	if !errors.Is(err, source.ErrLimit) {
		t.Errorf("more tags than the limit: %v", err)
	}
}

func TestMetadata(t *testing.T) {
	srv, url := newRegistry(t)
	annotations := map[string]string{oci.AnnotationRevision: "main@sha1:1", oci.AnnotationSource: "https://example.com/app", "own": "1"}
	srv.Tag("org/app", srv.PutImage("org/app", annotations, content(t, map[string]string{"a": ""})), "latest")
	if diff := cmp.Diff(annotations, get(t, open(t, url, nil)).Metadata); diff != "" {
		t.Error(diff)
	}
}

func TestNewRefuses(t *testing.T) {
	digest := registry.Digest(nil)
	for _, test := range []struct {
		name string
		url  string
		opts *oci.Options
		want []string
	}{
		{"tag in the name", "oci://example.com/org/app:1.0", nil, []string{`remove ":1.0"`}},
		{"digest in the name", "example.com/app@" + digest, nil, []string{"remove \"@sha256:"}},
		{"credentials", "oci://me:hunter2@example.com/app", nil, []string{"Options.Keychain"}},
		{"another scheme", "https://example.com/app", nil, []string{"oci://host/path"}},
		{"no host", "app", nil, []string{"no host"}},
		{"upper case", "oci://example.com/App", nil, []string{"malformed"}},
		{"two of a ref", "oci://example.com/app", &oci.Options{Ref: oci.Ref{Tag: "a", SemVer: "1"}}, []string{"more than one"}},
		{"everything at once", "oci://example.com/app", &oci.Options{
			Ref: oci.Ref{SemVer: "x y", Filter: "("}, Layer: oci.Layer{Operation: 7}, Platform: "linux",
			Client: oci.Client{CAs: []byte("x")}, Limits: source.Limits{File: -5},
		}, []string{"Ref.SemVer", "Ref.Filter", "Layer.Operation", "Platform", "CAs", "limit File"}},
		{"filter alone", "oci://example.com/app", &oci.Options{Ref: oci.Ref{Filter: "a"}}, []string{"without Ref.SemVer"}},
		{"bad tag", "oci://example.com/app", &oci.Options{Ref: oci.Ref{Tag: "a/b"}}, []string{"not a tag"}},
		{"short digest", "oci://example.com/app", &oci.Options{Ref: oci.Ref{Digest: "sha256:12"}}, []string{"64 hexadecimal"}},
	} {
		t.Run(test.name, func(t *testing.T) {
			_, err := oci.New(test.url, test.opts)
			if !errors.Is(err, source.ErrInvalidSpec) {
				t.Fatalf("error %v", err)
			}
			for _, want := range test.want {
				if !strings.Contains(err.Error(), want) {
					t.Errorf("%v does not say %q", err, want)
				}
			}
			if strings.Contains(err.Error(), "hunter2") {
				t.Errorf("the password is in %v", err)
			}
		})
	}
}

func FuzzNew(f *testing.F) {
	f.Add("oci://example.com/org/app", "1.0", "", "")
	f.Add("example.com:5000/app", "", "1.x", "^v")
	f.Add("oci://me:secret@example.com/app:1", "", "", "(")
	f.Fuzz(func(t *testing.T, url, tag, semver, filter string) {
		repo, err := oci.New(url, &oci.Options{Ref: oci.Ref{Tag: tag, SemVer: semver, Filter: filter}})
		if err != nil && !errors.Is(err, source.ErrInvalidSpec) {
			t.Fatal(err)
		}
		if err == nil && !strings.HasPrefix(repo.String(), "oci://") {
			t.Fatal(repo)
		}
	})
}
