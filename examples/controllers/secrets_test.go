package controllers_test

import (
	"encoding/base64"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/fstest"

	"filippo.io/age"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"

	"github.com/gitopskit/gitopskit/internal/chartserver"
	"github.com/gitopskit/gitopskit/internal/registry"
	"github.com/gitopskit/gitopskit/internal/s3server"
	"github.com/gitopskit/gitopskit/source/chart"
	"github.com/gitopskit/gitopskit/source/oci"
)

// canaries are secrets that must not be found anywhere.
type canaries struct{ all []string }

// of returns the one with a name.
func (c *canaries) of(name string) string { return c.add("canary-" + name + "-end") }

func (c *canaries) add(secret string) string {
	if !slices.Contains(c.all, secret) {
		c.all = append(c.all, secret)
	}
	return secret
}

// absent checks that none is in a text, plain or encoded.
func (c *canaries) absent(t *testing.T, where, text string) {
	t.Helper()
	for _, secret := range c.all {
		for _, s := range []string{secret, base64.StdEncoding.EncodeToString([]byte(secret))} {
			if at := strings.Index(text, s); at >= 0 {
				const around = 300
				t.Errorf("%s: %q in ...%s...", where, s, text[max(0, at-around):min(len(text), at+around)])
			}
		}
	}
}

// credential is an object that uses a Secret of its name, and what becomes of it.
type credential struct {
	ref    string // Kind/name
	fails  string // for what reason; empty if it is to be ready
	secret map[string]string
	spec   string
}

// servers are what the credentials are for.
type servers struct {
	g                    *gitServer
	registry, s3, charts string
	hook, dead           string
	id                   *age.X25519Identity
	notified             chan struct{} // closed when an alert has arrived
}

func (c *canaries) servers(t *testing.T, w *world) *servers {
	t.Helper()
	s := &servers{g: newGit(t), dead: "127.0.0.1:1"}
	s.g.Password = c.of("git")
	var err error
	if s.id, err = age.GenerateX25519Identity(); err != nil {
		t.Fatal(err)
	}
	c.add(s.id.String())
	sealedSecret := "apiVersion: v1\nkind: Secret\nmetadata:\n  name: sealed\n  namespace: " + w.namespace + "\nstringData:\n  a: " + c.of("sealed") + "\n"
	s.g.commit(t, "podinfo", "Add apps", map[string]string{
		"plain/a.yaml": configMap("a", w.namespace), "sealed/b.yaml": sealed(t, s.id.Recipient().String(), sealedSecret),
		"misfit/d.yaml": "apiVersion: policy/v1\nkind: PodDisruptionBudget\nmetadata: {name: misfit, namespace: " + w.namespace + "}\nspec: {unhealthyPodEvictionPolicy: \"${a}\"}\n",
		"vars/c.yaml":   strings.Replace(configMap("c", w.namespace), "a: b", "a: ${a}", 1),
		"name/d.yaml":   strings.Replace(configMap("d", w.namespace), "a: b", "a: ${a}", 1),
	})
	reg := registry.New()
	reg.Username, reg.Password = "robot", c.of("registry")
	server := func(h http.Handler) string {
		server := httptest.NewServer(h)
		t.Cleanup(server.Close)
		return strings.TrimPrefix(server.URL, "http://")
	}
	s.registry = server(reg)
	if _, err := oci.Push(t.Context(), "oci://"+s.registry+"/app:v1", fstest.MapFS{"a.yaml": {Data: []byte(configMap("a", w.namespace))}}, &oci.PushOptions{
		Client: oci.Client{Insecure: true, Keychain: login{"robot", reg.Password}},
	}); err != nil {
		t.Fatal(err)
	}
	s3 := s3server.New("access", c.of("s3-key"))
	if err := s3.Put("podinfo", "a.yaml", configMap("a", w.namespace)); err != nil {
		t.Fatal(err)
	}
	s.s3 = server(s3)
	repo := chartserver.New()
	repo.Username, repo.Password = "robot", c.of("charts")
	pkg, err := chart.Build(t.Context(), os.DirFS(podinfoRepo(t)), "charts/podinfo", nil)
	if err != nil {
		t.Fatal(err)
	}
	repo.Add(pkg.Name, pkg.Version, pkg.Data)
	s.charts = server(repo)
	s.notified = make(chan struct{})
	arrived := sync.OnceFunc(func() { close(s.notified) })
	s.hook = server(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { arrived() }))
	return s
}

