package controllers_test

import (
	"context"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"filippo.io/age"
	"helm.sh/helm/v3/pkg/release"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"

	"github.com/gitopskit/gitopskit/examples/controllers/internal/app"
	"github.com/gitopskit/gitopskit/internal/chartserver"
	"github.com/gitopskit/gitopskit/runtime/chaos"
	"github.com/gitopskit/gitopskit/runtime/testenv"
	"github.com/gitopskit/gitopskit/source/chart"
)

// childEnv makes this test binary a program with all controllers: it has the
// options as JSON.
const childEnv = "GITOPSKIT_TEST_CONTROLLERS"

// child is what a crash test needs to know.
type child struct {
	Kubeconfig string
	Options    *app.Options
	// KillAt is the write to the API server, counted from 1, at which the
	// process kills itself, or After it was answered; 0 is none.
	KillAt int
	After  bool
	// Hold is part of the path of writes that are not made for a minute,
	// whatever their context says.
	Hold string
}

// arm has the process kill itself at a write.
func (c *child) arm(config *rest.Config) {
	if c.Hold != "" {
		config.Wrap(func(next http.RoundTripper) http.RoundTripper {
			return roundTripper(func(req *http.Request) (*http.Response, error) {
				if chaos.Writes(req) && strings.Contains(req.URL.Path, c.Hold) {
					fmt.Fprintln(os.Stderr, "a write is held")
					<-time.After(time.Minute)
				}
				return next.RoundTrip(req)
			})
		})
	}
	if c.KillAt == 0 {
		return
	}
	var writes atomic.Int64
	config.Wrap(func(next http.RoundTripper) http.RoundTripper {
		return roundTripper(func(req *http.Request) (*http.Response, error) {
			counts := chaos.Writes(req) && !strings.Contains(req.URL.Path, "/events") && !strings.Contains(req.URL.Path, "reviews")
			mine := counts && int(writes.Add(1)) == c.KillAt
			if mine && !c.After {
				return nil, chaos.Kill(req.Context())
			}
			resp, err := next.RoundTrip(req)
			if mine {
				return nil, chaos.Kill(req.Context())
			}
			return resp, err
		})
	})
}

type roundTripper func(*http.Request) (*http.Response, error)

func (r roundTripper) RoundTrip(req *http.Request) (*http.Response, error) { return r(req) }

// beChild runs the controllers until somebody kills them.
func beChild() {
	var c child
	err := json.Unmarshal([]byte(os.Getenv(childEnv)), &c)
	if err == nil {
		config, e := clientcmd.BuildConfigFromFlags("", c.Kubeconfig)
		if err = e; err == nil {
			c.Options.Out = os.Stderr
			c.arm(config)
			ctx, stop := app.Context()
			err = app.Keep(ctx, config, all(), c.Options)
			stop()
		}
	}
	if err == nil {
		os.Exit(0)
	}
	fmt.Fprintln(os.Stderr, err)
	os.Exit(1)
}

// spawn starts the controllers in a process of their own.
func (w *world) spawn(kubeconfig string, o *app.Options) (kill func()) {
	w.t.Helper()
	cmd := w.start(child{Kubeconfig: kubeconfig, Options: o})
	return func() {
		cmd.Process.Kill() //nolint:errcheck // it may have ended
		cmd.Wait()         //nolint:errcheck // it was killed
	}
}

// start starts a process with controllers.
func (w *world) start(c child) *exec.Cmd {
	w.t.Helper()
	data, err := json.Marshal(c)
	if err != nil {
		w.t.Fatal(err)
	}
	self, err := os.Executable()
	if err != nil {
		w.t.Fatal(err)
	}
	cmd := exec.CommandContext(context.WithoutCancel(w.t.Context()), self)
	cmd.Env, cmd.Stderr = append(os.Environ(), childEnv+"="+string(data)), w.logs
	if err := cmd.Start(); err != nil {
		w.t.Fatal(err)
	}
	return cmd
}

