package notify

import (
	"context"
	"errors"
	"log/slog"
	"maps"
	"slices"
)

// Slog is a [Sender] that writes events to a logger. The record's message and time are those of the event; trace is
// written at the level debug. The attributes are reason, action, the group object (kind, namespace, name),
// controller, and the group metadata in the order of its keys; empty ones are left out.
type Slog struct {
	// Logger must not be nil.
	Logger *slog.Logger
}

var _ Sender = Slog{}

// Send writes the event. The error is that of the logger's handler or of ctx, or a terminal one if there is no logger.
func (s Slog) Send(ctx context.Context, e Event) error {
	if err := ctx.Err(); err != nil {
		return &SendError{Op: "send", Destination: "slog", Err: err}
	}
	if s.Logger == nil {
		return &SendError{Op: "send", Destination: "slog", Err: errors.New("Logger is nil: set it"), permanent: true}
	}
	level := slogLevel(e.Severity)
	handler := s.Logger.Handler()
	if !handler.Enabled(ctx, level) {
		return nil
	}
	r := slog.NewRecord(e.Timestamp, level, e.Message, 0)
	r.AddAttrs(slogAttrs(e)...)
	if err := handler.Handle(ctx, r); err != nil {
		return &SendError{Op: "send", Destination: "slog", Err: err}
	}
	return nil
}

func slogLevel(s Severity) slog.Level {
	switch {
	case s > SeverityInfo:
		return slog.LevelError
	case s < SeverityInfo:
		return slog.LevelDebug
	}
	return slog.LevelInfo
}

func slogAttrs(e Event) []slog.Attr {
	attrs := present("reason", e.Reason, "action", e.Action)
	if o := slogObject(e.InvolvedObject); len(o) > 0 {
		attrs = append(attrs, slog.GroupAttrs("object", o...))
	}
	if e.RelatedObject != nil {
		attrs = append(attrs, slog.GroupAttrs("related", slogObject(*e.RelatedObject)...))
	}
	attrs = append(attrs, present("controller", e.ReportingController, "instance", e.ReportingInstance)...)
	if len(e.Metadata) > 0 {
		var md []slog.Attr
		for _, k := range slices.Sorted(maps.Keys(e.Metadata)) {
			md = append(md, slog.String(k, e.Metadata[k]))
		}
		attrs = append(attrs, slog.GroupAttrs("metadata", md...))
	}
	return attrs
}

func slogObject(o Object) []slog.Attr {
	return present("kind", o.Kind, "namespace", o.Namespace, "name", o.Name)
}

// present makes attributes of the pairs of key and value whose value is not empty.
func present(pairs ...string) []slog.Attr {
	var attrs []slog.Attr
	for i := 0; i < len(pairs); i += 2 {
		if pairs[i+1] != "" {
			attrs = append(attrs, slog.String(pairs[i], pairs[i+1]))
		}
	}
	return attrs
}
