package ssa_test

import (
	"context"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

	"github.com/gitopskit/gitopskit/ssa"
)

// TestObjects: apply, compare, read and delete without an inventory.
func TestObjects(t *testing.T) {
	c, _ := newClient(t)
	o := &ssa.Objects{Client: c}
	objs := objects(t, configMap("a", "1")+configMap("b", "1"))
	differ := func() [][]string {
		t.Helper()
		lines, err := o.Diff(t.Context(), objs)
		if err != nil {
			t.Fatal(err)
		}
		return lines
	}
	if diff := cmp.Diff([][]string{{"it does not exist"}, {"it does not exist"}}, differ()); diff != "" {
		t.Errorf("-want +got\n%s", diff)
	}
	if err := o.Apply(t.Context(), objs); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff([][]string{nil, nil}, differ()); diff != "" {
		t.Errorf("-want +got\n%s", diff)
	}
	if get(t, c, configMaps, "app-inventory") != nil {
		t.Error("there is an inventory")
	}
	unstructured.SetNestedField(objs[1].Object, "2", "data", "key") //nolint:errcheck // it has data
	if diff := cmp.Diff([][]string{nil, {`~ data.key: "1" -> "2"`}}, differ()); diff != "" {
		t.Errorf("-want +got\n%s", diff)
	}
	unserved := objects(t, "apiVersion: example.com/v1\nkind: Widget\nmetadata: {name: w}\n")
	live, err := o.Get(t.Context(), append(append(objs[:1:1], objects(t, configMap("none", ""))...), unserved...))
	if err != nil || live[0].GetUID() == "" || live[1] != nil || live[2] != nil {
		t.Fatalf("got %v %v", live, err)
	}
	// Deleted and made again, it is another one.
	if err := o.Delete(t.Context(), append(objs[:1:1], unserved...), ""); err != nil {
		t.Fatal(err)
	}
	if err := o.Apply(t.Context(), objs[:1]); err != nil {
		t.Fatal(err)
	}
	if err := o.Delete(t.Context(), live[:1], metav1.DeletePropagationForeground); !errors.Is(err, ssa.ErrConflict) {
		t.Errorf("got %v", err)
	}
	for range 2 {
		if err := o.Delete(t.Context(), objs, ""); err != nil {
			t.Error(err)
		}
	}
	if get(t, c, configMaps, "a") != nil || get(t, c, configMaps, "b") != nil {
		t.Error("something is left")
	}
}

// TestObjectsManagers: fields that another manager set for us become ours, and go when we do not set them.
func TestObjectsManagers(t *testing.T) {
	c, _ := newClient(t)
	before := objects(t, "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: a}\ndata: {old: x, key: '1'}\n")[0]
	if _, err := configMapsOf(c).Create(t.Context(), before, metav1.CreateOptions{FieldManager: "helm"}); err != nil {
		t.Fatal(err)
	}
	o := &ssa.Objects{Client: c, Managers: []string{"helm"}}
	if err := o.Apply(t.Context(), objects(t, configMap("a", "2"))); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(map[string]any{"key": "2"}, get(t, c, configMaps, "a").Object["data"]); diff != "" {
		t.Errorf("-want +got\n%s", diff)
	}
}

func TestObjectsWait(t *testing.T) {
	c, _ := newClient(t)
	o := &ssa.Objects{Client: c}
	objs := objects(t, deployment("web", 1))
	if err := o.Apply(t.Context(), objs); err != nil {
		t.Fatal(err)
	}
	if err := o.WaitReady(t.Context(), objs); err != nil {
		t.Error(err)
	}
	var seen []bool
	err := o.WaitFor(t.Context(), objs[0], func(live *unstructured.Unstructured) (bool, error) {
		seen = append(seen, live != nil)
		if len(seen) == 1 {
			if err := o.Delete(t.Context(), objs, ""); err != nil {
				t.Error(err)
			}
		}
		return live == nil, nil
	})
	if err != nil || !seen[0] || seen[len(seen)-1] {
		t.Errorf("saw %v: %v", seen, err)
	}
	broken := errors.New("broken")
	if err := o.WaitFor(t.Context(), objs[0], func(*unstructured.Unstructured) (bool, error) { return false, broken }); !errors.Is(err, broken) {
		t.Errorf("got %v", err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
	defer cancel()
	never := func(*unstructured.Unstructured) (bool, error) { return false, nil }
	if err := o.WaitFor(ctx, objs[0], never); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("got %v", err)
	}
	if err := o.WaitReady(ctx, objs); !errors.Is(err, ssa.ErrNotReady) {
		t.Errorf("got %v", err)
	}
	unserved := objects(t, "apiVersion: example.com/v1\nkind: Widget\nmetadata: {name: w}\n")[0]
	if err := o.WaitFor(t.Context(), unserved, func(live *unstructured.Unstructured) (bool, error) { return live == nil, nil }); err != nil {
		t.Error(err)
	}
	if err := o.WaitFor(t.Context(), unserved, never); !errors.Is(err, ssa.ErrUnknownKind) {
		t.Errorf("got %v", err)
	}
	if err := (&ssa.Objects{}).Apply(t.Context(), objs); !errors.Is(err, ssa.ErrInvalid) || !strings.Contains(err.Error(), "Client is nil") {
		t.Errorf("got %v", err)
	}
}
