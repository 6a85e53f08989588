package notify_test

import (
	"context"
	"fmt"
	"log/slog"
	"net/http"
	"net/http/httptest"
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
			Rule:   &notify.Rule{Severity: notify.SeverityError},
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

// What an Alert of Flux says is a rule.
func ExampleRule() {
	chat := notify.SenderFunc(func(_ context.Context, e notify.Event) error {
		fmt.Println(e.InvolvedObject, e.Message, e.Metadata)
		return nil
	})
	bus, err := notify.NewBus(nil, notify.Route{Name: "chat", Sender: chat, Rule: &notify.Rule{
		Sources:       []notify.EventSource{{Kind: "Kustomization", Namespace: "apps", Name: "*"}},
		Exclude:       []string{"^waiting for"},
		Metadata:      map[string]string{"cluster": "eu-1"},
		PlainMetadata: true,
	}})
	if err != nil {
		fmt.Println(err)
		return
	}
	object := notify.Object{Kind: "Kustomization", Namespace: "apps", Name: "web", APIVersion: "kustomize.toolkit.fluxcd.io/v1"}
	for _, message := range []string{"waiting for 3 objects", "applied"} {
		_ = bus.Emit(notify.Event{
			InvolvedObject: object, Message: message,
			Metadata: map[string]string{"kustomize.toolkit.fluxcd.io/revision": "main@sha1:4f2a"},
		})
	}
	_, _ = bus.Close(context.Background())
	// Output: Kustomization/apps/web applied map[cluster:eu-1 revision:main@sha1:4f2a]
}

// The events of Flux's controllers are taken where they are posted.
func ExampleEventServer() {
	server := &notify.EventServer{Emit: func(e notify.Event) error {
		fmt.Println(e.Severity, e.InvolvedObject, e.Message)
		return nil
	}}
	for range 2 {
		body := strings.NewReader(`{"involvedObject":{"kind":"App","namespace":"shop","name":"cart"},"severity":"error","message":"no such file"}`)
		answer := httptest.NewRecorder()
		server.ServeHTTP(answer, httptest.NewRequest(http.MethodPost, "/", body))
		fmt.Println(answer.Code)
	}
	// Output:
	// error App/shop/cart no such file
	// 202
	// 429
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
