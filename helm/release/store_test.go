package release_test

import (
	"bytes"
	"compress/gzip"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"runtime"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"helm.sh/helm/v3/pkg/chart"
	helmrelease "helm.sh/helm/v3/pkg/release"
	"helm.sh/helm/v3/pkg/storage/driver"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/kubernetes"

	"github.com/gitopskit/gitopskit/helm/release"
)

func record(revision int) *release.Record {
	return &release.Record{Release: &helmrelease.Release{
		Name: "shop", Namespace: "apps", Version: revision, Manifest: "---\na: 1\n", Config: map[string]any{"a": "hunter2"},
		Info:   &helmrelease.Info{Status: helmrelease.StatusDeployed, Description: "x"},
		Chart:  &chart.Chart{Metadata: &chart.Metadata{Name: "web", Version: "1.0.0"}},
		Labels: map[string]string{"team": "shop"},
	}}
}

func pack(t testing.TB, data []byte) []byte {
	t.Helper()
	var b bytes.Buffer
	w := gzip.NewWriter(&b)
	if _, err := w.Write(data); err != nil {
		t.Fatal(err)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return []byte(base64.StdEncoding.EncodeToString(b.Bytes()))
}

// TestUnknownMembers: what a newer Helm wrote is there after we wrote.
func TestUnknownMembers(t *testing.T) {
	text := `{"name":"shop","version":1,"apply_method":"ssa","future":{"a":[1,2.50]},"info":{"status":"deployed","first_deployed":"2026-01-02T03:04:05.000000006Z","sequence":{"x":1}},"config":{"a":1}}`
	r, err := release.Decode([]byte(base64.StdEncoding.EncodeToString([]byte(text))), 1<<20)
	if err != nil {
		t.Fatal(err)
	}
	if r.ApplyMethod() != "ssa" {
		t.Errorf("apply method %q", r.ApplyMethod())
	}
	r.Release.Info.Status = helmrelease.StatusSuperseded
	data, err := release.Encode(r)
	if err != nil {
		t.Fatal(err)
	}
	back, err := release.Decode(data, 1<<20)
	if err != nil {
		t.Fatal(err)
	}
	var got map[string]any
	out, err := json.Marshal(back)
	if err == nil {
		err = json.Unmarshal(out, &got)
	}
	if err != nil {
		t.Fatal(err)
	}
	want := map[string]any{
		"name": "shop", "version": 1.0, "apply_method": "ssa", "future": map[string]any{"a": []any{1.0, 2.5}}, "config": map[string]any{"a": 1.0},
		"info": map[string]any{"status": "superseded", "first_deployed": "2026-01-02T03:04:05.000000006Z", "last_deployed": "", "deleted": "", "sequence": map[string]any{"x": 1.0}},
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("-want +got\n%s", diff)
	}
	if !bytes.Contains(out, []byte("2.50")) {
		t.Error("a number was written otherwise")
	}
}

func TestDecodeRefuses(t *testing.T) {
	cases := map[string]struct {
		data []byte
		want error
	}{
		"not base64":  {[]byte("§"), release.ErrCorrupt},
		"not gzip":    {[]byte(base64.StdEncoding.EncodeToString([]byte("\x1f\x8b\x08xxxx"))), release.ErrCorrupt},
		"cut":         {pack(t, []byte(`{"name":"hunter2"}`))[:24], release.ErrCorrupt},
		"not JSON":    {pack(t, []byte(`{"name":hunter2}`)), release.ErrCorrupt},
		"other types": {pack(t, []byte(`{"name":"a","version":"hunter2"}`)), release.ErrCorrupt},
		"null":        {pack(t, []byte(`null`)), release.ErrCorrupt},
		"empty":       {nil, release.ErrCorrupt},
		"no name":     {pack(t, []byte(`{"version":1,"info":{}}`)), release.ErrCorrupt},
		"no info":     {pack(t, []byte(`{"name":"a","version":1}`)), release.ErrCorrupt},
		"null hook":   {pack(t, []byte(`{"name":"a","version":1,"info":{},"hooks":[null]}`)), release.ErrCorrupt},
		"large":       {pack(t, []byte(`{"name":"`+strings.Repeat("a", 2000)+`","version":1,"info":{}}`)), release.ErrLimit},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			_, err := release.Decode(c.data, 1000)
			if !errors.Is(err, c.want) || strings.Contains(err.Error(), "hunter2") {
				t.Errorf("got %v", err)
			}
		})
	}
}

