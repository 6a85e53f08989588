package notify

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"strings"
	"time"
	"unicode/utf8"
)

// Event reports what happened to an object. Its JSON form is that of Flux's Event, API version event v1beta1, to
// which RelatedObject and Action add version v1.
type Event struct {
	// InvolvedObject is what the event is about.
	InvolvedObject Object
	// RelatedObject is a second object, nil if there is none (v1).
	RelatedObject *Object
	// Severity is how bad it is; the zero value is SeverityInfo.
	Severity Severity
	// Timestamp is when it happened. JSON has it in seconds and UTC; the zero time is null there.
	Timestamp time.Time
	// Message is for people. Receivers take MaxMessage characters at most.
	Message string
	// Reason is for programs: a word such as ReconciliationSucceeded.
	Reason string
	// Action is what was done or failed, such as Syncing (v1); left out of the JSON if empty.
	Action string
	// Metadata is what else is known, for instance under "kustomize.toolkit.fluxcd.io/revision".
	Metadata map[string]string
	// ReportingController names the program that reports, ReportingInstance which instance of it.
	ReportingController string
	ReportingInstance   string
}

// Object names an object; its JSON form is that of a Kubernetes ObjectReference.
type Object struct {
	Kind            string `json:"kind,omitempty"`
	Namespace       string `json:"namespace,omitempty"`
	Name            string `json:"name,omitempty"`
	UID             string `json:"uid,omitempty"`
	APIVersion      string `json:"apiVersion,omitempty"`
	ResourceVersion string `json:"resourceVersion,omitempty"`
	FieldPath       string `json:"fieldPath,omitempty"`
}

// String returns Kind/Namespace/Name, or Kind/Name where there is no namespace.
func (o Object) String() string {
	if o.Namespace == "" {
		return o.Kind + "/" + o.Name
	}
	return o.Kind + "/" + o.Namespace + "/" + o.Name
}

// group returns the API group of the object, "" for the core group.
func (o Object) group() string {
	group, _, found := strings.Cut(o.APIVersion, "/")
	if !found {
		return ""
	}
	return group
}

const (
	// MaxMessage is the longest message of an event in characters; a [Bus] shortens longer ones.
	MaxMessage = 39_000
	// DefaultLimit is how much of a body [Decode] reads when it is given no limit: 3 MiB, as Flux's own receiver.
	DefaultLimit int64 = 3 << 20
	// MetadataGroup is the prefix of metadata keys that belong to the event itself.
	MetadataGroup = "event.toolkit.fluxcd.io"
	// MetadataCount is the metadata key of how many events an event stands for, in decimal, if a [Route] with a
	// Window made one of them. As it has the prefix of events, Flux's notification-controller keeps it.
	MetadataCount = MetadataGroup + "/count"
)

var (
	// ErrTooLarge: the body is larger than the limit, or the event larger than the queue.
	ErrTooLarge = errors.New("too large")
	// ErrInvalid: not an event.
	ErrInvalid = errors.New("invalid event")
)

// wireEvent is the order and the names of the fields in JSON.
type wireEvent struct {
	InvolvedObject      Object            `json:"involvedObject"`
	RelatedObject       *Object           `json:"relatedObject,omitempty"`
	Severity            Severity          `json:"severity"`
	Timestamp           *time.Time        `json:"timestamp"`
	Message             string            `json:"message"`
	Reason              string            `json:"reason"`
	Action              string            `json:"action,omitempty"`
	Metadata            map[string]string `json:"metadata,omitempty"`
	ReportingController string            `json:"reportingController"`
	ReportingInstance   string            `json:"reportingInstance,omitempty"`
}

// MarshalJSON writes the event as Flux does.
func (e Event) MarshalJSON() ([]byte, error) {
	w := wireEvent{
		InvolvedObject: e.InvolvedObject, RelatedObject: e.RelatedObject, Severity: e.Severity, Message: e.Message,
		Reason: e.Reason, Action: e.Action, Metadata: e.Metadata, ReportingController: e.ReportingController,
		ReportingInstance: e.ReportingInstance,
	}
	if !e.Timestamp.IsZero() {
		t := e.Timestamp.UTC().Truncate(time.Second)
		w.Timestamp = &t
	}
	return json.Marshal(w)
}

