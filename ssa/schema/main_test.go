package schema_test

import (
	"testing"

	"go.uber.org/goleak"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

	"github.com/gitopskit/gitopskit/runtime/testenv"
	"github.com/gitopskit/gitopskit/ssa/schema"
)

func TestMain(m *testing.M) {
	goleak.VerifyTestMain(m,
		goleak.IgnoreAnyFunction(testenv.Goroutine),
		// client-go caches transports, and with them idle connections, for the life of a process.
		goleak.IgnoreAnyFunction("net/http.(*persistConn).readLoop"),
		goleak.IgnoreAnyFunction("net/http.(*persistConn).writeLoop"),
		goleak.IgnoreAnyFunction("golang.org/x/net/http2.(*clientConnReadLoop).run"),
		goleak.IgnoreAnyFunction("net/http.(*http2clientConnReadLoop).run"),
		goleak.IgnoreAnyFunction("net/http.(*http2ClientConn).readLoop"),
		goleak.IgnoreAnyFunction("k8s.io/client-go/rest.(*tlsTransportCache).get"),
		// Importing k8s.io/klog and the feature gates of Kubernetes starts these.
		goleak.IgnoreAnyFunction("k8s.io/klog/v2.(*flushDaemon).run.func1"),
	)
}

// builtin returns the kinds of a Kubernetes version.
func builtin(t testing.TB, version string) *schema.Set {
	t.Helper()
	set, err := schema.Builtin(version)
	if err != nil {
		t.Fatal(err)
	}
	return set
}

// with returns a set with more definitions.
func with(t testing.TB, set *schema.Set, objs ...*unstructured.Unstructured) *schema.Set {
	t.Helper()
	set, err := set.With(objs...)
	if err != nil {
		t.Fatal(err)
	}
	return set
}

// read parses manifests.
func read(t testing.TB, text string) *schema.Manifests {
	t.Helper()
	m, err := schema.Decode("test.yaml", []byte(text), nil)
	if err != nil {
		t.Fatal(err)
	}
	return m
}
