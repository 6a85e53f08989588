package helmrepo_test

import (
	"context"
	"errors"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/gitopskit/gitopskit/internal/registry"
	"github.com/gitopskit/gitopskit/source"
	"github.com/gitopskit/gitopskit/source/helmrepo"
	"github.com/gitopskit/gitopskit/source/oci"
)

func insecure() *helmrepo.Options { return &helmrepo.Options{Client: oci.Client{Insecure: true}} }

// serveOCI returns a registry with versions of the chart app.
func serveOCI(t testing.TB, srv *registry.Server, versions ...string) string {
	t.Helper()
	for _, v := range versions {
		d := srv.PutManifest("charts/app", &registry.Image{
			ConfigType: "application/vnd.cncf.helm.config.v1+json", Annotations: map[string]string{"of": v},
			Layers: []registry.Layer{{MediaType: "application/other"}, {MediaType: oci.ChartMediaType, Data: pack(t, "app", v, "of "+v)}},
		})
		srv.Tag("charts/app", d, strings.ReplaceAll(v, "+", "_"))
	}
	web := httptest.NewServer(srv)
	t.Cleanup(web.Close)
	return "oci://" + web.Listener.Addr().String() + "/charts"
}

func TestOCI(t *testing.T) {
	srv := registry.New()
	srv.Username, srv.Password = "me", "secret"
	url := serveOCI(t, srv, "1.0.0", "1.2.0+b.1", "1.1.0", "2.0.0-rc.1")
	opts := insecure()
	opts.Username, opts.Password = "me", "secret"
	r := open(t, url, opts)
	for version, want := range map[string]string{"": "1.2.0+b.1", "~1.1": "1.1.0", "1.0.0": "1.0.0", "1.2.0+b.1": "1.2.0+b.1", ">=2.0.0-0": "2.0.0-rc.1"} {
		a := get(t, find(t, r, "app", version))
		if a.Revision.Ref != want || content(t, a) != "of "+want || !cmp.Equal(a.Metadata, map[string]string{"of": want}) {
			t.Errorf("%q: %s %v", version, a.Revision, a.Metadata)
		}
	}
	srv.ResetRequests()
	if _, err := find(t, r, "app", "1.0.0").Resolve(t.Context()); err != nil || srv.Count("", "/tags/") > 0 {
		t.Errorf("a version in full listed tags: %v", err)
	}
	refuses(t, find(t, r, "app", "9.x"), source.ErrNotFound)
	refuses(t, find(t, r, "none", "1.0.0"), source.ErrNotFound)
	refuses(t, find(t, open(t, url, insecure()), "app", ""), source.ErrUnauthorized)

	opts.Verifier = oci.VerifierFunc(func(context.Context, *oci.Subject) ([]source.Evidence, error) {
		return nil, errors.New("no")
	})
	refuses(t, find(t, open(t, url, opts), "app", "1.0.0"), source.ErrUnverified)
	opts.Verifier = oci.VerifierFunc(func(context.Context, *oci.Subject) ([]source.Evidence, error) {
		return []source.Evidence{{Kind: "test"}}, nil
	})
	if a := get(t, find(t, open(t, url, opts), "app", "1.0.0")); len(a.Verified) != 1 {
		t.Errorf("evidence %v", a.Verified)
	}
}

// A package of more than the limit of one file is no problem; one of more than
// its own is.
func TestOCILimits(t *testing.T) {
	url := serveOCI(t, registry.New(), "1.0.0")
	opts := insecure()
	opts.Limits = source.Limits{File: 120, Download: 100_000}
	get(t, find(t, open(t, url, opts), "app", "1.0.0"))
	opts.Limits = source.Limits{Download: 100}
	refuses(t, find(t, open(t, url, opts), "app", "1.0.0"), source.ErrLimit)
}
