package main

import (
	"bytes"
	"io"
	"io/fs"
	"os"
	"strings"
	"testing"
	"testing/fstest"

	"go.uber.org/goleak"

	"github.com/gitopskit/gitopskit/ssa/schema"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func fleet(t *testing.T, overlays ...string) Repository {
	t.Helper()
	set, err := schema.Builtin("")
	if err != nil {
		t.Fatal(err)
	}
	flux, err := schema.Load(os.DirFS("../controllers/crds"), nil, nil)
	if err != nil {
		t.Fatal(err)
	}
	if set, err = set.With(flux.Objects...); err != nil {
		t.Fatal(err)
	}
	return Repository{Overlays: overlays, Kinds: set, Definitions: flux.Objects}
}

// TestFleet is what a repository's own test can look like.
func TestFleet(t *testing.T) {
	for _, overlay := range []string{"apps/staging", "apps/production", "clusters/staging", "clusters/production", "infrastructure/controllers", "infrastructure/configs"} {
		t.Run(overlay, func(t *testing.T) {
			state, err := fleet(t, overlay).Check(t.Context(), os.DirFS("testdata/fleet"))
			if err != nil {
				t.Fatal(err)
			}
			if state.Second.Changed() {
				t.Errorf("the same again changes: %s", state.Second.Summary())
			}
		})
	}
}

// wholeFleet are the arguments for all of the fleet and a branch of it.
func wholeFleet(t testing.TB) []string {
	t.Helper()
	changed := t.TempDir()
	if err := os.CopyFS(changed, edited(t)); err != nil {
		t.Fatal(err)
	}
	return []string{"-crds", "../controllers/crds", "-tree", changed, "-from", "testdata/fleet", "apps/staging", "clusters/staging", "infrastructure/controllers", "infrastructure/configs"}
}

// BenchmarkWholeFleet builds, checks, applies twice and compares.
func BenchmarkWholeFleet(b *testing.B) {
	args := wholeFleet(b)
	b.ReportAllocs()
	for b.Loop() {
		if err := run(b.Context(), args, io.Discard); err != nil {
			b.Fatal(err)
		}
	}
}

// TestWholeFleet: built, checked, applied twice and compared with a branch.
func TestWholeFleet(t *testing.T) {
	var out bytes.Buffer
	if err := run(t.Context(), wholeFleet(t), &out); err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{
		"ClusterIssuer.cert-manager.io/letsencrypt: not checked",
		"valid, 10 objects; applied: 10 created; again: 10 unchanged",
		"HelmRelease.helm.toolkit.fluxcd.io/podinfo/podinfo configured",
		`spec.chart.spec.version: ">=1.0.0-alpha" -> "6.x"`,
		"HelmRelease.helm.toolkit.fluxcd.io/cert-manager/cert-manager deleted",
		"1 configured, 3 deleted, 9 unchanged",
	} {
		if !strings.Contains(out.String(), want) {
			t.Errorf("no %q in\n%s", want, out.String())
		}
	}
}

// edited is the fleet on a branch.
func edited(t testing.TB) fstest.MapFS {
	t.Helper()
	tree := fstest.MapFS{}
	err := fs.WalkDir(os.DirFS("testdata/fleet"), ".", func(name string, entry fs.DirEntry, err error) error {
		if err != nil || entry.IsDir() {
			return err
		}
		data, err := os.ReadFile("testdata/fleet/" + name)
		data = bytes.Replace(data, []byte(">=1.0.0-alpha"), []byte("6.x"), 1)
		data = bytes.Replace(data, []byte("  - cert-manager.yaml\n"), nil, 1)
		tree[name] = &fstest.MapFile{Data: data}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return tree
}

// TestMistake: a typo is found with its file and line, and nothing is planned.
func TestMistake(t *testing.T) {
	tree := edited(t)
	file := tree["apps/staging/podinfo-values.yaml"]
	file.Data = bytes.Replace(file.Data, []byte("  test:\n"), []byte("  tests:\n"), 1)
	_, err := fleet(t, "apps/staging").Check(t.Context(), tree)
	if err == nil || !strings.Contains(err.Error(), "HelmRelease.helm.toolkit.fluxcd.io/podinfo/podinfo: spec.tests: unknown field") || !strings.Contains(err.Error(), "apps/staging/podinfo-values.yaml:") {
		t.Errorf("got %v", err)
	}
}

// TestBadArguments: what cannot work is told with what it is about.
func TestBadArguments(t *testing.T) {
	for _, test := range []struct{ args, want string }{
		{"", "name the directories"},
		{"-crds testdata/none apps", "testdata/none"},
		{"-kubernetes 1.20 apps", "1.36"},
		{"-tree testdata apps/none", `"apps/none"`},
	} {
		err := run(t.Context(), strings.Fields(test.args), io.Discard)
		if err == nil || !strings.Contains(err.Error(), test.want) {
			t.Errorf("%q: %v", test.args, err)
		}
	}
}