// credentials has a secret in every field that takes one: the right one, and a wrong one.
func (c *canaries) credentials(s *servers) []credential {
	pair := func(password string) map[string]string {
		return map[string]string{"username": "robot", "password": password}
	}
	docker := func(password string) map[string]string {
		return map[string]string{".dockerconfigjson": `{"auths":{"` + s.registry + `":{"username":"robot","password":"` + password + `"}}}`}
	}
	keys := func(secret string) map[string]string {
		return map[string]string{"accesskey": "access", "secretkey": secret}
	}
	other, _ := age.GenerateX25519Identity()
	kubeconfig := func(token string) string {
		return "apiVersion: v1\nkind: Config\nclusters: [{name: a, cluster: {server: \"https://127.0.0.1:1\"}}]\nusers: [{name: a, user: {token: " + token + "}}]\ncontexts: [{name: a, context: {cluster: a, user: a}}]\ncurrent-context: a\n"
	}
	const tree = "prune: true, retryInterval: 1s, sourceRef: {kind: GitRepository, name: basic}"
	const podinfo = "chart: {spec: {chart: podinfo, sourceRef: {kind: HelmRepository, name: charts}}}, install: {strategy: {name: RetryOnFailure, retryInterval: 1s}}, valuesFrom: [{kind: Secret, name: NAME}]"
	return []credential{
		{"GitRepository/basic", "", pair(s.g.Password), "url: " + s.g.url + "/podinfo, ref: {branch: main}, secretRef: {name: NAME}"},
		{"GitRepository/git-wrong", "AuthenticationFailed", pair(c.of("git-wrong")), "url: " + s.g.url + "/podinfo, ref: {branch: main}, secretRef: {name: NAME}"},
		{"GitRepository/git-away", "GitOperationFailed", pair(c.of("git-away")), "url: http://" + s.dead + "/podinfo, ref: {branch: main}, secretRef: {name: NAME}"},
		{"GitRepository/git-token", "AuthenticationFailed", map[string]string{"bearerToken": c.of("git-token")}, "url: " + s.g.url + "/podinfo, ref: {branch: main}, secretRef: {name: NAME}"},
		{"GitRepository/ssh-garbage", "AuthenticationFailed", map[string]string{"identity": "-----BEGIN PRIVATE KEY-----\n" + c.of("ssh-garbage") + "\n", "known_hosts": "127.0.0.1 " + c.of("hosts")}, "url: ssh://git@" + s.dead + "/podinfo, ref: {branch: main}, secretRef: {name: NAME}"},
		{"OCIRepository/registry", "", docker(c.of("registry")), "insecure: true, url: oci://" + s.registry + "/app, ref: {tag: v1}, secretRef: {name: NAME}"},
		{"OCIRepository/registry-wrong", "AuthenticationFailed", docker(c.of("registry-wrong")), "insecure: true, url: oci://" + s.registry + "/app, ref: {tag: v1}, secretRef: {name: NAME}"},
		{"OCIRepository/registry-garbage", "AuthenticationFailed", map[string]string{".dockerconfigjson": `{"auths": ` + c.of("registry-garbage")}, "insecure: true, url: oci://" + s.registry + "/app, ref: {tag: v1}, secretRef: {name: NAME}"},
		{"Bucket/bucket", "", keys(c.of("s3-key")), "insecure: true, region: us-east-1, endpoint: \"" + s.s3 + "\", bucketName: podinfo, secretRef: {name: NAME}"},
		{"Bucket/bucket-wrong", "AuthenticationFailed", keys(c.of("s3-wrong")), "insecure: true, region: us-east-1, endpoint: \"" + s.s3 + "\", bucketName: podinfo, secretRef: {name: NAME}"},
		{"HelmRepository/charts", "", pair(c.of("charts")), "url: \"http://" + s.charts + "/charts\", secretRef: {name: NAME}"},
		{"HelmRepository/charts-wrong", "AuthenticationFailed", pair(c.of("charts-wrong")), "url: \"http://" + s.charts + "/charts\", secretRef: {name: NAME}"},
		{"Kustomization/plain", "", map[string]string{"unused": c.of("unused")}, tree + ", path: ./plain"},
		{"Kustomization/remote-away", "ReconciliationFailed", map[string]string{"value": kubeconfig(c.of("kubeconfig-token"))}, tree + ", path: ./plain, timeout: 5s, kubeConfig: {secretRef: {name: NAME}}"},
		{"Kustomization/remote-garbage", "ReconciliationFailed", map[string]string{"value": c.of("kubeconfig-garbage") + ": ["}, tree + ", path: ./plain, kubeConfig: {secretRef: {name: NAME}}"},
		{"Kustomization/sealed", "", map[string]string{"main.agekey": s.id.String()}, tree + ", path: ./sealed, decryption: {provider: sops, secretRef: {name: NAME}}"},
		{"Kustomization/sealed-wrong", "BuildFailed", map[string]string{"main.agekey": c.add(other.String())}, tree + ", path: ./sealed, decryption: {provider: sops, secretRef: {name: NAME}}"},
		{"Kustomization/sealed-garbage", "BuildFailed", map[string]string{"main.agekey": "AGE-SECRET-KEY-" + c.of("age")}, tree + ", path: ./sealed, decryption: {provider: sops, secretRef: {name: NAME}}"},
		{"Kustomization/vars", "", map[string]string{"a": c.of("variable")}, tree + ", path: ./vars, postBuild: {substituteFrom: [{kind: Secret, name: NAME}]}"},
		{"Kustomization/vars-broken", "BuildFailed", map[string]string{"a": "\"" + c.of("variable-broken")}, tree + ", path: ./name, postBuild: {substituteFrom: [{kind: Secret, name: NAME}]}"},
		{"HelmRelease/values", "", map[string]string{"values.yaml": "ui: {message: " + c.of("value") + "}"}, podinfo},
		{"HelmRelease/values-misfit", "InstallFailed", map[string]string{"values.yaml": "replicaCount: " + c.of("value-misfit")}, podinfo},
		{"Kustomization/vars-misfit", "ReconciliationFailed", map[string]string{"a": c.of("variable-misfit")}, tree + ", path: ./misfit, postBuild: {substituteFrom: [{kind: Secret, name: NAME}]}"},
		{"HelmRelease/values-broken", "ValuesError", map[string]string{"values.yaml": c.of("values-broken") + ": ["}, podinfo},
		{"Receiver/hook", "", map[string]string{"token": c.of("token-of-the-webhook")}, "type: generic, secretRef: {name: NAME}, resources: [{kind: GitRepository, name: basic}]"},
		{"Provider/good", "", map[string]string{"address": "http://" + s.hook + "/" + c.of("address"), "token": c.of("provider-token")}, "type: generic, secretRef: {name: NAME}"},
		{"Provider/away", "", map[string]string{"address": "http://user:" + c.of("address-user") + "@" + s.dead + "/" + c.of("address-away"), "token": c.of("provider-away")}, "type: slack, channel: a, secretRef: {name: NAME}"},
		{"Provider/garbage", "", map[string]string{"address": "::" + c.of("address-garbage"), "token": c.of("provider-garbage")}, "type: generic, secretRef: {name: NAME}"},
	}
}