// TestBomb: a Secret that unpacks to a thousand times its size costs no more than the limit.
func TestBomb(t *testing.T) {
	bomb := pack(t, bytes.Repeat([]byte(" "), 100<<20))
	if len(bomb) > 1<<20 {
		t.Fatalf("%d bytes do not fit a Secret", len(bomb))
	}
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	_, err := release.Decode(bomb, 8<<20)
	runtime.ReadMemStats(&after)
	if !errors.Is(err, release.ErrLimit) {
		t.Errorf("got %v", err)
	}
	if used := after.TotalAlloc - before.TotalAlloc; used > 64<<20 {
		t.Errorf("%d MiB were allocated", used>>20)
	}
}

// TestStore: both directions between our Secrets and those of Helm's driver.
func TestStore(t *testing.T) {
	t.Parallel()
	c := newCluster(t)
	clientset, err := kubernetes.NewForConfig(c.config)
	if err != nil {
		t.Fatal(err)
	}
	theirs := driver.NewSecrets(clientset.CoreV1().Secrets(c.namespace))
	for i := 1; i <= 3; i++ {
		if err := c.store.Save(t.Context(), record(i)); err != nil {
			t.Fatal(err)
		}
	}
	rel, err := theirs.Get("sh.helm.release.v1.shop.v2")
	if err != nil {
		t.Fatal(err)
	}
	want := record(2).Release
	want.Chart.Raw = rel.Chart.Raw
	if diff := cmp.Diff(asJSON(t, want), asJSON(t, rel)); diff != "" || rel.Labels["team"] != "shop" {
		t.Errorf("helm reads otherwise: %v\n%s", rel.Labels, diff)
	}
	rel.Version, rel.Labels = 4, map[string]string{"team": "theirs"}
	if err := theirs.Create("sh.helm.release.v1.shop.v4", rel); err != nil {
		t.Fatal(err)
	}
	got := must[*release.Record](t)(c.store.Get(t.Context(), "shop", 4))
	if diff := cmp.Diff(asJSON(t, rel), asJSON(t, got)); diff != "" || !cmp.Equal(got.Release.Labels, map[string]string{"team": "theirs"}) {
		t.Errorf("we read otherwise: %v\n%s", got.Release.Labels, diff)
	}
	stored := c.get("Secret", "sh.helm.release.v1.shop.v1")
	created := c.get("Secret", "sh.helm.release.v1.shop.v4")
	if stored.Object["type"] != created.Object["type"] || len(stored.GetLabels()) != len(created.GetLabels()) {
		t.Errorf("the Secrets differ: %v %v", stored.GetLabels(), created.GetLabels())
	}
	if diff := cmp.Diff([]string{"4 deployed", "3 deployed", "2 deployed", "1 deployed"}, c.history()); diff != "" {
		t.Errorf("-want +got\n%s", diff)
	}
	c.store.Metadata = nil
	if diff := cmp.Diff([]string{"4 deployed", "3 deployed", "2 deployed", "1 deployed"}, c.history()); diff != "" {
		t.Errorf("without metadata: -want +got\n%s", diff)
	}
	// Two writers.
	one, two := must[*release.Record](t)(c.store.Get(t.Context(), "shop", 1)), must[*release.Record](t)(c.store.Get(t.Context(), "shop", 1))
	one.Release.Info.Status = helmrelease.StatusSuperseded
	if err := errors.Join(c.store.Save(t.Context(), one), c.store.Save(t.Context(), one)); err != nil {
		t.Error(err)
	}
	if err := c.store.Save(t.Context(), two); !errors.Is(err, release.ErrConflict) {
		t.Errorf("stale: %v", err)
	}
	if err := c.store.Save(t.Context(), record(1)); !errors.Is(err, release.ErrExists) {
		t.Errorf("again: %v", err)
	}
	for range 2 {
		if err := c.store.Delete(t.Context(), "shop", 1); err != nil {
			t.Error(err)
		}
	}
	if err := c.store.Save(t.Context(), one); !errors.Is(err, release.ErrConflict) {
		t.Errorf("deleted meanwhile: %v", err)
	}
	if _, err := c.store.Get(t.Context(), "shop", 1); !errors.Is(err, release.ErrNotFound) {
		t.Errorf("got %v", err)
	}
}

