package kube

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"net"
	"net/http"
	"slices"
	"strings"
	"sync/atomic"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
)

// unreadable is the annotation of an object whose spec its type cannot hold: it
// has been taken away, and the annotation says why.
const unreadable = "kube.gitopskit.github.io/unreadable"

// undecodable reports whether an error may come from decoding an answer: it is
// neither one of the API server nor one of the connection.
func undecodable(err error) bool {
	var status apierrors.APIStatus
	var network net.Error
	if err == nil || errors.Is(err, context.Canceled) || errors.Is(err, context.DeadlineExceeded) {
		return false
	}
	return !errors.As(err, &status) && !errors.As(err, &network) && !errors.Is(err, io.EOF) && !errors.Is(err, io.ErrUnexpectedEOF)
}

// lenient replaces objects in answers of the API server that their type cannot
// hold, once there was one: a list with such an object cannot be decoded at
// all, and nothing would be reconciled any more. Before that it does nothing.
type lenient struct {
	next   http.RoundTripper
	scheme *runtime.Scheme
	active *atomic.Bool
}

func (l *lenient) RoundTrip(req *http.Request) (*http.Response, error) {
	resp, err := l.next.RoundTrip(req)
	if err != nil || !l.active.Load() || resp.StatusCode >= http.StatusMultipleChoices ||
		!strings.HasPrefix(resp.Header.Get("Content-Type"), "application/json") {
		return resp, err
	}
	resp.Body = &mended{body: resp.Body, frames: json.NewDecoder(resp.Body), mend: l.mend}
	resp.ContentLength = -1
	resp.Header.Del("Content-Length")
	return resp, nil
}

// WrappedRoundTripper lets the client library find what it wraps.
func (l *lenient) WrappedRoundTripper() http.RoundTripper { return l.next }

// mended is the body of an answer, value by value: one object or list, or the
// events of a watch.
type mended struct {
	body   io.ReadCloser
	frames *json.Decoder
	mend   func(json.RawMessage) json.RawMessage
	rest   []byte
}

func (m *mended) Read(p []byte) (int, error) {
	for len(m.rest) == 0 {
		var frame json.RawMessage
		if err := m.frames.Decode(&frame); err != nil {
			return 0, err
		}
		m.rest = append(m.mend(frame), '\n')
	}
	n := copy(p, m.rest)
	m.rest = m.rest[n:]
	return n, nil
}

func (m *mended) Close() error { return m.body.Close() }

// mend returns an answer without what cannot be decoded.
func (l *lenient) mend(answer json.RawMessage) json.RawMessage {
	var shape struct {
		Kind   string
		Type   string
		Object json.RawMessage
		Items  []json.RawMessage
	}
	if json.Unmarshal(answer, &shape) != nil {
		return answer
	}
	switch {
	case shape.Type != "" && shape.Object != nil && shape.Kind == "":
		return replace(answer, "object", l.object(shape.Object))
	case shape.Items != nil && strings.HasSuffix(shape.Kind, "List"):
		changed := false
		for i, item := range shape.Items {
			shape.Items[i] = l.object(item)
			changed = changed || !bytes.Equal(item, shape.Items[i])
		}
		if !changed {
			return answer
		}
		items, err := json.Marshal(shape.Items)
		if err != nil {
			return answer
		}
		return replace(answer, "items", items)
	}
	return l.object(answer)
}

// replace puts a value into an object.
func replace(object json.RawMessage, field string, value json.RawMessage) json.RawMessage {
	var fields map[string]json.RawMessage
	if json.Unmarshal(object, &fields) != nil {
		return object
	}
	fields[field] = value
	out, err := json.Marshal(fields)
	if err != nil {
		return object
	}
	return out
}

// object returns an object that its type can hold: itself, or what is left of
// it without its spec, and without its status if that is at fault as well.
func (l *lenient) object(content json.RawMessage) json.RawMessage {
	var id struct {
		APIVersion, Kind string
	}
	if json.Unmarshal(content, &id) != nil {
		return content
	}
	gvk := schema.FromAPIVersionAndKind(id.APIVersion, id.Kind)
	if !l.scheme.Recognizes(gvk) || l.decode(gvk, content) == nil {
		return content
	}
	var fields map[string]json.RawMessage
	if json.Unmarshal(content, &fields) != nil {
		return content
	}
	why := l.why(gvk, fields)
	for _, drop := range []string{"spec", "status"} {
		delete(fields, drop)
		out, err := json.Marshal(fields)
		if err == nil && l.decode(gvk, out) == nil {
			return annotate(out, why)
		}
	}
	return content
}

func (l *lenient) decode(gvk schema.GroupVersionKind, content []byte) error {
	obj, err := l.scheme.New(gvk)
	if err != nil {
		return err
	}
	return json.Unmarshal(content, obj)
}

// why names the fields that cannot be decoded.
func (l *lenient) why(gvk schema.GroupVersionKind, fields map[string]json.RawMessage) string {
	var out []string
	for _, part := range []string{"spec", "status"} {
		var inner map[string]json.RawMessage
		if json.Unmarshal(fields[part], &inner) != nil {
			continue
		}
		for _, name := range slices.Sorted(maps.Keys(inner)) {
			one, err := json.Marshal(map[string]any{part: map[string]json.RawMessage{name: inner[name]}})
			if err != nil {
				continue
			}
			if err := l.decode(gvk, one); err != nil {
				out = append(out, fmt.Sprintf("%s.%s: %v", part, name, err))
			}
		}
	}
	if len(out) == 0 {
		return "the object does not fit its type"
	}
	return strings.Join(out, "; ")
}

// annotate marks an object as unreadable.
func annotate(content json.RawMessage, why string) json.RawMessage {
	var object struct {
		Metadata map[string]json.RawMessage
	}
	if json.Unmarshal(content, &object) != nil || object.Metadata == nil {
		return content
	}
	annotations := map[string]string{}
	if json.Unmarshal(object.Metadata["annotations"], &annotations) != nil || annotations == nil {
		annotations = map[string]string{}
	}
	const most = 1024
	annotations[unreadable] = cut(why, most)
	marked, err := json.Marshal(annotations)
	if err != nil {
		return content
	}
	object.Metadata["annotations"] = marked
	metadata, err := json.Marshal(object.Metadata)
	if err != nil {
		return content
	}
	return replace(content, "metadata", metadata)
}
