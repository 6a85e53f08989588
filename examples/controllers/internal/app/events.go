package app

import (
	"context"
	"errors"
	"log/slog"
	"maps"
	"os"
	"slices"
	"strings"
	"time"

	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/client/apiutil"
	"sigs.k8s.io/controller-runtime/pkg/manager"

	"github.com/gitopskit/gitopskit/notify"
	"github.com/gitopskit/gitopskit/runtime/kube"
	"github.com/gitopskit/gitopskit/runtime/observe"
)

// events posts what is told about objects to an address, in the form of Flux.
type events struct {
	bus  *notify.Bus
	sink *notify.EventSink
	mgr  manager.Manager
	name string
	host string
	log  *slog.Logger
	// recorded counts what is lost.
	recorded *observe.Metrics
	// alerts takes the events in the same process, in their order; nil if it
	// has no alerts.
	alerts chan notify.Event
	done   chan struct{}
}

const (
	// queued is how many events may wait for alerts.
	queued = 10_000
	// window is how long repetitions are counted before they are told: a little
	// longer than notification-controller refuses them, 5 minutes.
	window = 5*time.Minute + 10*time.Second
)

// lead hands events to alerts until the program ends.
func (e *events) lead(emit func(notify.Event) error) {
	e.alerts, e.done = make(chan notify.Event, queued), make(chan struct{})
	go func() {
		defer close(e.done)
		for event := range e.alerts {
			if err := emit(event); err != nil {
				e.log.Warn("an event did not reach all alerts", "reason", event.Reason, "error", err)
			}
		}
	}()
}

func (o *Options) events(mgr manager.Manager, name string, logger *slog.Logger, recorded *observe.Metrics) (*events, error) {
	e := &events{mgr: mgr, name: name, log: logger, recorded: recorded}
	e.host, _ = os.Hostname()
	if o.EventsAddr == "" {
		return e, nil
	}
	var err error
	if e.sink, err = notify.NewEventSink(o.EventsAddr, nil); err != nil {
		return nil, err
	}
	e.bus, err = notify.NewBus(&notify.BusOptions{Lost: e.lost}, notify.Route{Name: "events", Sender: e.sink, Window: window})
	return e, err
}

// lost tells of an event that will not be delivered. One that the receiver has
// already is not lost.
func (e *events) lost(d notify.Delivery) {
	cause := "failed"
	switch {
	case errors.Is(d.Err, notify.ErrDuplicate):
		e.log.Debug("an event is a duplicate for its receiver", "reason", d.Event.Reason)
		return
	case errors.Is(d.Err, notify.ErrFull):
		cause = "full"
	case errors.Is(d.Err, notify.ErrTooLarge):
		cause = "too_large"
	}
	e.recorded.Dropped(d.Event.InvolvedObject.Kind, cause)
	e.log.Warn("an event was not delivered", "reason", d.Event.Reason, "error", d.Err)
}

// send passes an event on. It never blocks.
func (e *events) send(_ context.Context, obj client.Object, event kube.Event) {
	if e.bus == nil && e.alerts == nil {
		return
	}
	gvk, err := apiutil.GVKForObject(obj, e.mgr.GetScheme())
	if err != nil {
		return
	}
	out := notify.Event{
		InvolvedObject: notify.Object{
			APIVersion: gvk.GroupVersion().String(), Kind: gvk.Kind, Namespace: obj.GetNamespace(), Name: obj.GetName(),
			UID: string(obj.GetUID()), ResourceVersion: obj.GetResourceVersion(),
		},
		Timestamp: time.Now(), Message: event.Message, Reason: event.Reason, Metadata: map[string]string{},
		ReportingController: e.name, ReportingInstance: e.host,
	}
	if event.Warning {
		out.Severity = notify.SeverityError
	}
	for _, key := range slices.Sorted(maps.Keys(event.Metadata)) {
		out.Metadata[gvk.Group+"/"+key] = event.Metadata[key]
	}
	for key, value := range obj.GetAnnotations() {
		if strings.HasPrefix(key, notify.MetadataGroup+"/") {
			out.Metadata[key] = value
		}
	}
	if e.bus != nil {
		e.bus.Emit(out) //nolint:errcheck // what is lost is logged by the bus
	}
	if e.alerts == nil {
		return
	}
	select {
	case e.alerts <- out:
	default:
		e.recorded.Dropped(gvk.Kind, "full")
		e.log.Warn("too many events wait for alerts: one is lost", "reason", out.Reason)
	}
}

// close delivers what is left, until the end. Nothing may be sent any more.
func (e *events) close(end func() (context.Context, context.CancelFunc)) {
	ctx, cancel := end()
	defer cancel()
	if e.alerts != nil {
		close(e.alerts)
		select {
		case <-e.done:
		case <-ctx.Done():
		}
	}
	if e.bus == nil {
		return
	}
	left, err := e.bus.Close(ctx)
	for _, d := range left {
		e.recorded.Dropped(d.Event.InvolvedObject.Kind, "closed")
	}
	if err != nil {
		e.log.Warn("events were not delivered", "left", len(left), "error", err)
	}
	e.sink.Close() //nolint:errcheck // only idle connections are released
}
