package helmrepo

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"runtime"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
)

const layouts = `apiVersion: v1
entries:
  app:
  - name: app
    version: 1.0.0
    urls: [a.tgz]
    description: |
      text

      entries:
        other:
  # a comment
  "quoted":
    - name: quoted
      version: 2.0.0
      urls: [q.tgz]
  empty: []
  none:
  null-entries:
  - null
  - {version: 1.0.0}
  - {version: x, urls: [a]}
  - version: 1.10
    urls: [b.tgz]
    appVersion: 1.16
    created: 2024-01-01T00:00:00Z
generated: "2024-01-01T00:00:00Z"
`

func TestSlice(t *testing.T) {
	for _, test := range []struct {
		name, text, chart string
		known             bool
		want              string
	}{
		{"first", layouts, "app", true, "version: 1.0.0"},
		{"quoted name", layouts, "quoted", true, "version: 2.0.0"},
		{"not there", layouts, "other", true, ""},
		{"windows lines", strings.ReplaceAll(layouts, "\n", "\r\n"), "app", true, "version: 1.0.0"},
		{"flow", "apiVersion: v1\nentries: {app: [{version: 1.0.0}]}\n", "app", false, ""},
		{"json", `{"apiVersion":"v1","entries":{}}`, "app", false, ""},
		{"no entries", "apiVersion: v1\n", "app", false, ""},
		{"twice", "apiVersion: v1\nentries:\n  app:\n  app:\n", "app", false, ""},
		{"anchor", "apiVersion: v1\nentries:\n  app: &x\n  - a: 1\n", "app", false, ""},
		{"tabs", "apiVersion: v1\nentries:\n  app:\n\t- a\n", "app", false, ""},
		{"long line", "apiVersion: v1\nentries:\n  app:\n  - a: " + strings.Repeat("x", 2<<20), "app", false, ""},
		{"two documents", layouts + "---\n" + layouts, "app", false, ""},
	} {
		s := slice(strings.NewReader(test.text), test.chart)
		if s.known != test.known || s.known && !s.version || !strings.Contains(string(s.text), test.want) || test.want == "" && s.text != nil {
			t.Errorf("%s: known %v, version %v, %q", test.name, s.known, s.version, s.text)
		}
		if strings.Contains(string(s.text), "quoted") && test.chart != "quoted" {
			t.Errorf("%s: more than the chart: %s", test.name, s.text)
		}
	}
}

// What is cut out says the same as the whole.
func TestSliceAsParse(t *testing.T) {
	checkSlice(t, []byte(layouts), "app", "quoted", "empty", "none", "null-entries", "other")
	i, err := receive(strings.NewReader(layouts))
	if err != nil {
		t.Fatal(err)
	}
	versions, err := i.find("null-entries")
	if err != nil || len(versions) != 1 || versions[0].AppVersion != "1.16" || versions[0].Created.IsZero() {
		t.Errorf("%+v, %v", versions, err)
	}
}

// checkSlice compares, if both ways can read the index.
func checkSlice(t testing.TB, data []byte, names ...string) {
	t.Helper()
	i, err := receive(bytes.NewReader(data))
	if err != nil {
		return
	}
	all, err := i.parse()
	if err != nil {
		return
	}
	for _, name := range names {
		got, err := i.find(name)
		if err != nil {
			t.Errorf("%s: %v\n%s", name, err, data)
		}
		if diff := cmp.Diff(sorted(name, all[name]), got, cmpopts.IgnoreUnexported(Version{}), cmpopts.EquateEmpty()); diff != "" {
			t.Errorf("%s: %s\n%s", name, diff, data)
		}
	}
}

// Small damage to an index makes no difference between the two ways either.
func TestSliceOfMutants(t *testing.T) {
	const seed = 7
	r := rand.New(rand.NewPCG(seed, seed))
	pieces := []string{" ", "\n", "-", ":", "#", "'", "\"", "|", "&a ", "*a", "{", "}", "[", "]", "\t", "  app:", "entries:", "\n\n", "---\n", "? ", "!!str ", "\r", "a: b"}
	for range 300 {
		text := []byte(layouts)
		for range 1 + r.IntN(3) {
			at := r.IntN(len(text))
			switch r.IntN(3) {
			case 0:
				text = slices.Delete(text, at, min(at+1+r.IntN(4), len(text)))
			case 1:
				text = slices.Insert(text, at, []byte(pieces[r.IntN(len(pieces))])...)
			default:
				text[at] = pieces[r.IntN(len(pieces))][0]
			}
		}
		checkSlice(t, text, "app", "quoted", "null-entries", "empty", "other")
		if t.Failed() {
			return
		}
	}
}

func FuzzIndex(f *testing.F) {
	f.Add([]byte(layouts), "app")
	f.Add([]byte("apiVersion: v1\nentries:\n  a:\n  - {version: 1.0.0, urls: [x]}\n"), "a")
	f.Add([]byte("apiVersion: v1\nentries:\n    a:\n        - version: 1.0.0\n          urls:\n            - x\n"), "a")
	f.Add([]byte(`{"apiVersion":"v1","entries":{"a":[{"version":"1.0.0","urls":["x"]}]}}`), "a")
	f.Fuzz(func(t *testing.T, data []byte, name string) {
		i, err := receive(bytes.NewReader(data))
		if err != nil {
			return
		}
		versions, err := i.find(name)
		if err != nil {
			return
		}
		for _, v := range versions {
			if v.Name != name || len(v.URLs) == 0 || v.semver == nil {
				t.Fatalf("%+v", v)
			}
		}
		checkSlice(t, data, name)
	})
}

// An index of many megabytes costs little of them: neither its text nor what it
// says is held in memory.
func TestLargeIndex(t *testing.T) {
	var b bytes.Buffer
	b.WriteString("apiVersion: v1\nentries:\n")
	for c := range 300 {
		fmt.Fprintf(&b, "  chart-%d:\n", c)
		for v := range 100 {
			fmt.Fprintf(&b, "  - apiVersion: v2\n    name: chart-%d\n    version: 1.%d.0\n    urls:\n    - https://example.com/chart-%d-1.%d.0.tgz\n    digest: %064d\n    description: %s\n", c, v, c, v, c*100+v, strings.Repeat("words ", 60))
		}
	}
	data := b.Bytes()
	var before, after runtime.MemStats
	runtime.GC()
	runtime.ReadMemStats(&before)
	i, err := receive(bytes.NewReader(data))
	if err != nil {
		t.Fatal(err)
	}
	versions, err := i.find("chart-77")
	if err != nil || len(versions) != 100 || versions[0].Version != "1.99.0" {
		t.Fatalf("%d versions, %v", len(versions), err)
	}
	runtime.ReadMemStats(&after)
	if used := after.TotalAlloc - before.TotalAlloc; used > uint64(len(data)) {
		t.Errorf("an index of %d MiB allocates %d MiB", len(data)>>20, used>>20)
	}
	if held := len(i.zipped); held > len(data)/4 {
		t.Errorf("an index of %d bytes is held in %d", len(data), held)
	}
}
