package schema

import (
	"context"

	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/util/managedfields"
)

// TypeConverter returns what [k8s.io/apimachinery/pkg/util/managedfields]
// needs to know about a kind: its fields, and how lists and maps of it are
// merged. It knows all kinds of the group version, or all versions of the
// custom resource. The first call for a group version builds it, which takes
// some milliseconds; ctx bounds nothing else and may be nil. The error matches
// [ErrUnknownKind].
func (s *Set) TypeConverter(_ context.Context, gvk schema.GroupVersionKind) (managedfields.TypeConverter, error) {
	e, ok := s.kinds[gvk]
	if !ok {
		return nil, unknownKind(gvk, s.hint(gvk))
	}
	if e.custom != nil {
		return e.custom.of.converter()
	}
	c, err := e.types.converter(gvk.GroupVersion())
	if err != nil {
		return nil, &Error{Op: "type", Subject: gvkString(gvk), Err: err}
	}
	return c, nil
}
