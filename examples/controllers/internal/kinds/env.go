// Package kinds reconciles the kinds of Flux, one file for each, by assembling
// packages of this module. The programs below examples/controllers run them.
package kinds

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"maps"
	"net/http"
	"net/url"
	"reflect"
	"slices"
	"strings"
	"time"

	"github.com/fluxcd/pkg/apis/meta"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/manager"

	"github.com/gitopskit/gitopskit/notify/receiver"
	rt "github.com/gitopskit/gitopskit/runtime"
	"github.com/gitopskit/gitopskit/runtime/depend"
	"github.com/gitopskit/gitopskit/runtime/kube"
	"github.com/gitopskit/gitopskit/runtime/kube/flags"
	"github.com/gitopskit/gitopskit/runtime/observe"
	"github.com/gitopskit/gitopskit/runtime/secrets"
	"github.com/gitopskit/gitopskit/runtime/status"
	"github.com/gitopskit/gitopskit/runtime/tenancy"
	"github.com/gitopskit/gitopskit/source"
	"github.com/gitopskit/gitopskit/source/archive"
	"github.com/gitopskit/gitopskit/source/store"
	"github.com/gitopskit/gitopskit/ssa"
)

// Finalizer is what Flux puts on its objects.
const Finalizer = "finalizers.fluxcd.io"

// Env is what all kinds of one program share.
type Env struct {
	Manager manager.Manager
	// Store keeps the artifacts of sources that this program reconciles; nil
	// if it reconciles none. StoreURL is where it is served.
	Store    *store.Store
	StoreURL string
	// Fetch downloads artifacts that are not in Store.
	Fetch *archive.Client
	// Policy and Clients say as whom objects are applied.
	Policy  tenancy.Policy
	Clients *tenancy.Clients
	// Applied knows what Kustomizations have applied to the own cluster, and
	// Proof what of that is still the same.
	Applied *ssa.Store
	Proof   ssa.Prover
	// Expressions decide about dependencies.
	Expressions depend.Expressions
	// Event is told what happens.
	Event func(ctx context.Context, obj client.Object, event kube.Event)
	// Proxy returns the proxy of requests to sources whose spec names none; nil
	// is no proxy.
	Proxy func(*http.Request) (*url.URL, error)
	// Metrics records passes, and lists the objects.
	Metrics *observe.Metrics
	// Tags has what was scanned of registries.
	Tags *TagDB
	// Hooks are the webhooks that are open.
	Hooks *receiver.Mux
	// Flags are those of the command line.
	Flags *flags.Flags
	// FieldOwner owns what is written to the objects, and what is applied.
	FieldOwner string
	Log        *slog.Logger

	closers []func()
}

// backoff is the pause of kinds that have no retry interval.
func (e *Env) backoff() rt.Backoff { return e.Flags.Backoff() }

// add fills in what all kinds have in common.
func add[T kube.Object](ctx context.Context, e *Env, logic kube.Reconciler[T], opts kube.Options[T]) (*kube.Controller[T], error) {
	if opts.Finalizer == "" {
		opts.Finalizer = Finalizer
	}
	if err := flags.Apply(e.Flags, &opts); err != nil {
		return nil, err
	}
	if opts.Patience == 0 {
		opts.Patience = 2 * time.Second // of which nobody has to be told
	}
	kind := reflect.TypeFor[T]().Elem().Name()
	watched := observe.Of(e.Metrics, kind, func(k client.ObjectKey) (namespace, name string) { return k.Namespace, k.Name })
	opts.Event, opts.Log, opts.FieldOwner, opts.Observe, opts.Wrap = e.Event, e.Log, e.FieldOwner, watched.Observe, watched.Reconciler
	c, err := kube.Add(ctx, e.Manager, logic, opts)
	if err == nil {
		e.closers = append(e.closers, e.Metrics.Snapshot(kind, watched.Resources(c.All())))
	}
	return c, err
}

// Close ends what the kinds have begun.
func (e *Env) Close() {
	for _, c := range e.closers {
		c()
	}
}

