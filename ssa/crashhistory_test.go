package ssa_test

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

	"github.com/gitopskit/gitopskit/ssa"
)

// crashHistory is what two owners of a namespace are asked to have, one revision
// after the other. A seed and a namespace always give the same one, so that the
// process that is killed and the one that looks afterwards mean the same.
type crashHistory struct {
	namespace   string
	revisions   []crashRevision
	definition  bool // there is a definition and an object of its kind
	heirFirst   bool // an object that is handed over is applied by its new owner before the old one gives it up
	polluted    bool // the inventory names objects of others
	followed    bool // the clients have a store and a prover
	concurrency int
}

// crashRevision is one state of a history.
type crashRevision struct {
	app, heir string         // manifests of the two owners
	handed    []ssa.ObjectID // what app has given to heir up to here
	writes    int            // about how many it takes to come here from the one before
}

// crashSlot is an object that comes, changes and goes.
type crashSlot struct {
	kind, name string
	present    bool
	heir       bool // it belongs to the second owner
	value      int  // anything of it
	fixed      int  // a field that cannot be changed
	needs      string
	lasting    bool // it is never removed or recreated
}

// crashKinds are the kinds of a history; the first ones are the commonest.
var crashKinds = []string{"ConfigMap", "ConfigMap", "ServiceAccount", "Service", "Role", "RoleBinding", "Secret", "Deployment", "Fixed"}

func newCrashHistory(seed uint64, namespace string) *crashHistory {
	rng := rand.New(rand.NewPCG(seed, 1))
	h := &crashHistory{
		namespace: namespace, heirFirst: rng.IntN(2) == 0, polluted: rng.IntN(2) == 0, followed: rng.IntN(2) == 0,
		concurrency: 1 + rng.IntN(4), definition: rng.IntN(6) == 0,
	}
	var slots []*crashSlot
	for i := range 3 + rng.IntN(8) {
		s := &crashSlot{kind: crashKinds[rng.IntN(len(crashKinds))], present: rng.IntN(3) > 0}
		s.name = fmt.Sprintf("%s-%d", strings.ToLower(s.kind), i)
		if i > 0 && slots[i-1].kind == "ConfigMap" && s.kind != "ConfigMap" && rng.IntN(3) == 0 {
			s.needs = slots[i-1].name
		}
		slots = append(slots, s)
	}
	slots = append(slots, &crashSlot{kind: "ConfigMap", name: "moves", present: true, lasting: true}, &crashSlot{kind: "ConfigMap", name: "taken"})
	if h.definition {
		slots = append(slots, &crashSlot{kind: "CustomResourceDefinition", name: "crd", present: true, lasting: true}, &crashSlot{kind: "Widget", name: "w", present: true})
	}
	count := 3 + rng.IntN(3)
	handOver := 1 + rng.IntN(count-1) // the revision in which "moves" moves
	for n := range count {
		before := make(map[string]crashSlot, len(slots))
		for _, s := range slots {
			before[s.name] = *s
			if n > 0 {
				s.step(rng)
			}
			if s.name == "moves" {
				s.heir = n >= handOver
			}
		}
		h.revisions = append(h.revisions, h.revision(slots, before, n))
	}
	return h
}

// step changes a slot, or leaves it as it is.
func (s *crashSlot) step(rng *rand.Rand) {
	switch rng.IntN(6) {
	case 0, 1:
		s.value++
	case 2:
		s.present = !s.present || s.lasting
	case 3:
		if !s.lasting {
			s.fixed++
		}
	}
}

// revision writes down a state, and how far it is from the one before.
func (h *crashHistory) revision(slots []*crashSlot, before map[string]crashSlot, n int) crashRevision {
	r := crashRevision{writes: 4}
	for _, s := range slots {
		if s.heir {
			r.handed = append(r.handed, ssa.ObjectID{Kind: "ConfigMap", Namespace: h.namespace, Name: s.name})
		}
		if s.present && (n == 0 || before[s.name] != *s) || !s.present && n > 0 && before[s.name].present {
			r.writes++
		}
		switch {
		case !s.present:
		case s.heir:
			r.heir += s.manifest(h.namespace, slots)
		default:
			r.app += s.manifest(h.namespace, slots)
		}
	}
	r.heir += configMap("heirloom", fmt.Sprint(n))
	return r
}