// TestCredentialsStaySecret has a secret in every field that takes one, in passes that succeed and in passes that fail,
// and looks for it in all that the controllers tell: status, events, what is posted, the log at its most talkative, and
// metrics.
func TestCredentialsStaySecret(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	c := &canaries{}
	posted := &logs{}
	events := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		data, _ := io.ReadAll(r.Body)
		fmt.Fprintf(posted, "%s %v %s\n", r.URL, r.Header, data)
	}))
	t.Cleanup(events.Close)
	o := w.options()
	o.LogLevel, o.EventsAddr, o.MetricsAddr, o.ReceiverAddr = "trace", events.URL, freeAddr(t), freeAddr(t)
	o.Registry = nil // that of the process, which is served
	s := c.servers(t, w)
	w.repositoryOverSSH(s.g)
	c.add(string(w.data("Secret/git", "identity")))
	table := c.credentials(s)
	for _, x := range table {
		kind, name, _ := strings.Cut(x.ref, "/")
		data := map[string][]byte{}
		for k, v := range x.secret {
			data[k] = []byte(v)
		}
		encoded, err := json.Marshal(data)
		if err != nil {
			t.Fatal(err)
		}
		w.apply("apiVersion: v1\nkind: Secret\nmetadata: {name: NAME}\ndata: "+string(encoded), "NAME", name)
		interval := "interval: 1h, "
		if kind == "Provider" {
			interval = ""
			w.apply("apiVersion: notification.toolkit.fluxcd.io/v1beta3\nkind: Alert\nmetadata: {name: NAME}\nspec: {providerRef: {name: NAME}, eventSources: [{kind: Kustomization, name: \"*\"}, {kind: GitRepository, name: \"*\"}]}", "NAME", name)
		}
		w.apply("apiVersion: "+w.kind(kind).GroupVersion().String()+"\nkind: "+kind+"\nmetadata: {name: NAME}\nspec: {"+interval+x.spec+"}", "NAME", name)
	}
	w.run(all(), o)
	w.ready("GitRepository/podinfo")
	for _, x := range table {
		switch {
		case strings.HasPrefix(x.ref, "Provider/"): // they have no status
		case x.fails == "":
			w.ready(x.ref)
		default:
			w.failed(x.ref, x.fails, "")
		}
	}
	<-s.notified
	for _, kind := range []string{"GitRepository", "OCIRepository", "Bucket", "HelmRepository", "HelmChart", "Kustomization", "HelmRelease", "Receiver", "Provider", "Alert"} {
		list, err := w.resource(w.kind(kind), w.namespace).List(t.Context(), metav1.ListOptions{})
		if err != nil {
			t.Fatal(err)
		}
		for _, o := range list.Items {
			data, err := json.Marshal(o.Object["status"])
			if err != nil {
				t.Fatal(err)
			}
			c.absent(t, kind+" "+o.GetName(), string(data))
		}
	}
	list, err := w.resource(schema.GroupVersionKind{Group: "events.k8s.io", Version: "v1", Kind: "Event"}, w.namespace).List(t.Context(), metav1.ListOptions{})
	if err != nil {
		t.Fatal(err)
	}
	data, err := list.MarshalJSON()
	if err != nil {
		t.Fatal(err)
	}
	c.absent(t, "events", string(data))
	resp, err := http.Get("http://" + o.MetricsAddr + "/metrics")
	if err != nil {
		t.Fatal(err)
	}
	scrape, err := io.ReadAll(resp.Body)
	resp.Body.Close()
	if err != nil {
		t.Fatal(err)
	}
	c.absent(t, "metrics", string(scrape))
	c.absent(t, "what was posted", posted.text())
	c.absent(t, "the log", w.logs.text())
	t.Logf("%d secrets; %d events, %d bytes posted, %d of metrics, %d of the log", len(c.all), len(list.Items), len(posted.text()), len(scrape), len(w.logs.text()))
}

func (l *logs) text() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.buf.String()
}

// data reads an entry of a Secret.
func (w *world) data(ref, key string) []byte {
	w.t.Helper()
	data, err := base64.StdEncoding.DecodeString(text(w.get(ref), "data", key))
	if err != nil {
		w.t.Fatal(err)
	}
	return data
}
