package schema_test

import (
	"errors"
	"flag"
	"fmt"
	"hash/fnv"
	"maps"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	apischema "k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/dynamic"
	"k8s.io/client-go/rest"

	"github.com/gitopskit/gitopskit/runtime/testenv"
	"github.com/gitopskit/gitopskit/ssa/schema"
)

// every is how the long run is asked for: go test -run Differential -schema.every 1.
var every = flag.Uint("schema.every", 12, "of the mutations of each object, try one in so many")

// cluster sends dry runs of server-side apply with strict field validation.
type cluster struct {
	dynamic   dynamic.Interface
	namespace string
	set       *schema.Set
}

func newCluster(t testing.TB, set *schema.Set) *cluster {
	t.Helper()
	env := testenv.Start(t)
	config := rest.CopyConfig(env.Config())
	config.QPS = -1
	config.WarningHandlerWithContext = rest.NoWarnings{}
	dyn, err := dynamic.NewForConfig(config)
	if err != nil {
		t.Fatal(err)
	}
	return &cluster{dynamic: dyn, namespace: env.Namespace, set: set}
}

// apply returns what the server says to a dry run.
func (c *cluster) apply(t testing.TB, obj *unstructured.Unstructured) error {
	t.Helper()
	kind, ok := c.set.Kind(obj.GroupVersionKind())
	if !ok {
		t.Fatalf("unknown kind %s", obj.GroupVersionKind())
	}
	r := dynamic.ResourceInterface(c.dynamic.Resource(kind.GroupVersionResource()))
	if kind.Namespaced {
		r = c.dynamic.Resource(kind.GroupVersionResource()).Namespace(c.namespace)
	}
	data, err := obj.MarshalJSON()
	if err != nil {
		t.Fatal(err)
	}
	force := true
	_, err = r.Patch(t.Context(), obj.GetName(), types.ApplyPatchType, data, metav1.PatchOptions{
		FieldManager: "test", Force: &force, DryRun: []string{metav1.DryRunAll}, FieldValidation: metav1.FieldValidationStrict,
	})
	return err
}

// install applies definitions for good and waits until they are served.
func (c *cluster) install(t testing.TB, objs ...*unstructured.Unstructured) {
	t.Helper()
	definitions := c.dynamic.Resource(apischema.GroupVersionResource{Group: "apiextensions.k8s.io", Version: "v1", Resource: "customresourcedefinitions"})
	waiting := map[string]bool{}
	for _, obj := range objs {
		if _, err := definitions.Apply(t.Context(), obj.GetName(), obj, metav1.ApplyOptions{FieldManager: "test", Force: true}); err != nil {
			t.Fatal(err)
		}
		waiting[obj.GetName()] = true
	}
	watch, err := definitions.Watch(t.Context(), metav1.ListOptions{})
	if err != nil {
		t.Fatal(err)
	}
	defer watch.Stop()
	for len(waiting) > 0 {
		event, open := <-watch.ResultChan()
		obj, ok := event.Object.(*unstructured.Unstructured)
		if !open || !ok {
			t.Fatalf("the watch ended: %v", event)
		}
		conditions, _, _ := unstructured.NestedSlice(obj.Object, "status", "conditions")
		for _, condition := range conditions {
			if m, ok := condition.(map[string]any); ok && m["type"] == "Established" && m["status"] == "True" {
				delete(waiting, obj.GetName())
			}
		}
	}
}

// mutation is a valid object with one thing changed.
type mutation struct {
	what string
	obj  *unstructured.Unstructured
}