// manifest is the object of a slot.
func (s *crashSlot) manifest(namespace string, slots []*crashSlot) string {
	head := func(apiVersion, kind string) string {
		annotations := fmt.Sprintf("example.com/value: '%d'", s.value)
		if slices.ContainsFunc(slots, func(o *crashSlot) bool { return o.name == s.needs && o.present }) {
			annotations += fmt.Sprintf(", config.kubernetes.io/depends-on: /namespaces/%s/ConfigMap/%s", namespace, s.needs)
		}
		return fmt.Sprintf("---\napiVersion: %s\nkind: %s\nmetadata: {name: %s, annotations: {%s}}\n", apiVersion, kind, s.name, annotations)
	}
	switch s.kind {
	case "ServiceAccount":
		return head("v1", "ServiceAccount")
	case "Service":
		return head("v1", "Service") + fmt.Sprintf("spec: {clusterIP: None, ports: [{port: %d}]}\n", 80+s.value)
	case "Role":
		return head("rbac.authorization.k8s.io/v1", "Role") + fmt.Sprintf("rules: [{apiGroups: [''], resources: [pods], resourceNames: [p%d], verbs: [get]}]\n", s.value)
	case "RoleBinding": // the role it names cannot be changed
		return head("rbac.authorization.k8s.io/v1", "RoleBinding") + fmt.Sprintf("roleRef: {apiGroup: rbac.authorization.k8s.io, kind: Role, name: r%d}\nsubjects: []\n", s.fixed)
	case "Secret":
		return head("v1", "Secret") + fmt.Sprintf("stringData: {key: 'secret %d'}\n", s.value)
	case "Deployment": // nor can the selector
		label := fmt.Sprintf("app: x%d", s.fixed)
		return head("apps/v1", "Deployment") + fmt.Sprintf("spec: {replicas: 0, selector: {matchLabels: {%s}}, template: {metadata: {labels: {%s}}, spec: {containers: [{name: main, image: 'main:%d'}]}}}\n", label, label, s.value)
	case "Fixed":
		return head("v1", "ConfigMap") + fmt.Sprintf("immutable: true\ndata: {key: '%d'}\n", s.fixed)
	case "CustomResourceDefinition":
		group := namespace + ".example.com"
		return fmt.Sprintf("---\napiVersion: apiextensions.k8s.io/v1\nkind: CustomResourceDefinition\nmetadata: {name: widgets.%s, annotations: {example.com/value: '%d'}}\n", group, s.value) +
			fmt.Sprintf("spec: {group: %s, scope: Namespaced, names: {plural: widgets, kind: Widget}, versions: [{name: v1, served: true, storage: true, schema: {openAPIV3Schema: {type: object, properties: {spec: {type: object, properties: {value: {type: integer}}}}}}}]}\n", group)
	case "Widget":
		return head(namespace+".example.com/v1", "Widget") + fmt.Sprintf("spec: {value: %d}\n", s.value)
	}
	return head("v1", "ConfigMap") + fmt.Sprintf("data: {key: '%d'}\n", s.value+s.fixed)
}

// policy is how the owners of a history apply.
func crashPolicy() ssa.Policy {
	return ssa.Policy{Recreate: ssa.RecreateAlways, TakeOver: []string{"kubectl*"}}
}

// crashStep is one owner's part of a revision.
type crashStep struct {
	owner string
	objs  []*unstructured.Unstructured
	prune *ssa.PruneOptions
}

// steps are what has to be done for a revision, in order.
func (h *crashHistory) steps(n int) ([]crashStep, error) {
	r := h.revisions[n]
	app, err := ssa.ReadObjects(strings.NewReader(r.app))
	if err != nil {
		return nil, err
	}
	heir, err := ssa.ReadObjects(strings.NewReader(r.heir))
	if err != nil {
		return nil, err
	}
	steps := []crashStep{
		{owner: "app", objs: app, prune: &ssa.PruneOptions{HandedOver: r.handed}},
		{owner: "heir", objs: heir, prune: &ssa.PruneOptions{}},
	}
	if h.heirFirst { // the labels suffice then
		steps[0].prune = &ssa.PruneOptions{}
		slices.Reverse(steps)
	}
	return steps, nil
}

// writes is about how many writes it takes to play the revisions from one on.
func (h *crashHistory) writes(from int) int {
	n := 0
	for i := from; i < len(h.revisions); i++ {
		n += h.revisions[i].writes
	}
	return n
}