func asJSON(t *testing.T, v any) map[string]any {
	t.Helper()
	data, err := json.Marshal(v)
	if err != nil {
		t.Fatal(err)
	}
	var out map[string]any
	if err := json.Unmarshal(data, &out); err != nil {
		t.Fatal(err)
	}
	return out
}

func TestStoreRefuses(t *testing.T) {
	t.Parallel()
	c := newCluster(t)
	large := record(1)
	noise := make([]byte, 0, 4<<20)
	for i := range 400_000 {
		noise = fmt.Appendf(noise, "%x", i*2654435761)
	}
	large.Release.Manifest = string(noise)
	if err := c.store.Save(t.Context(), large); !errors.Is(err, release.ErrLimit) {
		t.Errorf("large: %v", err)
	}
	labelled := record(1)
	labelled.Release.Labels["owner"] = "me"
	if err := c.store.Save(t.Context(), labelled); !errors.Is(err, release.ErrInvalid) {
		t.Errorf("label: %v", err)
	}
	foreign := record(1)
	foreign.Version = "x"
	if err := c.store.Save(t.Context(), foreign); !errors.Is(err, release.ErrInvalid) {
		t.Errorf("version: %v", err)
	}
}

// TestCorruptRecord: a newest record that cannot be read is an error that
// names its Secret, and nothing is written.
func TestCorruptRecord(t *testing.T) {
	t.Parallel()
	c := newCluster(t)
	d := c.desired("1.0.0", map[string]string{"a.yaml": configMap("a", "1")}, nil)
	must[*release.Record](t)(c.client.Install(t.Context(), d))
	must[*release.Record](t)(c.client.Upgrade(t.Context(), d))
	for name, patch := range map[string]string{
		"gzip": `{"data":{"release":"` + base64.StdEncoding.EncodeToString([]byte("H4sIAAAA")) + `"}}`,
		"key":  `{"data":{"release":null}}`,
		"swap": `{"data":{"release":"` + fmt.Sprint(c.get("Secret", "sh.helm.release.v1.shop.v1").Object["data"].(map[string]any)["release"]) + `"}}`,
	} {
		if _, err := c.resource("Secret").Patch(t.Context(), "sh.helm.release.v1.shop.v2", types.MergePatchType, []byte(patch), metav1.PatchOptions{}); err != nil {
			t.Fatal(err)
		}
		out, err := c.client.Reconcile(t.Context(), d, &release.Status{}, nil)
		if !errors.Is(err, release.ErrCorrupt) || !strings.Contains(err.Error(), "sh.helm.release.v1.shop.v2") || out.Next != release.None {
			t.Errorf("%s: %+v %v", name, out, err)
		}
	}
	if diff := cmp.Diff([]string{"2 deployed", "1 superseded"}, c.history()); diff != "" {
		t.Errorf("-want +got\n%s", diff)
	}
	odd := &unstructured.Unstructured{Object: map[string]any{"apiVersion": "v1", "kind": "Secret", "metadata": map[string]any{
		"name": "odd", "labels": map[string]any{"owner": "helm", "name": "shop", "version": "x"}}}}
	if _, err := c.resource("Secret").Create(t.Context(), odd, metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	if _, err := c.store.History(t.Context(), "shop"); !errors.Is(err, release.ErrCorrupt) {
		t.Errorf("got %v", err)
	}
}

func FuzzDecode(f *testing.F) {
	data, err := release.Encode(record(1))
	if err != nil {
		f.Fatal(err)
	}
	f.Add(data)
	f.Add([]byte(base64.StdEncoding.EncodeToString([]byte(`{"name":"a","version":1,"info":{"status":"failed","x":1},"y":[1]}`))))
	f.Fuzz(func(t *testing.T, data []byte) {
		r, err := release.Decode(data, 1<<16)
		if err != nil {
			if !errors.Is(err, release.ErrCorrupt) && !errors.Is(err, release.ErrLimit) {
				t.Errorf("got %v", err)
			}
			return
		}
		again, err := release.Encode(r)
		if err != nil {
			t.Fatal(err)
		}
		back, err := release.Decode(again, 1<<20)
		if err != nil {
			t.Fatal(err)
		}
		a, errA := release.Observe(r, "")
		b, errB := release.Observe(back, "")
		if errA != nil || errB != nil || a.Digest != b.Digest {
			t.Errorf("%s became %s: %v %v", a.Digest, b.Digest, errA, errB)
		}
	})
}
