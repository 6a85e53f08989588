// Package workload has the applications of the benchmark: four objects each,
// in a registry of their own as a directory of manifests or as a chart, and
// the objects of Flux that deploy them.
package workload

import (
	"context"
	"embed"
	"encoding/json"
	"fmt"
	"io/fs"
	"maps"
	"net"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/gitopskit/gitopskit/internal/registry"
	"github.com/gitopskit/gitopskit/source"
	"github.com/gitopskit/gitopskit/source/chart"
	"github.com/gitopskit/gitopskit/source/oci"
)

//go:embed app
var app embed.FS

// Objects is how many objects an app has: ServiceAccount, Service, Deployment
// scaled to zero, and Ingress.
const Objects = 4

// Tag is the tag of every artifact; it moves from one version to the next.
const Tag = "latest"

// Kind says how apps are deployed.
type Kind string

// The kinds.
const (
	// Kustomize is an OCIRepository of manifests and a Kustomization each.
	Kustomize Kind = "kustomize"
	// Helm is an OCIRepository of a chart and a HelmRelease each.
	Helm Kind = "helm"
)

// Name is the name of an app.
func Name(i int) string { return fmt.Sprintf("app-%04d", i+1) }

// Repository has what the apps are deployed from. It is safe for concurrent
// use. Make one with Serve.
type Repository struct {
	// Host is the address of the registry, for controllers.
	Host string

	local    string
	registry *registry.Server
	server   *http.Server
}

// Serve starts an empty registry without credentials that listens on an
// address. Controllers reach it as host; empty is the address itself. It ends
// with Close.
func Serve(listen, host string) (*Repository, error) {
	l, err := net.Listen("tcp", listen)
	if err != nil {
		return nil, fmt.Errorf("registry: %w", err)
	}
	local := l.Addr().String()
	at, ok := l.Addr().(*net.TCPAddr)
	if ok && at.IP.IsUnspecified() {
		if host == "" {
			l.Close()
			return nil, fmt.Errorf("registry: nobody can reach %s: say by -registry-host under which name or address the controllers do", local)
		}
		local = net.JoinHostPort("localhost", strconv.Itoa(at.Port))
	}
	if host == "" {
		host = local
	}
	if _, _, err := net.SplitHostPort(host); err != nil && ok {
		host = net.JoinHostPort(host, strconv.Itoa(at.Port))
	}
	r := &Repository{Host: host, local: local, registry: registry.New()}
	r.server = &http.Server{Handler: r.registry, ReadHeaderTimeout: 10 * time.Second}
	go r.server.Serve(l) //nolint:errcheck // it ends with Close
	return r, nil
}

// Close ends the registry.
func (r *Repository) Close() error { return r.server.Close() }

// Push publishes a version of an app and returns the digest of its artifact.
func (r *Repository) Push(ctx context.Context, kind Kind, name, version string) (string, error) {
	if kind == Helm {
		return r.pushChart(ctx, name, version)
	}
	tree, err := manifests(name, version)
	if err != nil {
		return "", err
	}
	d, err := oci.Push(ctx, oci.Scheme+r.local+"/"+name+":"+Tag, tree, &oci.PushOptions{
		Source: "https://git.example.com/" + name, Revision: version, Client: oci.Client{Insecure: true},
	})
	return d.String(), err
}

// pushChart publishes the app as a chart, as "helm push" does.
func (r *Repository) pushChart(ctx context.Context, name, version string) (string, error) {
	meta := map[string]string{"apiVersion": "v2", "name": name, "version": version, "appVersion": version}
	config, err := json.Marshal(meta)
	if err != nil {
		return "", err
	}
	files := map[string][]byte{"Chart.yaml": config} // JSON is YAML
	entries, err := objects("{{ .Release.Name }}", "{{ .Chart.AppVersion }}")
	if err != nil {
		return "", err
	}
	for file, data := range entries {
		files["templates/"+file] = data
	}
	tree, err := source.MapFS(files)
	if err != nil {
		return "", err
	}
	pkg, err := chart.Build(ctx, tree, ".", nil)
	if err != nil {
		return "", err
	}
	d := r.registry.PutManifest(name, &registry.Image{
		ConfigType: "application/vnd.cncf.helm.config.v1+json", Config: config,
		Layers: []registry.Layer{{MediaType: oci.ChartMediaType, Data: pkg.Data}},
	})
	r.registry.Tag(name, d, Tag)
	return d, nil
}

// manifests is a directory that is built by kustomize.
func manifests(name, version string) (fs.FS, error) {
	files, err := objects(name, version)
	if err != nil {
		return nil, err
	}
	list := "resources:\n"
	for _, file := range slices.Sorted(maps.Keys(files)) {
		list += "  - " + file + "\n"
	}
	files["kustomization.yaml"] = []byte("apiVersion: kustomize.config.k8s.io/v1beta1\nkind: Kustomization\n" + list)
	return source.MapFS(files)
}

// objects are the files of an app.
func objects(name, version string) (map[string][]byte, error) {
	fill := strings.NewReplacer("NAME", name, "VERSION", version)
	entries, err := app.ReadDir("app")
	if err != nil {
		return nil, err
	}
	files := map[string][]byte{}
	for _, e := range entries {
		data, err := app.ReadFile("app/" + e.Name())
		if err != nil {
			return nil, err
		}
		files[e.Name()] = []byte(fill.Replace(string(data)))
	}
	return files, nil
}
