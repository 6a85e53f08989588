package controllers_test

import (
	"archive/tar"
	"compress/gzip"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/tools/txtar"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

	"github.com/gitopskit/gitopskit/notify"
)

var update = flag.Bool("update", false, "write the golden tables anew")

// TestSourcesGolden has every kind of source meet success, change, failure and recovery, and compares what it says then
// with testdata/sources.txtar: conditions in their order, observed fields, the files of the artifact, and the events since
// the stage before.
func TestSourcesGolden(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	g := &golden{w: w}
	receiver := httptest.NewServer(g)
	t.Cleanup(receiver.Close)
	o := w.options()
	o.EventsAddr = receiver.URL
	stages := sourceStages(t, w, o)
	w.run(all(), o)
	file := filepath.Join("testdata", "sources.txtar")
	table, err := txtar.ParseFile(file)
	if err != nil {
		t.Fatal(err)
	}
	wants, written := map[string]string{}, &txtar.Archive{Comment: table.Comment}
	for _, f := range table.Files {
		wants[f.Name] = string(f.Data)
	}
	for _, stage := range stages {
		for _, s := range stage.steps {
			s.do()
		}
		settled := map[string]string{}
		if *update {
			settled = g.settled(stage)
		}
		for _, s := range stage.steps {
			name := s.ref + " " + stage.name
			if *update {
				written.Files = append(written.Files, txtar.File{Name: name, Data: []byte(settled[s.ref])})
			} else {
				g.becomes(s.ref, name, wants[name])
			}
			delete(wants, name)
			g.forget(s.ref)
		}
	}
	if *update {
		if err := os.WriteFile(file, txtar.Format(written), 0o600); err != nil {
			t.Fatal(err)
		}
		return
	}
	for name := range wants {
		t.Errorf("nothing makes %s happen", name)
	}
}

// stage is what happens to many objects at the same time.
type stage struct {
	name  string
	steps []step
}

// step is what happens to one object.
type step struct {
	ref string // Kind/name
	do  func()
}

// golden takes the events of the controllers, and tells what there is about an object.
type golden struct {
	w    *world
	mu   sync.Mutex
	told []notify.Event
}

// ServeHTTP takes an event.
func (g *golden) ServeHTTP(_ http.ResponseWriter, r *http.Request) {
	e, err := notify.Decode(r.Body, 1<<20)
	if err != nil {
		g.w.t.Error(err)
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	g.told = append(g.told, e)
}

func (g *golden) events(ref string) (out []string) {
	g.mu.Lock()
	defer g.mu.Unlock()
	for _, e := range g.told {
		if e.InvolvedObject.Kind+"/"+e.InvolvedObject.Name != ref || strings.HasSuffix(e.Message, "has no artifact yet") { // which passes
			continue
		}
		var keys []string
		for key := range e.Metadata {
			keys = append(keys, path.Base(key))
		}
		slices.Sort(keys)
		out = append(out, fmt.Sprintf("event %s %s %v: %s", e.Severity, e.Reason, keys, e.Message))
	}
	return out
}

// forget drops the events of an object.
func (g *golden) forget(ref string) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.told = slices.DeleteFunc(g.told, func(e notify.Event) bool { return e.InvolvedObject.Kind+"/"+e.InvolvedObject.Name == ref })
}

// becomes waits until an object is as the table has it.
func (g *golden) becomes(ref, name, want string) {
	g.w.t.Helper()
	got := ""
	for deadline := time.Now().Add(60 * time.Second); time.Now().Before(deadline); <-time.After(25 * time.Millisecond) {
		if got = g.tell(ref); got == want {
			return
		}
	}
	g.w.t.Errorf("%s:\n%s", name, cmp.Diff(want, got))
}

// settled waits until nothing happens any more, to write the table.
func (g *golden) settled(s stage) map[string]string {
	const still = 4
	last, same := map[string]string{}, 0
	for ; same < still; <-time.After(time.Second) {
		same++
		for _, one := range s.steps {
			if got := g.tell(one.ref); got != last[one.ref] {
				last[one.ref], same = got, 0
			}
		}
	}
	return last
}

// tell writes down all that counts of an object.
func (g *golden) tell(ref string) string {
	o := g.w.get(ref)
	if o == nil {
		return "does not exist\n"
	}
	status, _ := o.Object["status"].(map[string]any)
	var out []string
	add := func(format string, args ...any) { out = append(out, fmt.Sprintf(format, args...)) }
	conditions, _ := status["conditions"].([]any)
	for _, c := range conditions {
		c, _ := c.(map[string]any)
		old := ""
		if fmt.Sprint(c["observedGeneration"]) != fmt.Sprint(o.GetGeneration()) {
			old = fmt.Sprintf(" (generation %v of %d)", c["observedGeneration"], o.GetGeneration())
		}
		add("%s %s %s%s: %s", c["type"], c["status"], c["reason"], old, c["message"])
	}
	var fields []string
	for name := range status {
		if strings.HasPrefix(name, "observed") && name != "observedGeneration" || name == "sourceVerificationMode" {
			fields = append(fields, name)
		}
	}
	slices.Sort(fields)
	for _, name := range fields {
		data, _ := json.Marshal(status[name])
		add("%s %s", name, data)
	}
	if n := fmt.Sprint(status["observedGeneration"]); status["observedGeneration"] != nil && n != fmt.Sprint(o.GetGeneration()) {
		add("observedGeneration %s of %d", n, o.GetGeneration())
	}
	if token := o.GetAnnotations()["reconcile.fluxcd.io/requestedAt"]; token != text(o, "status", "lastHandledReconcileAt") {
		add("request %s is not answered", token)
	}
	if artifact, ok := status["artifact"].(map[string]any); ok {
		add("artifact %s: %s", artifact["revision"], g.files(o))
	}
	out = append(out, g.events(ref)...)
	return g.general(strings.Join(out, "\n") + "\n")
}

// files lists what is in the artifact of an object, as somebody gets it who downloads it.
func (g *golden) files(o *unstructured.Unstructured) string {
	url := text(o, "status", "artifact", "url")
	res, err := http.Get(url)
	if err != nil {
		return err.Error()
	}
	defer res.Body.Close()
	if res.StatusCode != http.StatusOK || !strings.HasSuffix(url, ".tar.gz") {
		return fmt.Sprintf("%s (%d)", path.Ext(url), res.StatusCode)
	}
	unzipped, err := gzip.NewReader(res.Body)
	if err != nil {
		return err.Error()
	}
	var names []string
	for archive := tar.NewReader(unzipped); ; {
		header, err := archive.Next()
		if errors.Is(err, io.EOF) {
			return strings.Join(names, " ")
		}
		if err != nil {
			return err.Error()
		}
		if !header.FileInfo().IsDir() {
			names = append(names, header.Name)
		}
	}
}

// general replaces what differs from run to run.
func (g *golden) general(s string) string {
	s = strings.ReplaceAll(s, g.w.namespace, "NAMESPACE")
	for _, r := range []struct{ pattern, with string }{
		{`127\.0\.0\.1:\d{2,}`, "HOST"}, {`(sha1|sha256):[0-9a-f]{40,64}`, "$1:HASH"}, {`SHA256:[A-Za-z0-9+/]+`, "SHA256:KEY"}, {`\b[0-9a-f]{40}\b`, "COMMIT"},
	} {
		s = regexp.MustCompile(r.pattern).ReplaceAllString(s, r.with)
	}
	return s
}
