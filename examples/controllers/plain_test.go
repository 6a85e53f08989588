package controllers_test

import (
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/gitopskit/gitopskit/examples/controllers/internal/app"
)

// TestPlainHTTP: with -insecure-allow-http=false no kind connects without TLS, and each says so.
func TestPlainHTTP(t *testing.T) {
	w := newWorld(t)
	var requests atomic.Int64
	server := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { requests.Add(1) }))
	t.Cleanup(server.Close)
	host := strings.TrimPrefix(server.URL, "http://")
	o := w.options()
	o.InsecureAllowHTTP = false
	w.run(all(), o)
	w.apply("apiVersion: v1\nkind: Secret\nmetadata: {name: keys}\nstringData: {accesskey: key-of-the-bucket, secretkey: secret-of-the-bucket}")
	w.apply("apiVersion: notification.toolkit.fluxcd.io/v1beta3\nkind: Provider\nmetadata: {name: hook}\nspec: {type: generic, address: URL}\n---\n"+
		"apiVersion: notification.toolkit.fluxcd.io/v1beta3\nkind: Alert\nmetadata: {name: all}\nspec: {providerRef: {name: hook}, eventSources: [{kind: GitRepository, name: '*'}]}", "URL", server.URL)
	for _, c := range []struct{ kind, name, version, fields string }{
		{"GitRepository", "git", "source.toolkit.fluxcd.io/v1", "url: URL/apps"},
		{"HelmRepository", "helm", "source.toolkit.fluxcd.io/v1", "url: URL"},
		{"HelmChart", "chart", "source.toolkit.fluxcd.io/v1", "chart: app, sourceRef: {kind: HelmRepository, name: helm}"},
		{"OCIRepository", "oci", "source.toolkit.fluxcd.io/v1", "url: oci://HOST/app, insecure: true"},
		{"Bucket", "bucket", "source.toolkit.fluxcd.io/v1", "endpoint: HOST, bucketName: apps, insecure: true, secretRef: {name: keys}"},
		{"ImageRepository", "image", "image.toolkit.fluxcd.io/v1", "image: HOST/app, insecure: true"},
	} {
		w.apply("apiVersion: "+c.version+"\nkind: "+c.kind+"\nmetadata: {name: "+c.name+"}\nspec: {interval: 1h, "+c.fields+"}", "URL", server.URL, "HOST", host)
		k := w.failed(c.kind+"/"+c.name, "InsecureConnectionsDisallowed", "use https")
		if s := condition(k, "Stalled"); s["status"] != "True" {
			t.Errorf("%s: Stalled %v", c.kind, s)
		}
	}
	w.told("all", "NotificationFailed", "use https")
	if n := requests.Load(); n > 0 {
		t.Errorf("%d requests without TLS", n)
	}
	t.Setenv("HTTPS_PROXY", "http://127.0.0.1:1")
	if err := app.Keep(t.Context(), w.config, all(), o); err == nil || !strings.Contains(err.Error(), "HTTPS_PROXY") {
		t.Errorf("a proxy without TLS: %v", err)
	}
}
