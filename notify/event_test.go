package notify_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"log/slog"
	"os"
	"strings"
	"testing"
	"testing/iotest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/gitopskit/gitopskit/notify"
	"github.com/gitopskit/gitopskit/notify/notifytest"
)

func fullEvent() notify.Event {
	return notify.Event{
		InvolvedObject: notify.Object{
			Kind: "GitRepository", Namespace: "gitops-system", Name: "webapp", UID: "cb4e5ba9-1a2b-4c3d-8e4f-000000000001",
			APIVersion: "source.toolkit.fluxcd.io/v1", ResourceVersion: "2478013", FieldPath: "spec.ref",
		},
		Severity: notify.SeverityError, Timestamp: time.Date(2026, 3, 29, 2, 30, 15, 123456789, time.FixedZone("", 2*3600)),
		Message: "first <line> & \"second\"\nΓειά", Reason: "GitOperationFailed",
		Metadata:            map[string]string{"source.toolkit.fluxcd.io/revision": "main@sha1:ef9a", "a": ""},
		ReportingController: "source-controller", ReportingInstance: "source-controller-7c",
	}
}

// The golden files are written by hand after the published types: v1beta1 (event.go of Flux's event API) and v1.
func TestJSONIsThatOfFlux(t *testing.T) {
	v1 := fullEvent()
	v1.Action, v1.RelatedObject = "Fetching", &notify.Object{Kind: "Secret", Namespace: "gitops-system", Name: "auth", APIVersion: "v1"}
	for file, e := range map[string]notify.Event{
		"testdata/event-v1beta1.json": fullEvent(),
		"testdata/event-v1.json":      v1,
		"testdata/event-zero.json":    {},
	} {
		golden, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		var want bytes.Buffer
		if err := json.Compact(&want, golden); err != nil {
			t.Fatal(err)
		}
		got, err := json.Marshal(e)
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(want.String(), string(got)); diff != "" {
			t.Errorf("%s (-want +got):\n%s", file, diff)
		}
		back, err := notify.Decode(bytes.NewReader(golden), 0)
		if err != nil {
			t.Fatal(err)
		}
		e.Timestamp = e.Timestamp.Truncate(time.Second).UTC()
		if diff := cmp.Diff(e, back); diff != "" {
			t.Errorf("%s does not come back (-want +got):\n%s", file, diff)
		}
	}
}

func TestDecode(t *testing.T) {
	const fine = `{"involvedObject":{"kind":"A","name":"b"},"severity":"info","message":"m"}`
	for _, tc := range []struct {
		name, body string
		limit      int64
		want       error
	}{
		{"fine", fine, 0, nil},
		{"exactly the limit", fine, int64(len(fine)), nil},
		{"over the limit", fine, int64(len(fine)) - 1, notify.ErrTooLarge},
		{"over the default limit", `{"message":"` + strings.Repeat("x", 3<<20), 0, notify.ErrTooLarge},
		{"unknown fields", `{"severity":"trace","new":{"deep":[1]},"involvedObject":{"other":1}}`, 0, nil},
		{"no severity", `{}`, 0, nil},
		{"two documents", fine + fine, 0, notify.ErrInvalid},
		{"garbage after it", fine + "x", 0, notify.ErrInvalid},
		{"null", `null`, 0, notify.ErrInvalid},
		{"array", `[]`, 0, notify.ErrInvalid},
		{"empty", ``, 0, notify.ErrInvalid},
		{"bad severity", `{"severity":"fatal"}`, 0, notify.ErrInvalid},
		{"bad time", `{"timestamp":"yesterday"}`, 0, notify.ErrInvalid},
		{"year beyond range", `{"timestamp":"9999-12-31T23:59:59-23:59"}`, 0, notify.ErrInvalid},
		{"wrong type", `{"metadata":{"a":1}}`, 0, notify.ErrInvalid},
		{"deep", `{"x":` + strings.Repeat("[", 20_000), 0, notify.ErrInvalid},
	} {
		_, err := notify.Decode(strings.NewReader(tc.body), tc.limit)
		if !errors.Is(err, tc.want) || (err == nil) != (tc.want == nil) {
			t.Errorf("%s: got %v, want %v", tc.name, err, tc.want)
		}
	}
	if _, err := notify.Decode(iotest.ErrReader(io.ErrUnexpectedEOF), 0); !errors.Is(err, io.ErrUnexpectedEOF) {
		t.Errorf("reader: %v", err)
	}
}

func FuzzDecode(f *testing.F) {
	for _, e := range notifytest.Events() {
		data, err := json.Marshal(e)
		if err != nil {
			f.Fatal(err)
		}
		if len(data) < 4096 {
			f.Add(data)
		}
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		e, err := notify.Decode(bytes.NewReader(data), 1<<16)
		if err != nil {
			if !errors.Is(err, notify.ErrInvalid) && !errors.Is(err, notify.ErrTooLarge) {
				t.Errorf("an error without a class: %v", err)
			}
			return
		}
		again, err := json.Marshal(e)
		if err != nil {
			t.Fatalf("what was decoded cannot be encoded: %v", err)
		}
		back, err := notify.Decode(bytes.NewReader(again), 0)
		if err != nil {
			t.Fatalf("what was decoded and encoded is not decoded: %v\n%s", err, again)
		}
		if once, err := json.Marshal(back); err != nil || !bytes.Equal(once, again) {
			t.Errorf("%v\n%s\n%s", err, again, once)
		}
		e.Revision()
	})
}

