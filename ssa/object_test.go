package ssa_test

import (
	"bytes"
	"errors"
	"strings"
	"testing"

	"github.com/gitopskit/gitopskit/ssa"
)

func TestParseObjectID(t *testing.T) {
	for _, s := range []string{"", "a", "a_b", "a_b_c", "ns__group_Kind", "ns_name_group_", "ns_a_b_group_Kind"} {
		if id, err := ssa.ParseObjectID(s); !errors.Is(err, ssa.ErrInvalid) {
			t.Errorf("%q: got %v %v", s, id, err)
		}
	}
}

func FuzzParseObjectID(f *testing.F) {
	for _, s := range []string{"ns_name_apps_Deployment", "_system__node_rbac.authorization.k8s.io_ClusterRole", "___", "a_b___C"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		id, err := ssa.ParseObjectID(s)
		if err != nil {
			return
		}
		again, err := ssa.ParseObjectID(id.Encode())
		if err != nil || again != id {
			t.Errorf("%q: %+v, encoded and parsed %+v: %v", s, id, again, err)
		}
	})
}

func TestReadObjects(t *testing.T) {
	objs, err := ssa.ReadObjects(strings.NewReader("a: b\n"))
	if !errors.Is(err, ssa.ErrInvalid) || len(objs) != 0 || !strings.Contains(err.Error(), "document 1") {
		t.Errorf("no kind: %v", err)
	}
	objs, err = ssa.ReadObjects(strings.NewReader("kind: A\napiVersion: v1\n---\nkind: B\napiVersion: v1\n---\nx: [\n"))
	if !errors.Is(err, ssa.ErrInvalid) || len(objs) != 2 || !strings.Contains(err.Error(), "document 3") {
		t.Errorf("broken: %d %v", len(objs), err)
	}
	for _, secret := range []string{"kin: Secret\nstringData: {k: hunter2}\n", "- hunter2\n", "hunter2\n", "{kind: 1, apiVersion: hunter2}"} {
		if _, err = ssa.ReadObjects(strings.NewReader(secret)); !errors.Is(err, ssa.ErrInvalid) || strings.Contains(err.Error(), "hunter2") {
			t.Errorf("%q: got %v", secret, err)
		}
	}
	if objs, err = ssa.ReadObjects(strings.NewReader("")); err != nil || len(objs) != 0 {
		t.Errorf("empty: %v %v", objs, err)
	}
}

func FuzzReadObjects(f *testing.F) {
	f.Add([]byte("apiVersion: v1\nkind: ConfigMap\nmetadata: {name: a}\n---\n{\"kind\": \"A\", \"apiVersion\": \"v1\"}\n"))
	f.Add([]byte("--- \n%YAML 1.1\n---\n- x\n"))
	f.Add([]byte("kind: List\napiVersion: v1\nitems: [{}]\n"))
	f.Fuzz(func(t *testing.T, data []byte) {
		objs, err := ssa.ReadObjects(bytes.NewReader(data))
		if err != nil && len(data) == 0 {
			t.Error(err)
		}
		for _, o := range objs {
			o.DeepCopy()
		}
	})
}
