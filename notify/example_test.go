package notify_test

import (
	"context"
	"fmt"
	"log/slog"
	"os"
	"strings"

	"github.com/gitopskit/gitopskit/notify"
)

func Example() {
	withoutTime := &slog.HandlerOptions{ReplaceAttr: func(_ []string, a slog.Attr) slog.Attr {
		if a.Key == slog.TimeKey {
			return slog.Attr{}
		}
		return a
	}}
	bus, err := notify.NewBus(nil,
		notify.Route{Name: "log", Sender: notify.Slog{Logger: slog.New(slog.NewTextHandler(os.Stdout, withoutTime))}},
		notify.Route{
			Name:   "pager",
			Sender: notify.SenderFunc(func(context.Context, notify.Event) error { return nil }),
			Match:  func(e notify.Event) bool { return e.Severity >= notify.SeverityError },
		})
	if err != nil {
		fmt.Println(err)
		return
	}
	app := notify.Object{Kind: "Application", Namespace: "shop", Name: "cart"}
	_ = bus.Emit(notify.Event{InvolvedObject: app, Severity: notify.SeverityError, Reason: "BuildFailed", Message: "no such file"})
	_ = bus.Emit(notify.Event{InvolvedObject: app, Reason: "Applied", Message: "12 objects"})

	left, err := bus.Close(context.Background())
	fmt.Println(len(left), err)
	for _, s := range bus.Stats() {
		fmt.Println(s.Route, s.Delivered)
	}
	// Output:
	// level=ERROR msg="no such file" reason=BuildFailed object.kind=Application object.namespace=shop object.name=cart
	// level=INFO msg="12 objects" reason=Applied object.kind=Application object.namespace=shop object.name=cart
	// 0 <nil>
	// log 2
	// pager 1
}

// A constructor names all problems at once, and no secret.
func ExampleNewSignedWebhook() {
	_, err := notify.NewSignedWebhook("https://hooks.example.org/services/T0KEN", nil, &notify.HTTPOptions{
		Headers: map[string]string{"Content-Type": "text/plain"},
	})
	fmt.Println(err)
	// Output:
	// notify: new webhook https://hooks.example.org: the HMAC key is empty: give a key, or use NewWebhook for no signature
	// header Content-Type is set by the sender: remove it
}

func ExampleDecode() {
	body := strings.NewReader(`{
		"involvedObject": {"kind": "Kustomization", "namespace": "apps", "name": "podinfo", "apiVersion": "kustomize.toolkit.fluxcd.io/v1"},
		"severity": "info", "timestamp": "2026-03-01T12:00:00Z", "message": "Reconciliation finished", "reason": "ReconciliationSucceeded",
		"metadata": {"kustomize.toolkit.fluxcd.io/revision": "main@sha1:4f2a"}, "reportingController": "kustomize-controller"
	}`)
	e, err := notify.Decode(body, 0)
	if err != nil {
		fmt.Println(err)
		return
	}
	revision, _ := e.Revision()
	fmt.Println(e.InvolvedObject, e.Severity, revision)
	// Output: Kustomization/apps/podinfo info main@sha1:4f2a
}
