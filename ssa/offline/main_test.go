package offline_test

import (
	"bytes"
	"os"
	"testing"

	"go.uber.org/goleak"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

	"github.com/gitopskit/gitopskit/runtime/testenv"
	"github.com/gitopskit/gitopskit/ssa"
	"github.com/gitopskit/gitopskit/ssa/offline"
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
	)
}

// must returns the value, or ends the test.
func must[T any](t testing.TB) func(T, error) T {
	return func(v T, err error) T {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		return v
	}
}

func objects(t testing.TB, text string) []*unstructured.Unstructured {
	t.Helper()
	return must[[]*unstructured.Unstructured](t)(ssa.ReadObjects(bytes.NewBufferString(text)))
}

func object(t testing.TB, text string) *unstructured.Unstructured {
	t.Helper()
	return objects(t, text)[0]
}

func fromFile(t testing.TB, name string) []*unstructured.Unstructured {
	t.Helper()
	return objects(t, string(must[[]byte](t)(os.ReadFile(name))))
}

func newCluster(t testing.TB, seed ...*unstructured.Unstructured) *offline.Cluster {
	t.Helper()
	return must[*offline.Cluster](t)(offline.New(nil, seed...))
}
