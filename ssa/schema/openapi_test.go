package schema_test

import (
	"errors"
	"testing"

	"github.com/google/go-cmp/cmp"
	apischema "k8s.io/apimachinery/pkg/runtime/schema"

	"github.com/gitopskit/gitopskit/ssa/schema"
)

const document = `{
  "paths": {
    "/apis/x.example.com/v1/": {"get": {}},
    "/apis/x.example.com/v1/things": {"get": {"x-kubernetes-action": "list", "x-kubernetes-group-version-kind": {"group": "x.example.com", "version": "v1", "kind": "Thing"}}},
    "/apis/x.example.com/v1/namespaces/{namespace}/things": {
      "get": {"x-kubernetes-action": "list", "x-kubernetes-group-version-kind": {"group": "x.example.com", "version": "v1", "kind": "Thing"}},
      "post": {"x-kubernetes-action": "post", "x-kubernetes-group-version-kind": {"group": "x.example.com", "version": "v1", "kind": "Thing"}},
      "delete": {"x-kubernetes-action": "deletecollection", "x-kubernetes-group-version-kind": {"group": "x.example.com", "version": "v1", "kind": "Thing"}},
      "parameters": []
    },
    "/apis/x.example.com/v1/namespaces/{namespace}/things/{name}": {"get": {"x-kubernetes-action": "get", "x-kubernetes-group-version-kind": {"group": "x.example.com", "version": "v1", "kind": "Thing"}}},
    "/apis/x.example.com/v1/namespaces/{namespace}/things/{name}/run": {"post": {"x-kubernetes-action": "connect", "x-kubernetes-group-version-kind": {"group": "x.example.com", "version": "v1", "kind": "Run"}}},
    "/apis/x.example.com/v1/namespaces/{namespace}/things/{name}/run/{path}": {"post": {"x-kubernetes-action": "connect"}},
    "/apis/x.example.com/v1/watch/things": {"get": {"x-kubernetes-action": "watchlist"}}
  },
  "components": {"schemas": {
    "com.example.x.v1.Thing": {"type": "object", "description": "A thing.", "properties": {
      "apiVersion": {"type": "string"}, "kind": {"type": "string"}, "metadata": {"type": "object"},
      "next": {"allOf": [{"$ref": "#/components/schemas/com.example.x.v1.Part"}]}
    }, "x-kubernetes-group-version-kind": [{"group": "x.example.com", "version": "v1", "kind": "Thing"}]},
    "com.example.x.v1.Part": {"type": "object", "properties": {"size": {"type": "integer", "default": 3}, "part": {"$ref": "#/components/schemas/com.example.x.v1.Part"}}}
  }}
}`

func TestFromOpenAPI(t *testing.T) {
	gv := apischema.GroupVersion{Group: "x.example.com", Version: "v1"}
	set, err := schema.FromOpenAPI(map[apischema.GroupVersion][]byte{gv: []byte(document)})
	if err != nil {
		t.Fatal(err)
	}
	want := []schema.Kind{{
		GroupVersionKind: gv.WithKind("Thing"), Resource: "things", Singular: "thing", Namespaced: true,
		Verbs:        []string{"create", "deletecollection", "get", "list", "watch"},
		Subresources: []schema.Subresource{{Name: "run", Kind: gv.WithKind("Run"), Verbs: []string{"create"}}},
	}}
	if diff := cmp.Diff(want, set.Kinds()); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	obj := read(t, "apiVersion: x.example.com/v1\nkind: Thing\nmetadata: {name: a}\nnext: {part: {part: {sise: 1}}}\n").Objects
	v := set.Validate(t.Context(), obj, nil)
	if len(v) != 1 || v[0].Path != "next.part.part.sise" || v[0].Message != "unknown field, did you mean size?" {
		t.Error(v)
	}
	out, err := set.Default(obj[0])
	if err != nil || out.Object["next"].(map[string]any)["size"] != int64(3) {
		t.Errorf("%v, %v", out, err)
	}
	if _, err := set.TypeConverter(t.Context(), gv.WithKind("Thing")); err != nil {
		t.Error(err)
	}
}

func TestFromOpenAPIRefuses(t *testing.T) {
	gv := apischema.GroupVersion{Group: "x.example.com", Version: "v1"}
	for name, text := range map[string]string{
		"not JSON":   `{`,
		"other type": `{"paths": []}`,
		"no types":   `{"paths": {"/apis/x.example.com/v1/things": {"get": {"x-kubernetes-action": "list", "x-kubernetes-group-version-kind": {"group": "x.example.com", "version": "v1", "kind": "Thing"}}}}}`,
		"operation":  `{"paths": {"/apis/x.example.com/v1/things": {"get": "x"}}}`,
	} {
		_, err := schema.FromOpenAPI(map[apischema.GroupVersion][]byte{gv: []byte(text)})
		var e *schema.Error
		if !errors.Is(err, schema.ErrInvalid) || !errors.As(err, &e) || e.Op != "openapi" || !e.Terminal() {
			t.Errorf("%s: %v", name, err)
		}
	}
	// A definition that leads nowhere is found when it is needed.
	set, err := schema.FromOpenAPI(map[apischema.GroupVersion][]byte{gv: []byte(`{
		"paths": {"/apis/x.example.com/v1/things": {"get": {"x-kubernetes-action": "list", "x-kubernetes-group-version-kind": {"group": "x.example.com", "version": "v1", "kind": "Thing"}}}},
		"components": {"schemas": {"Thing": {"properties": {"a": {"$ref": "#/components/schemas/Nothing"}}, "x-kubernetes-group-version-kind": [{"group": "x.example.com", "version": "v1", "kind": "Thing"}]}}}}`)})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := set.TypeConverter(t.Context(), gv.WithKind("Thing")); !errors.Is(err, schema.ErrInvalid) {
		t.Errorf("types: %v", err)
	}
	obj := read(t, "apiVersion: x.example.com/v1\nkind: Thing\n").Objects
	for range 2 {
		if v := set.Validate(t.Context(), obj, nil); len(v) != 1 || v[0].Reason != schema.NotChecked {
			t.Error(v)
		}
	}
}