// TestStoryCrash kills the controllers at random moments, while commits and
// values change, and finds everything as if nothing had happened.
func TestStoryCrash(t *testing.T) {
	t.Parallel()
	const seed, crashes = 1, 10
	env := testenv.Start(t)
	w, g := worldOf(t, env), newGit(t)
	id, err := age.GenerateX25519Identity()
	if err != nil {
		t.Fatal(err)
	}
	podinfo(t, g, id.Recipient().String())
	repo := chartserver.New()
	pkg, err := chart.Build(t.Context(), os.DirFS(podinfoRepo(t)), "charts/podinfo", nil)
	if err != nil {
		t.Fatal(err)
	}
	repo.Add(pkg.Name, pkg.Version, pkg.Data)
	server := httptest.NewServer(repo)
	t.Cleanup(server.Close)

	w.apply("apiVersion: v1\nkind: Secret\nmetadata: {name: sops-age}\nstringData: {main.agekey: KEY}", "KEY", id.String())
	w.apply("apiVersion: v1\nkind: Secret\nmetadata: {name: git}\nstringData: {username: robot, password: pa55word}")
	w.apply(repository, "URL", g.url+"/podinfo", "interval: 1h", "interval: 1s")
	w.apply(kustomizations)
	w.apply("apiVersion: source.toolkit.fluxcd.io/v1\nkind: HelmRepository\nmetadata: {name: charts}\nspec: {interval: 1h, url: URL/charts}", "URL", server.URL)
	values := func(i int) {
		w.apply(strings.ReplaceAll(helmRelease, "name: podinfo\n", "name: web\n"), "CHART", "chart: {spec: {chart: podinfo, sourceRef: {kind: HelmRepository, name: charts}}}",
			"MESSAGE", fmt.Sprintf("m%d", i), "EXTRA", "", "PATIENCE", "30s")
	}
	commit := func(i int) string {
		return g.commit(t, "podinfo", fmt.Sprintf("Change %d", i), map[string]string{
			"kustomize/settings.yaml":             fmt.Sprintf("apiVersion: v1\nkind: ConfigMap\nmetadata:\n  name: settings\ndata:\n  color: c%d\n", i),
			fmt.Sprintf("base/extra%d.yaml", i%3): fmt.Sprintf("apiVersion: v1\nkind: ConfigMap\nmetadata:\n  name: extra-%d\n  namespace: %s\n", i, w.namespace),
		})
	}
	options := w.options()
	options.StorageAddr = freeAddr(t)
	rnd := rand.New(rand.NewPCG(seed, seed))
	last := ""
	for i := range crashes {
		values(i)
		last = commit(i)
		kill := w.spawn(env.Kubeconfig(), options)
		<-time.After(time.Duration(500+rnd.IntN(2500)) * time.Millisecond)
		kill()
	}
	kill := w.spawn(env.Kubeconfig(), options)
	defer kill()
	w.readyAt("Kustomization/base", last)
	w.readyAt("Kustomization/podinfo", last)
	w.ready("HelmRelease/web")
	if got := text(w.get("ConfigMap/settings"), "data", "color"); got != fmt.Sprintf("c%d", crashes-1) {
		t.Errorf("color %s", got)
	}
	for i := range crashes {
		o := w.get(fmt.Sprintf("ConfigMap/extra-%d", i))
		if kept := i >= crashes-3; (o != nil) != kept {
			t.Errorf("extra-%d: there %v, want %v", i, o != nil, kept)
		}
	}
	history := w.revisions("web")
	slices.SortFunc(history, func(a, b *release.Release) int { return a.Version - b.Version })
	newest := history[len(history)-1]
	if message, _, _ := unstructured.NestedString(newest.Config, "ui", "message"); newest.Info.Status != release.StatusDeployed || message != fmt.Sprintf("m%d", crashes-1) {
		t.Errorf("release is %s with %s", newest.Info.Status, message)
	}
	for _, r := range history[:len(history)-1] {
		if r.Info.Status == release.StatusDeployed || r.Info.Status.IsPending() {
			t.Errorf("revision %d is %s", r.Version, r.Info.Status)
		}
	}
}