// UnmarshalJSON reads an event of either version. Fields it does not know are ignored.
func (e *Event) UnmarshalJSON(data []byte) error {
	var w wireEvent
	if err := json.Unmarshal(data, &w); err != nil {
		return err
	}
	if w.Timestamp != nil && (w.Timestamp.UTC().Year() < 0 || w.Timestamp.UTC().Year() > 9999) {
		return errors.New("the timestamp is not in the years 0 to 9999 of UTC")
	}
	*e = Event{
		InvolvedObject: w.InvolvedObject, RelatedObject: w.RelatedObject, Severity: w.Severity, Message: w.Message,
		Reason: w.Reason, Action: w.Action, Metadata: w.Metadata, ReportingController: w.ReportingController,
		ReportingInstance: w.ReportingInstance,
	}
	if w.Timestamp != nil {
		e.Timestamp = *w.Timestamp
	}
	return nil
}

// Decode reads exactly one event of at most limit bytes; 0 and less mean [DefaultLimit]. The error is an
// [ErrTooLarge], an [ErrInvalid], or the error of r.
func Decode(r io.Reader, limit int64) (Event, error) {
	if limit <= 0 {
		limit = DefaultLimit
	}
	data, err := io.ReadAll(io.LimitReader(r, limit+1))
	if err != nil {
		return Event{}, fmt.Errorf("notify: decode event: %w", err)
	}
	if int64(len(data)) > limit {
		return Event{}, fmt.Errorf("notify: decode event: %w: more than %d bytes", ErrTooLarge, limit)
	}
	if !bytes.HasPrefix(bytes.TrimLeft(data, " \t\r\n"), []byte("{")) {
		return Event{}, fmt.Errorf("notify: decode event: %w: want a JSON object", ErrInvalid)
	}
	var e Event
	if err := json.Unmarshal(data, &e); err != nil {
		return Event{}, fmt.Errorf("notify: decode event: %w: %w", ErrInvalid, err)
	}
	return e, nil
}

// Revision returns the revision the event is about: the commit, the origin revision or the revision of its metadata,
// in this order; and whether there is one. Keys are looked up bare, under the API group of the object, and under
// [MetadataGroup].
func (e Event) Revision() (string, bool) {
	for _, key := range []string{"commit", "originRevision", "revision"} {
		if v, ok := e.lookup(key); ok {
			return v, true
		}
	}
	return "", false
}

// clone returns an event that shares nothing with e, with a bounded message.
func (e Event) clone() Event {
	e.Metadata = maps.Clone(e.Metadata)
	if e.RelatedObject != nil {
		related := *e.RelatedObject
		e.RelatedObject = &related
	}
	e.Message = shorten(e.Message, MaxMessage)
	return e
}

// shorten cuts s to at most limit characters, the last three of which are then dots.
func shorten(s string, limit int) string {
	if len(s) <= limit || utf8.RuneCountInString(s) <= limit {
		return s
	}
	n := 0
	for i := range s {
		if n == limit-3 {
			return s[:i] + "..."
		}
		n++
	}
	return s
}

// size is about how much memory the event holds.
func (e Event) size() int64 {
	const fixed = 512 // structs, list elements
	n := fixed + len(e.Message) + len(e.Reason) + len(e.Action) + len(e.ReportingController) + len(e.ReportingInstance)
	n += e.InvolvedObject.size()
	if e.RelatedObject != nil {
		n += e.RelatedObject.size()
	}
	for k, v := range e.Metadata {
		n += 64 + len(k) + len(v)
	}
	return int64(n)
}

func (o Object) size() int {
	return len(o.Kind) + len(o.Namespace) + len(o.Name) + len(o.UID) + len(o.APIVersion) + len(o.ResourceVersion) +
		len(o.FieldPath)
}