// secret returns the data of a Secret, nil if there is no reference.
func (e *Env) secret(ctx context.Context, namespace string, ref *meta.LocalObjectReference) (map[string][]byte, error) {
	if ref == nil {
		return nil, nil //nolint:nilnil // documented: there is nothing to read
	}
	s := &corev1.Secret{}
	if err := e.get(ctx, namespace, ref.Name, s); err != nil {
		return nil, err
	}
	data := s.Data
	if data == nil {
		data = map[string][]byte{}
	}
	return data, nil
}

// proxy sets the proxy of a Secret, which comes before that of the program. It
// returns what tells one Secret from another.
func (e *Env) proxy(ctx context.Context, namespace string, ref *meta.LocalObjectReference, to *func(*http.Request) (*url.URL, error)) (key [sha256.Size]byte, err error) {
	*to = e.Proxy
	data, err := e.secret(ctx, namespace, ref)
	if err != nil || ref == nil {
		return key, err
	}
	u, err := secrets.Proxy(data)
	if err == nil {
		err = e.plain(u.String(), false)
	}
	if err != nil {
		return key, in("proxy: Secret "+namespace+"/"+ref.Name, err)
	}
	*to = http.ProxyURL(u)
	return fingerprint(data), nil
}

// get reads an object that another one refers to, from the API server.
func (e *Env) get(ctx context.Context, namespace, name string, obj client.Object) error {
	err := e.Manager.GetAPIReader().Get(ctx, client.ObjectKey{Namespace: namespace, Name: name}, obj)
	kind := strings.TrimPrefix(fmt.Sprintf("%T", obj), "*v1.")
	if apierrors.IsNotFound(err) {
		return &missingError{kind, namespace, name}
	}
	if err != nil {
		return fmt.Errorf("read %s %s/%s: %w", kind, namespace, name, err)
	}
	return nil
}

// missingError is about an object that another one refers to.
type missingError struct{ kind, namespace, name string }

func (e *missingError) Error() string {
	return fmt.Sprintf("%s %s/%s does not exist: create it, or correct the reference", e.kind, e.namespace, e.name)
}

// plain returns a plainError for a connection without TLS if the flags forbid those. The artifacts that controllers serve to
// each other do not count.
func (e *Env) plain(address string, insecure bool) error {
	if e.Flags.InsecureAllowHTTP || !insecure && !strings.HasPrefix(strings.ToLower(address), "http:") {
		return nil
	}
	return plainError{}
}

// plainError is terminal: only another address helps, or another flag.
type plainError struct{}

func (plainError) Error() string {
	return "connections without TLS are not allowed here (-insecure-allow-http=false): use https"
}

// Terminal says that only a changed object can help.
func (plainError) Terminal() bool { return true }

// conditionMessage is what the condition Ready says now.
func conditionMessage(o status.Object) string {
	if c := status.Get(o, status.Ready); c != nil && c.Status == metav1.ConditionTrue {
		return c.Message
	}
	return ""
}

// outside is an error about what an object refers to, which can be mended
// there: the object must be tried again, whatever the error says of itself.
type outside struct{ error }

func (e outside) Unwrap() error { return e.error }

// Terminal says that it is not only the object that can help.
func (outside) Terminal() bool { return false }

// in adds what an error is about.
func in(what string, err error) error {
	if err == nil {
		return nil
	}
	return fmt.Errorf("%s: %w", what, err)
}

// gone reports an artifact that is announced but not there (any more): the
// source is about to say so itself.
func gone(err error) bool {
	return errors.Is(err, source.ErrNotFound) || errors.Is(err, fs.ErrNotExist)
}

// schedule is that of a source; its timeout is a minute unless the spec has one.
func (e *Env) schedule(interval metav1.Duration, timeout *metav1.Duration, suspend bool) kube.Schedule {
	s := kube.Schedule{Interval: interval.Duration, Timeout: time.Minute, Retry: e.backoff(), Suspend: suspend}
	if timeout != nil {
		s.Timeout = timeout.Duration
	}
	return s
}

// fingerprint tells one content of a Secret from another.
func fingerprint(data map[string][]byte) [sha256.Size]byte {
	h := sha256.New()
	for _, name := range slices.Sorted(maps.Keys(data)) {
		fmt.Fprintf(h, "%q %d\n", name, len(data[name]))
		h.Write(data[name])
	}
	return [sha256.Size]byte(h.Sum(nil))
}
