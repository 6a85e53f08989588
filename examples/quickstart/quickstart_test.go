package main

import (
	"archive/zip"
	"bytes"
	"context"
	"errors"
	"io/fs"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/client-go/dynamic"

	"github.com/gitopskit/gitopskit/examples/internal/gitflags"
	"github.com/gitopskit/gitopskit/internal/gitserver"
	"github.com/gitopskit/gitopskit/runtime/testenv"
	"github.com/gitopskit/gitopskit/source"
	"github.com/gitopskit/gitopskit/ssa"
)

// output collects what a run prints.
type output struct {
	mu    sync.Mutex
	buf   bytes.Buffer
	lines chan string
}

func newOutput() *output { return &output{lines: make(chan string, 10_000)} }

func (o *output) Write(p []byte) (int, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.lines <- string(p)
	return o.buf.Write(p)
}

func (o *output) String() string {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.buf.String()
}

// until waits for a line that contains text.
func (o *output) until(t *testing.T, text string) {
	t.Helper()
	timeout := time.After(2 * time.Minute)
	for {
		select {
		case line := <-o.lines:
			if strings.Contains(line, text) {
				return
			}
		case <-timeout:
			t.Fatalf("no %q in\n%s", text, o)
		}
	}
}

// serve serves a repository made of a tree.
func serve(t *testing.T, files map[string]string) (*gitserver.Server, string) {
	t.Helper()
	srv, err := gitserver.New(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	if _, err := srv.Commit("repo.git", "main", "first", files); err != nil {
		t.Fatal(err)
	}
	web := httptest.NewServer(srv)
	t.Cleanup(web.Close)
	return srv, web.URL + "/repo.git"
}

// unzip reads a tree of testdata; see testdata/README.md for where it is from.
func unzip(t *testing.T, name string) map[string]string {
	t.Helper()
	r, err := zip.OpenReader(filepath.Join("testdata", name))
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	files := map[string]string{}
	err = fs.WalkDir(r, ".", func(name string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		data, err := fs.ReadFile(r, name)
		files[name] = string(data)
		return err
	})
	if err != nil || len(files) == 0 {
		t.Fatalf("%s: %d files, %v", name, len(files), err)
	}
	return files
}

// once makes one pass in the test's namespace and returns what it printed.
func once(t *testing.T, env *testenv.Env, args ...string) (string, error) {
	t.Helper()
	out := newOutput()
	args = append([]string{"-once", "-kubeconfig", env.Kubeconfig(), "-namespace", env.Namespace}, args...)
	err := run(t.Context(), args, out, out)
	return out.String(), err
}

func TestTour(t *testing.T) {
	temp := t.TempDir()
	t.Setenv("TMPDIR", temp)
	out := newOutput()
	if err := run(t.Context(), []string{"-once"}, out, os.Stderr); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	for _, want := range []string{
		"its nodes are simulated", "4 created", "ready   4 of 4 objects",
		"~ spec.replicas: 2 -> 3", "~ spec.replicas: 7 -> 3", "drift   Deployment/demo/web was deleted",
		"- ConfigMap/demo/settings", "event info ReconciliationSucceeded: 4 created", "kubectl --kubeconfig",
	} {
		if !strings.Contains(out.String(), want) {
			t.Errorf("no %q in\n%s", want, out)
		}
	}
	if strings.Contains(out.String(), "\x1b[") {
		t.Error("colours outside of a terminal")
	}
	if left, err := os.ReadDir(temp); err != nil || len(left) > 0 {
		t.Errorf("left behind: %v %v", left, err)
	}
}

// TestPodinfo: the repository of a real application, its kustomize directory.
func TestPodinfo(t *testing.T) {
	env := testenv.Start(t)
	_, url := serve(t, unzip(t, "podinfo.zip"))
	got, err := once(t, env, "-url", url, "-path", "kustomize")
	if err != nil || !strings.Contains(got, "3 created") || !strings.Contains(got, "ready   3 of 3") {
		t.Fatalf("%v\n%s", err, got)
	}
	got, err = once(t, env, "-url", url, "-path", "kustomize")
	if err != nil || !strings.Contains(got, "apply   3 unchanged") {
		t.Errorf("again: %v\n%s", err, got)
	}
	dyn, err := dynamic.NewForConfig(env.Config())
	if err != nil {
		t.Fatal(err)
	}
	obj, err := dyn.Resource(schema.GroupVersionResource{Group: "apps", Version: "v1", Resource: "deployments"}).Namespace(env.Namespace).
		Get(t.Context(), "podinfo", metav1.GetOptions{})
	if err != nil {
		t.Fatal(err)
	}
	if obj.GetLabels()["gitopskit.github.io/name"] != "quickstart" || obj.GetManagedFields()[0].Manager != "gitopskit" {
		t.Errorf("labels %v, managed fields %v", obj.GetLabels(), obj.GetManagedFields())
	}
}

// TestKubePrometheus: a plain directory with definitions, cluster roles and
// more than a hundred objects is applied and ready; a second pass changes
// nothing; a deleted Deployment is back long before the interval.
func TestKubePrometheus(t *testing.T) {
	env := testenv.StartServer(t, &testenv.Options{SimulatedNodes: 2})
	_, url := serve(t, unzip(t, "kube-prometheus.zip"))
	got, err := once(t, env, "-url", url, "-path", "manifests")
	if err != nil {
		t.Fatalf("%v\n%s", err, got)
	}
	if n := strings.Count(got, "\n        + "); n < 100 {
		t.Errorf("%d objects created", n)
	}
	got, err = once(t, env, "-url", url, "-path", "manifests")
	if err != nil || !strings.Contains(got, "unchanged in") || strings.Contains(got, "configured") || strings.Contains(got, "created") {
		t.Errorf("again: %v\n%s", err, got)
	}

	ctx, cancel := context.WithCancel(t.Context())
	out, done := newOutput(), make(chan error, 1)
	go func() {
		done <- run(ctx, []string{"-interval", "1h", "-kubeconfig", env.Kubeconfig(), "-namespace", env.Namespace, "-url", url, "-path", "manifests"}, out, out)
	}()
	out.until(t, "still reconciling")
	dyn, err := dynamic.NewForConfig(env.Config())
	if err != nil {
		t.Fatal(err)
	}
	grafana := dyn.Resource(schema.GroupVersionResource{Group: "apps", Version: "v1", Resource: "deployments"}).Namespace("monitoring")
	watch, err := grafana.Watch(ctx, metav1.ListOptions{FieldSelector: "metadata.name=grafana"})
	if err != nil {
		t.Fatal(err)
	}
	defer watch.Stop()
	started := time.Now()
	if err := grafana.Delete(ctx, "grafana", metav1.DeleteOptions{}); err != nil {
		t.Fatal(err)
	}
	gone := false
	for event := range watch.ResultChan() {
		gone = gone || event.Type == "DELETED"
		if gone && event.Type == "ADDED" {
			break
		}
	}
	t.Logf("the deleted Deployment was back after %s", time.Since(started))
	out.until(t, "1 created")
	cancel()
	if err := <-done; err != nil && !errors.Is(err, context.Canceled) {
		t.Error(err)
	}
}

const good = "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: good}\n"

// TestBadInput: each mistake is an error that says what is wrong and where,
// and the cluster is as before.
func TestBadInput(t *testing.T) {
	env := testenv.Start(t)
	_, url := serve(t, map[string]string{
		"good/a.yaml":    good,
		"broken/a.yaml":  good + "---\napiVersion: v1\nkind: ConfigMap\n  metadata: {}\n",
		"unknown/a.yaml": good + "---\napiVersion: example.com/v1\nkind: Gadget\nmetadata: {name: g}\n",
		"invalid/a.yaml": good + "---\napiVersion: v1\nkind: Service\nmetadata: {name: svc}\nspec: {ports: [{port: 99999}]}\n",
	})
	private, privateURL := serve(t, map[string]string{"good/a.yaml": good})
	private.Username, private.Password = "git", "right"
	secret := filepath.Join(t.TempDir(), "password")
	if err := os.WriteFile(secret, []byte("wrong-hunter2\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	for name, tc := range map[string]struct {
		args []string
		is   error
		want []string
	}{
		"unknown host":   {[]string{"-url", "http://no-such-host.invalid/repo.git"}, source.ErrUnavailable, []string{"no-such-host.invalid"}},
		"no server":      {[]string{"-url", "http://127.0.0.1:1/repo.git"}, source.ErrUnavailable, []string{"127.0.0.1:1"}},
		"no repository":  {[]string{"-url", strings.Replace(url, "repo.git", "other.git", 1)}, source.ErrNotFound, []string{"other.git"}},
		"wrong password": {[]string{"-url", privateURL, "-username", "git", "-password-file", secret}, source.ErrUnauthorized, []string{privateURL}},
		"no password":    {[]string{"-url", privateURL}, source.ErrUnauthorized, []string{privateURL}},
		"missing branch": {[]string{"-url", url, "-branch", "nope"}, source.ErrNotFound, []string{"nope", url}},
		"missing tag":    {[]string{"-url", url, "-tag", "v9"}, source.ErrNotFound, []string{"v9"}},
		"missing commit": {[]string{"-url", url, "-commit", strings.Repeat("ab", 20)}, source.ErrNotFound, []string{"abab"}},
		"short commit":   {[]string{"-url", url, "-commit", "abab"}, source.ErrInvalidSpec, []string{"abab"}},
		"scp address":    {[]string{"-url", "git@example.com:org/repo.git"}, source.ErrInvalidSpec, []string{"ssh://git@example.com/org/repo.git"}},
		"missing path":   {[]string{"-url", url, "-path", "nope"}, fs.ErrNotExist, []string{`"nope"`}},
		"broken YAML":    {[]string{"-url", url, "-path", "broken"}, nil, []string{"broken/a.yaml:7", "mapping values are not allowed"}},
		"unknown kind":   {[]string{"-url", url, "-path", "unknown"}, ssa.ErrUnknownKind, []string{"Gadget", "example.com/v1", "CustomResourceDefinition"}},
		"invalid object": {[]string{"-url", url, "-path", "invalid"}, ssa.ErrInvalid, []string{"Service/" + env.Namespace + "/svc", "99999"}},
		"argument":       {[]string{"https://example.com"}, nil, []string{"-url"}},
		"no identity":    {[]string{"-url", "ssh://git@127.0.0.1:1/r.git", "-identity", secret + "x"}, fs.ErrNotExist, []string{"-identity"}},
	} {
		t.Run(name, func(t *testing.T) {
			out, err := once(t, env, tc.args...)
			if err == nil {
				t.Fatalf("no error\n%s", out)
			}
			if tc.is != nil && !errors.Is(err, tc.is) {
				t.Errorf("got %v, want %v", err, tc.is)
			}
			for _, want := range tc.want {
				if !strings.Contains(err.Error(), want) {
					t.Errorf("error does not name %q: %v", want, err)
				}
			}
			if strings.Contains(err.Error()+out, "hunter2") {
				t.Errorf("the password is shown: %v", err)
			}
		})
	}
	dyn, err := dynamic.NewForConfig(env.Config())
	if err != nil {
		t.Fatal(err)
	}
	list, err := dyn.Resource(schema.GroupVersionResource{Version: "v1", Resource: "configmaps"}).Namespace(env.Namespace).List(t.Context(), metav1.ListOptions{})
	if err != nil {
		t.Fatal(err)
	}
	for _, cm := range list.Items {
		if cm.GetName() != "kube-root-ca.crt" {
			t.Errorf("the cluster has a %s", cm.GetName())
		}
	}
}

func TestBadCluster(t *testing.T) {
	_, url := serve(t, map[string]string{"a.yaml": good})
	config := filepath.Join(t.TempDir(), "config")
	for content, want := range map[string]string{
		"":              config,
		"apiVersion: [": config,
		"apiVersion: v1\nkind: Config\ncurrent-context: c\ncontexts: [{name: c, context: {cluster: c}}]\nclusters: [{name: c, cluster: {server: 'https://127.0.0.1:1'}}]\n": "127.0.0.1:1",
	} {
		if err := os.WriteFile(config, []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
		out := newOutput()
		err := run(t.Context(), []string{"-once", "-kubeconfig", config, "-url", url}, out, out)
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: got %v", content, err)
		}
	}
}

// TestDiff shows everything and changes nothing.
func TestDiff(t *testing.T) {
	env := testenv.Start(t)
	_, url := serve(t, map[string]string{"a.yaml": good})
	for range 2 {
		got, err := once(t, env, "-url", url, "-diff")
		if err != nil || !strings.Contains(got, "diff    1 created") || !strings.Contains(got, "+ ConfigMap/"+env.Namespace+"/good") {
			t.Fatalf("%v\n%s", err, got)
		}
	}
}

// TestPasswordFromEnvironment: basic credentials and a token.
func TestPasswordFromEnvironment(t *testing.T) {
	env := testenv.Start(t)
	srv, url := serve(t, map[string]string{"a.yaml": good})
	t.Setenv(gitflags.PasswordVariable, "right")
	srv.Username, srv.Password = "git", "right"
	if got, err := once(t, env, "-url", url, "-username", "git"); err != nil {
		t.Errorf("%v\n%s", err, got)
	}
	token, tokenURL := serve(t, map[string]string{"a.yaml": good})
	token.Token = "right"
	if got, err := once(t, env, "-url", tokenURL); err != nil {
		t.Errorf("%v\n%s", err, got)
	}
}

// TestFollow: a broken commit is told and leaves the cluster alone, a good one
// after it is applied; both without a restart, at the interval.
func TestFollow(t *testing.T) {
	env := testenv.Start(t)
	srv, url := serve(t, map[string]string{"a.yaml": good})
	ctx, cancel := context.WithCancel(t.Context())
	out, done := newOutput(), make(chan error, 1)
	go func() {
		done <- run(ctx, []string{"-interval", "200ms", "-kubeconfig", env.Kubeconfig(), "-namespace", env.Namespace, "-url", url}, out, out)
	}()
	out.until(t, "still reconciling")
	if _, err := srv.Commit("repo.git", "main", "broken", map[string]string{"b.yaml": "a: [\n"}); err != nil {
		t.Fatal(err)
	}
	out.until(t, "b.yaml:")
	if _, err := srv.Commit("repo.git", "main", "mended", map[string]string{"b.yaml": strings.Replace(good, "good", "better", 1)}); err != nil {
		t.Fatal(err)
	}
	out.until(t, "+ ConfigMap/"+env.Namespace+"/better")
	cancel()
	if err := <-done; err != nil {
		t.Error(err)
	}
}

// TestInterrupted: Ctrl-C, in whatever moment of an apply, is an error that
// says so, and the next run knows all objects.
func TestInterrupted(t *testing.T) {
	env := testenv.Start(t)
	files := map[string]string{}
	for _, c := range "abcdefghijklmnopqrstuvwxyz" {
		files[string(c)+".yaml"] = strings.Replace(good, "good", "x-"+string(c), 1)
	}
	srv, url := serve(t, files)
	ctx, cancel := context.WithCancel(t.Context())
	out := newOutput()
	go func() {
		for line := range out.lines {
			if strings.Contains(line, "build ") {
				time.AfterFunc(30*time.Millisecond, cancel)
				return
			}
		}
	}()
	err := run(ctx, []string{"-kubeconfig", env.Kubeconfig(), "-namespace", env.Namespace, "-url", url}, out, out)
	t.Logf("interrupted: %v", err)
	var gone []string
	for name := range files {
		gone = append(gone, name)
	}
	if _, err := srv.Delete("repo.git", "main", "all", gone[1:]...); err != nil {
		t.Fatal(err)
	}
	if got, err := once(t, env, "-url", url); err != nil {
		t.Fatalf("%v\n%s", err, got)
	}
	dyn, err := dynamic.NewForConfig(env.Config())
	if err != nil {
		t.Fatal(err)
	}
	list, err := dyn.Resource(schema.GroupVersionResource{Version: "v1", Resource: "configmaps"}).Namespace(env.Namespace).
		List(t.Context(), metav1.ListOptions{LabelSelector: "gitopskit.github.io/name=quickstart"})
	if err != nil || len(list.Items) != 1 {
		t.Errorf("%d objects are left: %v", len(list.Items), err)
	}
}