// mutations returns everything that can be wrong with one field of obj.
func mutations(obj *unstructured.Unstructured) []mutation {
	var out []mutation
	try := func(what string, change func(root map[string]any)) {
		o := obj.DeepCopy()
		change(o.Object)
		out = append(out, mutation{what, o})
	}
	var visit func(path []any, v any)
	visit = func(path []any, v any) {
		name := fmt.Sprint(path...)
		put := func(what string, value any) {
			try(fmt.Sprintf("%v = %s", name, what), func(root map[string]any) { assign(root, path, value) })
		}
		if len(path) > 0 {
			put("deleted", deleted{})
			put("null", nil)
		}
		switch v := v.(type) {
		case map[string]any:
			if len(path) > 0 {
				put("text", "text")
				put("list", []any{})
				put("empty", map[string]any{})
			}
			try(name+" + unknown", func(root map[string]any) { assign(root, append(slices.Clone(path), "zzUnknown"), "x") })
			for _, key := range slices.Sorted(maps.Keys(v)) {
				if len(path) == 0 && (key == "apiVersion" || key == "kind") || len(path) == 1 && path[0] == "metadata" && key == "name" {
					continue
				}
				visit(append(slices.Clone(path), key), v[key])
			}
		case []any:
			put("object", map[string]any{})
			put("text", "text")
			put("empty", []any{})
			if len(v) > 0 {
				put("twice the same", append(slices.Clone(v), v[0]))
				put("null item", append(slices.Clone(v), nil))
			}
			for i := range v {
				visit(append(slices.Clone(path), i), v[i])
			}
		case string:
			put("number", int64(12345))
			put("object", map[string]any{})
			put("empty", "")
			put("bogus", "Bogus Value!")
			put("bool", true)
		case bool:
			put("text", "yes")
			put("number", int64(1))
		default:
			put("text", "text")
			put("list", []any{int64(1)})
			put("negative", int64(-1))
			put("fraction", 1.5)
			put("huge", int64(99999999999))
		}
	}
	visit(nil, obj.Object)
	return out
}

type deleted struct{}

// assign sets or deletes the value at a path.
func assign(root map[string]any, path []any, value any) {
	var at any = root
	for i, step := range path {
		last := i == len(path)-1
		switch in := at.(type) {
		case map[string]any:
			key := step.(string)
			switch {
			case last && value == deleted{}:
				delete(in, key)
			case last:
				in[key] = value
			default:
				at = in[key]
			}
		case []any:
			n := step.(int)
			switch {
			case last && value == deleted{}:
				assign(root, path[:i], append(slices.Clone(in[:n]), in[n+1:]...))
			case last:
				in[n] = value
			default:
				at = in[n]
			}
		}
	}
}

// load reads test data.
func load(t testing.TB, names ...string) *schema.Manifests {
	t.Helper()
	m, err := schema.Load(os.DirFS("testdata"), names, nil)
	if err != nil {
		t.Fatal(err)
	}
	return m
}

var ofTypes = regexp.MustCompile(`failed to create typed patch object|strict decoding error|cannot unmarshal|json: |quantities must match|unable to parse|unknown field|illegal base64|parsing time`)

// isSchemaError reports a refusal that the schema explains, as opposed to one
// by code of the server for this kind.
func isSchemaError(err error) bool {
	return ofTypes.MatchString(err.Error())
}

var typedPath = regexp.MustCompile(`(?m)(?:^|\): |^ *)(\.[^ ]+): `)

// serverPaths returns the fields that an error about the schema names.
func serverPaths(obj *unstructured.Unstructured, err error) []string {
	var out []string
	if isSchemaError(err) {
		for _, m := range typedPath.FindAllStringSubmatch(err.Error(), -1) {
			out = append(out, indexed(obj, m[1]))
		}
		return out
	}
	var status apierrors.APIStatus
	gvk := obj.GroupVersionKind()
	if errors.As(err, &status) && status.Status().Details != nil && strings.HasSuffix(gvk.Group, ".example.com") {
		for _, cause := range status.Status().Details.Causes {
			out = append(out, strings.TrimPrefix(strings.TrimPrefix(cause.Field, "<nil>"), "."))
		}
	}
	return out
}

// names reports that a path is the server's, or of an item of a list that the
// server names as a whole.
func names(path, server string) bool {
	if strings.Contains(server, "=") { // a key that is broken itself
		first, last := strings.Index(server, "["), strings.LastIndex(server, "]")
		return strings.HasPrefix(path, server[:first]) && strings.HasSuffix(path, server[last:])
	}
	if server == "" {
		return true
	}
	path = inBrackets.ReplaceAllString(path, ".$1")
	rest, ok := strings.CutPrefix(path, server)
	return ok && (rest == "" || rest[0] == '[')
}

var inBrackets = regexp.MustCompile(`\[([^\]]*[^0-9\]][^\]]*)\]`)

