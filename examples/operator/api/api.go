// Package api has the kind Site of the example operator: a directory of a Git
// repository that is to be applied to the cluster. A generator would have
// written most of it.
package api

import (
	_ "embed"
	"slices"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
)

// CRD is the definition of Site.
//
//go:embed crd.yaml
var CRD []byte

// GroupVersion of Site.
var GroupVersion = schema.GroupVersion{Group: "example.gitopskit.github.io", Version: "v1"}

// AddToScheme makes Site known.
func AddToScheme(s *runtime.Scheme) error {
	s.AddKnownTypes(GroupVersion, &Site{}, &SiteList{})
	metav1.AddToGroupVersion(s, GroupVersion)
	return nil
}

// Site is a directory of a Git repository that is to be applied.
type Site struct {
	metav1.TypeMeta   `json:",inline"`
	metav1.ObjectMeta `json:"metadata,omitempty"`
	Spec              SiteSpec   `json:"spec"`
	Status            SiteStatus `json:"status,omitempty"`
}

// SiteSpec says what is to be applied.
type SiteSpec struct {
	URL      string          `json:"url"`
	Path     string          `json:"path,omitempty"`
	Interval metav1.Duration `json:"interval"`
	Suspend  bool            `json:"suspend,omitempty"`
}

// SiteStatus says what was applied.
type SiteStatus struct {
	ObservedGeneration     int64              `json:"observedGeneration,omitempty"`
	LastHandledReconcileAt string             `json:"lastHandledReconcileAt,omitempty"`
	Revision               string             `json:"revision,omitempty"`
	Conditions             []metav1.Condition `json:"conditions,omitempty"`
}

// GetConditions returns the conditions.
func (s *Site) GetConditions() []metav1.Condition { return s.Status.Conditions }

// SetConditions replaces the conditions.
func (s *Site) SetConditions(c []metav1.Condition) { s.Status.Conditions = c }

// DeepCopyObject returns a copy.
func (s *Site) DeepCopyObject() runtime.Object {
	c := *s
	s.ObjectMeta.DeepCopyInto(&c.ObjectMeta)
	c.Status.Conditions = slices.Clone(s.Status.Conditions)
	return &c
}

// SiteList is a list of Sites.
type SiteList struct {
	metav1.TypeMeta `json:",inline"`
	metav1.ListMeta `json:"metadata,omitempty"`
	Items           []Site `json:"items"`
}

// DeepCopyObject returns a copy.
func (l *SiteList) DeepCopyObject() runtime.Object {
	c := *l
	c.Items = make([]Site, len(l.Items))
	for i := range l.Items {
		c.Items[i] = *l.Items[i].DeepCopyObject().(*Site) //nolint:forcetypeassert // a copy has the type
	}
	return &c
}