func TestRevision(t *testing.T) {
	for _, tc := range []struct {
		md   map[string]string
		want string
		ok   bool
	}{
		{nil, "", false},
		{map[string]string{"other.group/revision": "x"}, "", false},
		{map[string]string{"revision": "r"}, "r", true},
		{map[string]string{"source.toolkit.fluxcd.io/revision": "r"}, "r", true},
		{map[string]string{"source.toolkit.fluxcd.io/revision": "r", "source.toolkit.fluxcd.io/originRevision": "o"}, "o", true},
		{map[string]string{"originRevision": "o", "event.toolkit.fluxcd.io/commit": "c"}, "c", true},
	} {
		e := notify.Event{InvolvedObject: notify.Object{APIVersion: "source.toolkit.fluxcd.io/v1"}, Metadata: tc.md}
		if got, ok := e.Revision(); got != tc.want || ok != tc.ok {
			t.Errorf("%v: got %q, %t", tc.md, got, ok)
		}
	}
}

func TestSeverity(t *testing.T) {
	if !(notify.SeverityTrace < notify.SeverityInfo && notify.SeverityInfo < notify.SeverityError) {
		t.Error("severities are not in order")
	}
	for _, s := range []notify.Severity{notify.SeverityTrace, notify.SeverityInfo, notify.SeverityError} {
		if got, err := notify.ParseSeverity(s.String()); err != nil || got != s {
			t.Errorf("%v: got %v, %v", s, got, err)
		}
	}
	if _, err := json.Marshal(notify.Event{Severity: 7}); err == nil || !strings.Contains(err.Error(), "severity(7)") {
		t.Errorf("got %v", err)
	}
	if _, err := notify.ParseSeverity(strings.Repeat("x", 1000)); err == nil || len(err.Error()) > 100 {
		t.Errorf("got %v", err)
	}
}

func TestObjectString(t *testing.T) {
	if got := fullEvent().InvolvedObject.String(); got != "GitRepository/gitops-system/webapp" {
		t.Error(got)
	}
	if got := (notify.Object{Kind: "Node", Name: "n"}).String(); got != "Node/n" {
		t.Error(got)
	}
}

func TestSlog(t *testing.T) {
	var out bytes.Buffer
	s := notify.Slog{Logger: slog.New(slog.NewJSONHandler(&out, nil))}
	notifytest.TestSender(t, notify.Slog{Logger: slog.New(slog.DiscardHandler)})
	e := fullEvent()
	e.RelatedObject, e.Action = &notify.Object{Kind: "Secret", Name: "auth"}, "Fetching"
	e.Timestamp = e.Timestamp.UTC()
	trace := e
	trace.Severity = notify.SeverityTrace // below the level of the handler
	for _, e := range []notify.Event{trace, e, {Message: "bare"}} {
		if err := s.Send(t.Context(), e); err != nil {
			t.Fatal(err)
		}
	}
	want := `{"time":"2026-03-29T00:30:15.123456789Z","level":"ERROR","msg":"first <line> & \"second\"\nΓειά","reason":"GitOperationFailed","action":"Fetching",` +
		`"object":{"kind":"GitRepository","namespace":"gitops-system","name":"webapp"},"related":{"kind":"Secret","name":"auth"},` +
		`"controller":"source-controller","instance":"source-controller-7c","metadata":{"a":"","source.toolkit.fluxcd.io/revision":"main@sha1:ef9a"}}
{"level":"INFO","msg":"bare"}
`
	if diff := cmp.Diff(want, out.String()); diff != "" {
		t.Errorf("records (-want +got):\n%s", diff)
	}
	err := notify.Slog{}.Send(t.Context(), e)
	if e, ok := errors.AsType[*notify.SendError](err); !ok || !e.Terminal() {
		t.Errorf("no logger: %v", err)
	}
}

func TestSlogLevels(t *testing.T) {
	var out bytes.Buffer
	h := slog.NewTextHandler(&out, &slog.HandlerOptions{Level: slog.LevelDebug, ReplaceAttr: func(_ []string, a slog.Attr) slog.Attr {
		if a.Key == slog.LevelKey {
			return a
		}
		return slog.Attr{}
	}})
	for _, s := range []notify.Severity{notify.SeverityTrace, notify.SeverityInfo, notify.SeverityError} {
		if err := (notify.Slog{Logger: slog.New(h)}).Send(t.Context(), notify.Event{Severity: s}); err != nil {
			t.Error(err)
		}
	}
	if got := out.String(); got != "level=DEBUG\nlevel=INFO\nlevel=ERROR\n" {
		t.Errorf("got %q", got)
	}
}
