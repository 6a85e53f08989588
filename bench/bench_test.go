package main

import (
	"context"
	"testing"

	"k8s.io/client-go/rest"
)

// TestRequests is the promise in small: no step of a reconcile sends more requests than the peer does.
func TestRequests(t *testing.T) {
	in := open(t, podinfo)
	rows, err := measureRequests(t.Context(), in)
	if err != nil {
		t.Fatal(err)
	}
	t.Logf("%s: %d objects\n%s", in.name, len(in.objects), table(rows).markdown())
	for _, r := range rows {
		if r.unit == "API requests" && r.ours > r.peer {
			t.Errorf("%s: %v requests, peer %v", r.what, r.ours, r.peer)
		}
		if r.unit == "API requests" && r.peer < float64(len(in.objects)) {
			t.Errorf("%s: peer sent %v requests for %d objects: not measured", r.what, r.peer, len(in.objects))
		}
	}
}

// TestBuildSame checks that both sides build the same objects, or a comparison would mean nothing.
func TestBuildSame(t *testing.T) {
	in := open(t, podinfo)
	for _, s := range sides {
		objects, err := s.build(t.Context(), in)
		if err != nil {
			t.Fatal(err)
		}
		if len(objects) != len(in.objects) {
			t.Errorf("%s built %d objects, want %d", s.name, len(objects), len(in.objects))
		}
	}
}

func TestMarkdown(t *testing.T) {
	got := table{{"install", "API requests", 250, 500}, {"build", "ms", 1.234, 0}}.markdown()
	want := `| | unit | gitopskit | peer | ratio |
|---|---|---:|---:|---:|
| install | API requests | 250 | 500 | 0.50 |
| build | ms | 1.23 | 0 | – |
`
	if got != want {
		t.Errorf("got\n%s\nwant\n%s", got, want)
	}
}

func BenchmarkBuild(b *testing.B) {
	in := open(b, kubePrometheus)
	for _, s := range sides {
		b.Run(s.name, func(b *testing.B) {
			if err := benchBuild(b.Context(), b, s.build, in); err != nil {
				b.Fatal(err)
			}
		})
	}
}

func BenchmarkDiff(b *testing.B) {
	in := open(b, kubePrometheus)
	for _, s := range sides {
		b.Run(s.name, func(b *testing.B) {
			err := withServer(b.Context(), nil, func(config *rest.Config) error {
				return benchDiff(b.Context(), b, s.new, config, in.objects)
			})
			if err != nil {
				b.Fatal(err)
			}
		})
	}
}

// open returns an input that goes away with the test.
func open(tb testing.TB, measure func(context.Context) (*input, error)) *input {
	tb.Helper()
	in, err := measure(tb.Context())
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() {
		if err := in.close(); err != nil {
			tb.Error(err)
		}
	})
	return in
}
