package kube

import (
	"log/slog"
	"slices"
	"testing"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"sigs.k8s.io/controller-runtime/pkg/client"
)

// TestWatchTakesOver: what changes between the end of some watches and the beginning of the one that takes their place is
// told, and the other way round; who waits for one of the old ones looks again.
func TestWatchTakesOver(t *testing.T) {
	secrets := schema.GroupKind{Kind: "Secret"}
	ref := func(name string) Reference {
		return Reference{secrets, client.ObjectKey{Namespace: "ns", Name: name}}
	}
	object := func(name, version string) any {
		return &metav1.PartialObjectMetadata{ObjectMeta: metav1.ObjectMeta{Namespace: "ns", Name: name, ResourceVersion: version}}
	}
	var told []string
	n := &names{
		kinds: map[schema.GroupKind]schema.GroupVersionKind{secrets: {Version: "v1", Kind: "Secret"}}, log: slog.New(slog.DiscardHandler),
		wanted: map[Reference]map[string]struct{}{}, open: map[Reference]*named{},
		tell: func(r Reference) { told = append(told, r.Name) },
	}
	list := func(ref Reference, items ...any) []string {
		t.Helper()
		told = nil
		if err := (&namedStore{n, ref, n.open[ref]}).Replace(items, ""); err != nil {
			t.Fatal(err)
		}
		slices.Sort(told)
		return told
	}
	var many []Reference
	for i := range mostNames {
		many = append(many, ref(string(rune('A'+i))))
	}
	n.follow(many, nil)
	if got := list(ref("A"), object("A", "1")); len(got) != 0 || len(n.open) != mostNames {
		t.Fatalf("told %v, %d watches", got, len(n.open))
	}
	list(ref("B"), object("B", "1"))
	list(ref("C"), object("C", "1"))
	waiting := n.unsettled([]Reference{ref("A"), ref("D")})
	if len(waiting) != 1 {
		t.Fatalf("%d are waited for", len(waiting))
	}
	n.follow([]Reference{ref("more")}, nil)
	<-waiting[0]
	if len(n.open) != 1 || len(n.unsettled([]Reference{ref("D"), ref("more")})) != 2 {
		t.Fatalf("open are %v", n.open)
	}
	got := list(ref(""), object("A", "1"), object("B", "2"), object("D", "1"), object("foreign", "1"))
	if want := []string{"B", "C"}; !slices.Equal(got, want) { // changed, deleted
		t.Errorf("told %v, want %v", got, want)
	}
	if len(n.unsettled([]Reference{ref("D")})) != 0 {
		t.Error("the watch has begun, and passes wait for it")
	}
	n.follow(nil, many[mostNames/2+1:])
	if len(n.open) != 1 {
		t.Errorf("%d watches for %d names", len(n.open), mostNames/2+2)
	}
	n.follow(nil, many[mostNames/2-1:mostNames/2+1])
	if len(n.open) != mostNames/2 {
		t.Fatalf("%d watches for %d names", len(n.open), mostNames/2)
	}
	if got := list(ref("A"), object("A", "2")); !slices.Equal(got, []string{"A"}) {
		t.Errorf("told %v", got)
	}
	if got := list(ref("B"), object("B", "2")); len(got) != 0 {
		t.Errorf("told %v", got)
	}
	n.follow(nil, append(many[:mostNames/2-1], ref("more")))
	if len(n.open) != 0 || len(n.wanted) != 0 {
		t.Errorf("left are %v, %v", n.open, n.wanted)
	}
}
