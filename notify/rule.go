package notify

import (
	"errors"
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strings"
)

// Rule chooses the events of a [Route] and adds to them, as an Alert of Flux does. The zero Rule takes every event as
// it is. A field narrows what the others leave.
type Rule struct {
	// Severity is the least severity; SeverityError means errors only, anything less means every event.
	Severity Severity
	// Sources are the objects whose events are taken; one of them must match. None means all objects.
	Sources []EventSource
	// AllNamespaces allows "*" as Namespace of a source. Without it a source that is written by a tenant cannot
	// reach the events of others.
	AllNamespaces bool
	// Labels returns the labels of an object, from a cache: it is called by [Bus.Emit] and must return at once. It is
	// required if a source has MatchLabels.
	Labels func(Object) map[string]string
	// Include are regular expressions of which one must match the message; none means any message.
	Include []string
	// Exclude are regular expressions of which none may match the message.
	Exclude []string
	// PlainMetadata gives the metadata as Flux's alerts do: keys of other API groups than the object's are left out,
	// and so are checksum, digest and token; the others lose the prefix of their group.
	PlainMetadata bool
	// Metadata is added to that of the event. What the event has under the same key stays, but what it has from
	// annotations of the object, under [MetadataGroup], gives way when PlainMetadata makes the keys equal.
	Metadata map[string]string
	// Summary is added as the metadata "summary", and stronger than that of Metadata.
	Summary string
}

// EventSource chooses objects.
type EventSource struct {
	// Kind is the kind of the object; it is required.
	Kind string
	// Namespace is the namespace of the object, "" for objects that have none. "*" is any, if the rule allows it.
	Namespace string
	// Name is the name of the object, "*" any.
	Name string
	// MatchLabels are labels the object must have.
	MatchLabels map[string]string
}

// filter is a rule made ready.
type filter struct {
	Rule
	include, exclude []*regexp.Regexp
}

// compile checks the rule and makes it ready. The error lists all problems.
func (r Rule) compile() (*filter, error) {
	f := &filter{Rule: r}
	var errs []error
	if r.Severity < SeverityTrace || r.Severity > SeverityError {
		errs = append(errs, fmt.Errorf("Rule.Severity: %v: want SeverityTrace, SeverityInfo or SeverityError", r.Severity))
	}
	for i, s := range r.Sources {
		if err := s.check(r); err != nil {
			errs = append(errs, fmt.Errorf("Rule.Sources[%d]: %w", i, err))
		}
	}
	var err error
	if f.include, err = compileAll("Rule.Include", r.Include); err != nil {
		errs = append(errs, err)
	}
	if f.exclude, err = compileAll("Rule.Exclude", r.Exclude); err != nil {
		errs = append(errs, err)
	}
	f.Sources = slices.Clone(r.Sources)
	for i := range f.Sources {
		f.Sources[i].MatchLabels = maps.Clone(f.Sources[i].MatchLabels)
	}
	f.Metadata = maps.Clone(r.Metadata)
	return f, errors.Join(errs...)
}

func (s EventSource) check(r Rule) error {
	var errs []error
	if s.Kind == "" {
		errs = append(errs, errors.New("the Kind is empty"))
	}
	if s.Name == "" {
		errs = append(errs, errors.New(`the Name is empty: "*" is any`))
	}
	if s.Namespace == "*" && !r.AllNamespaces {
		errs = append(errs, errors.New(`the Namespace is "*", which takes the events of all tenants: set AllNamespaces to allow it`))
	}
	if len(s.MatchLabels) > 0 && r.Labels == nil {
		errs = append(errs, errors.New("MatchLabels needs the function Labels"))
	}
	return errors.Join(errs...)
}

func compileAll(field string, expressions []string) ([]*regexp.Regexp, error) {
	var list []*regexp.Regexp
	var errs []error
	for i, expression := range expressions {
		re, err := regexp.Compile(expression)
		if err != nil {
			errs = append(errs, fmt.Errorf("%s[%d]: %w", field, i, err))
			continue
		}
		list = append(list, re)
	}
	return list, errors.Join(errs...)
}

// match reports whether the rule takes the event.
func (f *filter) match(e Event) bool {
	if f.Severity > SeverityInfo && e.Severity < f.Severity {
		return false
	}
	if len(f.Sources) > 0 && !slices.ContainsFunc(f.Sources, func(s EventSource) bool { return f.matchSource(s, e.InvolvedObject) }) {
		return false
	}
	matches := func(re *regexp.Regexp) bool { return re.MatchString(e.Message) }
	if len(f.include) > 0 && !slices.ContainsFunc(f.include, matches) {
		return false
	}
	return !slices.ContainsFunc(f.exclude, matches)
}

func (f *filter) matchSource(s EventSource, o Object) bool {
	if s.Kind != o.Kind || s.Namespace != o.Namespace && s.Namespace != "*" || s.Name != o.Name && s.Name != "*" {
		return false
	}
	if len(s.MatchLabels) == 0 {
		return true
	}
	labels := f.Labels(o)
	for key, want := range s.MatchLabels {
		if got, ok := labels[key]; !ok || got != want {
			return false
		}
	}
	return true
}

// apply adds to the metadata of an event, which shares nothing with others.
func (f *filter) apply(e Event) Event {
	if !f.PlainMetadata && len(f.Metadata) == 0 && f.Summary == "" {
		return e
	}
	merged := make(map[string]string)
	add := func(from map[string]string) { maps.Copy(merged, from) }
	if f.PlainMetadata {
		add(stripped(e.Metadata, MetadataGroup))
	}
	add(f.Metadata)
	if f.Summary != "" {
		merged["summary"] = f.Summary
	}
	if f.PlainMetadata {
		add(stripped(e.Metadata, e.InvolvedObject.group()))
	} else {
		add(e.Metadata)
	}
	e.Metadata = merged
	return e
}

// stripped returns the metadata of an API group without its prefix, and without what says nothing to people.
func stripped(metadata map[string]string, group string) map[string]string {
	plain := make(map[string]string)
	for key, value := range metadata {
		name, ok := strings.CutPrefix(key, group+"/")
		if ok && name != "checksum" && name != "digest" && name != "token" {
			plain[name] = value
		}
	}
	return plain
}
