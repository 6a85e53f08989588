package schema

import (
	"fmt"
	"slices"
	"strings"

	"k8s.io/kube-openapi/pkg/validation/spec"
)

// node is the schema of a value of a built-in kind, ready to walk. Nodes refer
// to each other and can be recursive; they do not change once they are built.
type node struct {
	form     form
	format   string           // of a text or a number
	enum     []string         // of a text
	fields   map[string]*slot // of an object
	required []string         // of an object
	each     *node            // of the items of a list or the values of a map
	set      bool             // no item twice
	keys     []string         // of a list: no two items with the same values of these fields
}

// form is what a value looks like.
type form int

const (
	anything form = iota
	object        // with fields; without any, it may hold anything
	mapping       // any keys, values of one kind
	list
	text
	integer
	number
	boolean
	intOrString
	quantity
)

// slot is a field of an object.
type slot struct {
	*node
	preset any // the default, nil if there is none
}

// node returns the schema of a definition.
func (l *library) node(name string) (*node, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.named(name)
}

func (l *library) named(name string) (*node, error) {
	if n, ok := l.nodes[name]; ok {
		return n, nil
	}
	s, err := l.decode(name)
	if err != nil {
		return nil, err
	}
	n := &node{}
	l.nodes[name] = n // before its parts, which may lead back to it
	if strings.HasSuffix(name, ".api.resource.Quantity") {
		n.form = quantity
		return n, nil
	}
	if err := l.fill(n, name, s); err != nil {
		delete(l.nodes, name)
		return nil, err
	}
	return n, nil
}

// build returns the schema of a part of a definition.
func (l *library) build(s *spec.Schema) (*node, error) {
	if s == nil {
		return &node{}, nil
	}
	if name, ok := strings.CutPrefix(s.Ref.String(), refPrefix); ok {
		return l.named(name)
	}
	if len(s.AllOf) == 1 && len(s.Type) == 0 {
		return l.build(&s.AllOf[0])
	}
	n := &node{}
	return n, l.fill(n, "", s)
}

func (l *library) fill(n *node, name string, s *spec.Schema) (err error) {
	n.format = s.Format
	switch {
	case s.Format == "int-or-string":
		n.form = intOrString
	case s.Type.Contains("array"):
		return l.fillList(n, s)
	case len(s.Properties) > 0:
		return l.fillObject(n, name, s)
	case s.AdditionalProperties != nil && s.AdditionalProperties.Schema != nil:
		n.form = mapping
		n.each, err = l.build(s.AdditionalProperties.Schema)
	case s.Type.Contains("object"):
		n.form = object
	case s.Type.Contains("string"):
		n.form = text
		for _, v := range s.Enum {
			n.enum = append(n.enum, fmt.Sprint(v))
		}
	case s.Type.Contains("integer"):
		n.form = integer
	case s.Type.Contains("number"):
		n.form = number
	case s.Type.Contains("boolean"):
		n.form = boolean
	}
	return err
}

func (l *library) fillObject(n *node, name string, s *spec.Schema) error {
	n.form = object
	for _, field := range slices.Sorted(slices.Values(s.Required)) {
		if !slices.Contains(lenient(), name+"."+field) {
			n.required = append(n.required, field)
		}
	}
	n.fields = make(map[string]*slot, len(s.Properties))
	for field := range s.Properties {
		p := s.Properties[field]
		part, err := l.build(&p)
		if err != nil {
			return err
		}
		n.fields[field] = &slot{node: part, preset: part.typed(p.Default)}
	}
	return nil
}

func (l *library) fillList(n *node, s *spec.Schema) (err error) {
	n.form = list
	if s.Items != nil {
		if n.each, err = l.build(s.Items.Schema); err != nil {
			return err
		}
	}
	switch kind, _ := s.Extensions.GetString("x-kubernetes-list-type"); kind {
	case "set":
		n.set = true
	case "map":
		n.keys, _ = s.Extensions.GetStringSlice("x-kubernetes-list-map-keys")
	}
	return nil
}

// typed returns a default as it is in objects, where integers are no fractions.
func (n *node) typed(preset any) any {
	if f, ok := preset.(float64); ok && n.form != number {
		return int64(f)
	}
	return preset
}

// lenient lists fields that the published schemas call required although the
// server takes their zero value when they are not there: the schemas say so of
// each field that is no pointer in Go and not left out when it is empty.
// TestDifferential finds them.
func lenient() []string {
	return []string{
		"io.k8s.api.apps.v1.ControllerRevision.revision",
		"io.k8s.api.batch.v1.PodFailurePolicy.rules",
		"io.k8s.api.core.v1.ClusterTrustBundleProjection.path",
		"io.k8s.api.core.v1.HTTPHeader.value",
		"io.k8s.api.core.v1.ISCSIPersistentVolumeSource.lun",
		"io.k8s.api.core.v1.ISCSIVolumeSource.lun",
		"io.k8s.api.core.v1.LimitRangeSpec.limits",
		"io.k8s.api.core.v1.PreferredSchedulingTerm.preference",
		"io.k8s.api.core.v1.SleepAction.seconds",
		"io.k8s.api.core.v1.Sysctl.value",
		"io.k8s.api.resource.v1.DeviceCapacity.value",
		"io.k8s.api.resource.v1.DeviceClass.spec",
		"io.k8s.api.resource.v1.ResourceClaim.spec",
		"io.k8s.api.resource.v1.ResourceClaimTemplate.spec",
		"io.k8s.api.resource.v1.ResourceClaimTemplateSpec.spec",
		"io.k8s.api.resource.v1.ResourcePool.generation",
		"io.k8s.api.storage.v1.CSIDriver.spec",
		"io.k8s.api.storage.v1.CSINode.spec",
		"io.k8s.api.storage.v1.CSINodeSpec.drivers",
		"io.k8s.api.storage.v1.TokenRequest.audience",
		"io.k8s.apiextensions-apiserver.pkg.apis.apiextensions.v1.CustomResourceDefinitionVersion.served",
	}
}