var selector = regexp.MustCompile(`^([^\[]*)\[([^\]]*)\](.*)$`)

// indexed turns .spec.containers[name="main"].image into
// spec.containers[0].image.
func indexed(obj *unstructured.Unstructured, path string) string {
	out, rest := "", strings.TrimPrefix(path, ".")
	var at any = obj.Object
	for {
		m := selector.FindStringSubmatch(rest)
		if m == nil {
			return out + rest
		}
		for step := range strings.SplitSeq(strings.Trim(m[1], "."), ".") {
			if in, ok := at.(map[string]any); ok {
				at = in[step]
			}
		}
		list, _ := at.([]any)
		index := m[2]
		for _, exactly := range []bool{true, false} { // a key that is not there has its default
			for i, item := range list {
				if in, ok := item.(map[string]any); ok && index == m[2] && matches(in, m[2], exactly) {
					index, at = fmt.Sprint(i), item
				}
			}
		}
		out, rest = out+m[1]+"["+index+"]", m[3]
	}
}

// matches reports that an item has the keys of name="main",port=80.
func matches(item map[string]any, keys string, exactly bool) bool {
	for pair := range strings.SplitSeq(keys, ",") {
		name, value, ok := strings.Cut(pair, "=")
		have, there := item[name]
		if !ok || value == "" || !there && exactly || there && fmt.Sprint(have) != strings.Trim(value, `"`) {
			return false
		}
	}
	return true
}

// TestDifferential breaks valid objects in every way that a field can be
// broken, and compares the verdict with that of the API server.
func TestDifferential(t *testing.T) {
	widget := load(t, "widget.yaml")
	set := with(t, builtin(t, "1.36"), widget.Objects...)
	c := newCluster(t, set)
	c.install(t, widget.Objects...)
	for _, obj := range load(t, "kinds.yaml", "widgets.yaml").Objects {
		t.Run(obj.GetKind()+"/"+obj.GetName(), func(t *testing.T) { compare(t, c, obj) })
	}
}

func compare(t *testing.T, c *cluster, obj *unstructured.Unstructured) {
	if v := c.set.Validate(t.Context(), []*unstructured.Unstructured{obj}, nil); len(v) > 0 {
		t.Fatalf("the valid object: %v", v)
	}
	if err := c.apply(t, obj); err != nil {
		t.Fatalf("the valid object, by the server: %v", err)
	}
	kind, _ := c.set.Kind(obj.GroupVersionKind())
	tried, both, semantic := 0, 0, 0
	for _, m := range mutations(obj) {
		h := fnv.New32a()
		fmt.Fprint(h, obj.GetKind(), m.what)
		if uint(h.Sum32())%*every != 0 {
			continue
		}
		if m.obj.GetName() == "" {
			continue // there is no address to apply it at
		}
		tried++
		found := c.set.Validate(t.Context(), []*unstructured.Unstructured{m.obj}, nil)
		err := c.apply(t, m.obj)
		var status apierrors.APIStatus
		switch {
		case err != nil && strings.Contains(err.Error(), "INTERNAL_ERROR"):
			// The server panicked, and cut the connection.
			t.Logf("%s: the server broke down; here: %v", m.what, found)
		case err != nil && !errors.As(err, &status):
			t.Fatal(err)
		case err == nil && len(found) == 0:
		case err != nil && len(found) > 0:
			both++
			for _, path := range serverPaths(m.obj, err) {
				if !slices.ContainsFunc(found, func(v schema.Violation) bool { return names(v.Path, path) }) {
					t.Errorf("%s: the server names %s, not so %v\n%v", m.what, path, found, err)
				}
			}
		case err == nil && strings.HasSuffix(found[0].Message, "does not fit in 32 bits"):
			// The server cuts such a number off, without a word. Here it is a fault.
		case err == nil:
			t.Errorf("%s: refused though the server accepts it: %v", m.what, found)
		case isSchemaError(err) || kind.Definition != "":
			t.Errorf("%s: accepted though the server refuses it: %v", m.what, err)
		default:
			semantic++
		}
	}
	t.Logf("%d mutations, %d refused by both, %d by the code of the server alone", tried, both, semantic)
}
