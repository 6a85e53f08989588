package chart_test

import (
	"context"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"testing"
	"testing/fstest"

	"github.com/google/go-cmp/cmp"
	helm "helm.sh/helm/v3/pkg/chart"
	"helm.sh/helm/v3/pkg/chartutil"
	"sigs.k8s.io/yaml"

	"github.com/gitopskit/gitopskit/source"
	"github.com/gitopskit/gitopskit/source/chart"
)

func TestLocalDependencies(t *testing.T) {
	tree := files(map[string]string{
		"charts/app/Chart.yaml":     appChart + "dependencies:\n- {name: lib, version: '>=1.0.0', repository: 'file://../lib', alias: other}\n",
		"charts/lib/Chart.yaml":     "apiVersion: v2\nname: lib\nversion: 1.1.0\ntype: library\ndependencies:\n- {name: base, version: 0.1.0, repository: 'file://../../base'}\n",
		"charts/lib/templates/l":    "l",
		"base/Chart.yaml":           "apiVersion: v2\nname: base\nversion: 0.1.0\n",
		"charts/lib/.helmignore":    "junk\n",
		"charts/lib/junk":           "left out",
		"charts/app/charts/_README": "not a chart",
		"charts/app/charts/.x/file": "not a chart",
	})
	c := load(t, build(t, tree, "charts/app", nil).Data)
	var names []string
	for _, d := range c.Dependencies() {
		names = append(names, d.Name()+" "+d.Metadata.Version)
		for _, d := range d.Dependencies() {
			names = append(names, d.Name()+" "+d.Metadata.Version)
		}
	}
	if diff := cmp.Diff([]string{"lib 1.1.0", "base 0.1.0"}, names); diff != "" {
		t.Error(diff)
	}
	// The peer finds that everything is there.
	if err := chartutil.ProcessDependencies(c, c.Values); err != nil {
		t.Error(err)
	}
}

const remoteDeps = "dependencies:\n- {name: redis, version: 1.x, repository: 'https://example.com/charts'}\n"

func TestRemoteDependencies(t *testing.T) {
	redis := build(t, fstest.MapFS{"Chart.yaml": {Data: []byte("apiVersion: v2\nname: redis\nversion: 1.5.0\n")}}, ".", nil)
	req := []*helm.Dependency{{Name: "redis", Version: "1.x", Repository: "https://example.com/charts"}}
	locked := []*helm.Dependency{{Name: "redis", Version: "1.5.0", Repository: "https://example.com/charts"}}
	lock, err := yaml.Marshal(helm.Lock{Dependencies: locked, Digest: hash(t, req, locked)})
	if err != nil {
		t.Fatal(err)
	}
	stale, err := yaml.Marshal(helm.Lock{Dependencies: locked, Digest: hash(t, locked, locked)})
	if err != nil {
		t.Fatal(err)
	}
	for _, test := range []struct {
		name, lock, asked string
		data              []byte
		class             error
	}{
		{"without a lock", "", "https://example.com/charts redis 1.x", redis.Data, nil},
		{"with a lock", string(lock), "https://example.com/charts redis 1.5.0", redis.Data, nil},
		{"with a stale lock", string(stale), "", nil, source.ErrInvalidSpec},
		{"another chart", "", "https://example.com/charts redis 1.x", build(t, files(nil), "charts/app", nil).Data, source.ErrUnverified},
		{"no package", "", "https://example.com/charts redis 1.x", []byte("junk"), nil},
	} {
		t.Run(test.name, func(t *testing.T) {
			more := map[string]string{"charts/app/Chart.yaml": appChart + remoteDeps}
			if test.lock != "" {
				more["charts/app/Chart.lock"] = test.lock
			}
			asked := ""
			p, err := chart.Build(t.Context(), files(more), "charts/app", &chart.Options{
				Dependencies: chart.ResolverFunc(func(_ context.Context, repository, name, version string) ([]byte, error) {
					asked = repository + " " + name + " " + version
					return test.data, nil
				}),
			})
			if asked != test.asked {
				t.Errorf("asked for %q", asked)
			}
			if test.class != nil || test.name == "no package" {
				if err == nil || test.class != nil && !errors.Is(err, test.class) {
					t.Errorf("error %v", err)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			if d := load(t, p.Data).Dependencies(); len(d) != 1 || d[0].Metadata.Version != "1.5.0" {
				t.Errorf("dependencies %v", d)
			}
		})
	}
}

// hash is what Helm writes into Chart.lock.
func hash(t testing.TB, req, lock []*helm.Dependency) string {
	t.Helper()
	data, err := json.Marshal([2][]*helm.Dependency{req, lock})
	if err != nil {
		t.Fatal(err)
	}
	return fmt.Sprintf("sha256:%x", sha256.Sum256(data))
}
