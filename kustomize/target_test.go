package kustomize_test

import (
	"errors"
	"strings"
	"testing"

	"github.com/gitopskit/gitopskit/kustomize"
)

// TestTargetValidate: expressions and selectors that a build would refuse are told beforehand.
func TestTargetValidate(t *testing.T) {
	for want, target := range map[string]*kustomize.Target{
		"": nil, "missing closing": {Kind: "("}, "error parsing regexp": {Name: "*"}, "labelSelector: ": {LabelSelector: "="}, "annotationSelector: ": {Kind: "Deployment", AnnotationSelector: "a in"},
	} {
		if err := target.Validate(); (err == nil) != (want == "") || err != nil && (!errors.Is(err, kustomize.ErrInvalid) || !strings.Contains(err.Error(), want)) {
			t.Errorf("%+v: %v", target, err)
		}
	}
	if err := (&kustomize.Target{Group: "apps", Kind: "Deployment|StatefulSet", LabelSelector: "app in (a, b)"}).Validate(); err != nil {
		t.Error(err)
	}
}
