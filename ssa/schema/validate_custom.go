package schema

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"

	structuralschema "k8s.io/apiextensions-apiserver/pkg/apiserver/schema"
	"k8s.io/apiextensions-apiserver/pkg/apiserver/schema/cel"
	"k8s.io/apiextensions-apiserver/pkg/apiserver/schema/cel/model"
	"k8s.io/apiextensions-apiserver/pkg/apiserver/schema/defaulting"
	"k8s.io/apiextensions-apiserver/pkg/apiserver/schema/listtype"
	"k8s.io/apiextensions-apiserver/pkg/apiserver/schema/objectmeta"
	"k8s.io/apiextensions-apiserver/pkg/apiserver/validation"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/util/validation/field"
	celconfig "k8s.io/apiserver/pkg/apis/cel"
	"k8s.io/apiserver/pkg/cel/common"
)

// validate checks a custom resource, new or replacing old, step by step as the
// API server does.
func (v *version) validate(ctx context.Context, obj, old *unstructured.Unstructured) []Violation {
	c, err := v.checks()
	if err != nil {
		return []Violation{{Reason: NotChecked, Message: err.Error()}}
	}
	content := obj.DeepCopy().Object
	out := v.unknownFields(content)
	defaulting.Default(content, v.structural)
	var live map[string]any
	if old != nil {
		live = old.DeepCopy().Object
		defaulting.Default(live, v.structural) // as a server reads it
	}
	if v.status {
		delete(content, "status")
		if status, ok := live["status"]; ok {
			content["status"] = status
		}
	}
	n, err := v.of.types.node(metaV1 + "ObjectMeta")
	if err != nil {
		return []Violation{{Reason: NotChecked, Message: err.Error()}}
	}
	w := &walker{out: out}
	w.value(n, obj.Object["metadata"], "metadata")
	before := len(w.out)
	if v.embeds {
		w.embedded(n, v.structural, content, "")
	}
	e := entry{Kind: v.kind}
	out = append(w.out, e.metadata(ctx, obj, old)...)
	if v.embeds {
		if err := objectmeta.Coerce(nil, content, v.structural, false, false); err != nil {
			if len(w.out) > before {
				return out // said already, and with the path
			}
			return append(out, ofField(err))
		}
	}
	errs, err := sparing(func() field.ErrorList { return v.values(ctx, c, content, live) })
	if err != nil {
		out = append(out, Violation{Reason: NotChecked, Message: err.Error()})
	}
	for _, err := range errs {
		out = append(out, ofRule(err))
	}
	return out
}

// unknownFields removes and reports fields that the schema does not have, apart
// from those of metadata, which has a schema of its own.
func (v *version) unknownFields(content map[string]any) []Violation {
	var out []Violation
	for _, path := range v.pruneValues(content) {
		out = append(out, Violation{Reason: UnknownField, Path: path, Message: "unknown field"})
	}
	return out
}

// embedded checks the metadata of objects inside an object.
func (w *walker) embedded(meta *node, s *structuralschema.Structural, v any, path string) {
	if s == nil {
		return
	}
	switch v := v.(type) {
	case map[string]any:
		if s.XEmbeddedResource {
			w.value(meta, v["metadata"], join(path, "metadata"))
		}
		for _, key := range slices.Sorted(maps.Keys(v)) {
			if p, ok := s.Properties[key]; ok {
				w.embedded(meta, &p, v[key], join(path, key))
			} else if s.AdditionalProperties != nil {
				w.embedded(meta, s.AdditionalProperties.Structural, v[key], join(path, key))
			}
		}
	case []any:
		for i := range v {
			w.embedded(meta, s.Items, v[i], fmt.Sprintf("%s[%d]", path, i))
		}
	}
}

// embeds reports that a schema has objects inside objects.
func embeds(s *structuralschema.Structural) bool {
	found := false
	visitor := structuralschema.Visitor{Structural: func(s *structuralschema.Structural) bool {
		found = found || s.XEmbeddedResource
		return false
	}}
	visitor.Visit(s)
	return found
}

// values checks the content against schema, list types and rules.
func (v *version) values(ctx context.Context, c *checks, content, old map[string]any) field.ErrorList {
	var errs field.ErrorList
	var forgiven []validation.ValidationOption
	var forgivenRules []cel.Option
	if old == nil {
		errs = validation.ValidateCustomResource(nil, content, c.values)
	} else {
		both := common.NewCorrelatedObject(content, old, &model.Structural{Structural: v.structural})
		forgiven = append(forgiven, validation.WithRatcheting(both))
		forgivenRules = append(forgivenRules, cel.WithRatcheting(both))
		errs = validation.ValidateCustomResourceUpdate(nil, content, old, c.values, forgiven...)
	}
	errs = append(errs, v.scaleFields(content)...)
	if v.embeds {
		errs = append(errs, objectmeta.Validate(ctx, nil, content, v.structural, false)...)
	}
	if old == nil || len(listtype.ValidateListSetsAndMaps(nil, v.structural, old)) == 0 {
		errs = append(errs, listtype.ValidateListSetsAndMaps(nil, v.structural, content)...)
	}
	if c.rules == nil {
		return errs
	}
	for _, err := range errs {
		if blocks(err) {
			return append(errs, field.Invalid(nil, nil, "some validation rules were not checked, because the object breaks its schema"))
		}
	}
	var previous any // an untyped nil if there is none
	if old != nil {
		previous = old
	}
	broken, _ := c.rules.Validate(ctx, nil, v.structural, content, previous, celconfig.RuntimeCELCostBudget, forgivenRules...)
	for _, err := range broken {
		err.Detail = rulePrefix + err.Detail
	}
	return append(errs, broken...)
}

// blocks reports a fault that leaves the types of values uncertain, so that
// rules in CEL cannot be evaluated.
func blocks(err *field.Error) bool {
	switch err.Type {
	case field.ErrorTypeNotSupported, field.ErrorTypeRequired, field.ErrorTypeTooLong, field.ErrorTypeTooMany, field.ErrorTypeTypeInvalid:
		return true
	default:
		return false
	}
}

// rulePrefix marks what CEL found until it becomes a violation.
const rulePrefix = "\x00"

func ofRule(err *field.Error) Violation {
	detail, ofCEL := strings.CutPrefix(err.Detail, rulePrefix)
	err.Detail = detail
	v := ofField(err)
	if ofCEL {
		v.Reason = BrokenRule
	}
	return v
}
