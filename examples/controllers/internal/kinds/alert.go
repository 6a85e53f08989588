package kinds

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	notificationv1beta3 "github.com/fluxcd/notification-controller/api/v1beta3"
	"github.com/fluxcd/pkg/apis/meta"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/gitopskit/gitopskit/notify"
	"github.com/gitopskit/gitopskit/runtime/kube"
)

// Alerts leads events to the Providers that the Alerts of the cluster name.
// Alert and Provider have no status: what is wrong with one becomes an event
// of Kubernetes about the Alert. It is made by [NewAlerts] and safe for
// concurrent use.
type Alerts struct {
	env *Env

	mu    sync.Mutex
	known map[types.UID]*alert
}

// alert is the way to the Provider of one Alert, as it was when it was made.
type alert struct {
	version string // of the Alert and the Provider
	secret  string // fingerprint of the Secrets
	checked time.Time
	bus     *notify.Bus
	sender  closer
}

// fresh is how long a Provider's Secret is not looked at again.
const fresh = time.Minute

// NewAlerts returns alerts of the cluster.
func NewAlerts(ctx context.Context, env *Env) (*Alerts, error) {
	for _, o := range []client.Object{&notificationv1beta3.Alert{}, &notificationv1beta3.Provider{}} {
		if _, err := env.Manager.GetCache().GetInformer(ctx, o); err != nil {
			return nil, err
		}
	}
	return &Alerts{env: env, known: map[types.UID]*alert{}}, nil
}

// Emit hands an event to every alert that wants it. Nothing is sent before it returns.
func (a *Alerts) Emit(event notify.Event) error {
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()
	all := &notificationv1beta3.AlertList{}
	if err := a.env.Manager.GetClient().List(ctx, all); err != nil {
		return err
	}
	var errs []error
	seen := map[types.UID]bool{}
	for i := range all.Items {
		o := &all.Items[i]
		seen[o.UID] = true
		if o.Spec.Suspend {
			continue
		}
		way, err := a.way(ctx, o)
		if err != nil {
			a.env.Event(ctx, o, kube.Event{Warning: true, Trace: true, Reason: "NotificationFailed", Message: err.Error()})
			continue
		}
		if way == nil {
			continue
		}
		if err = way.bus.Emit(event); errors.Is(err, notify.ErrClosed) { // it was replaced just now
			if way, err = a.way(ctx, o); err == nil && way != nil {
				err = way.bus.Emit(event)
			}
		}
		errs = append(errs, err)
	}
	a.forget(ctx, seen)
	return errors.Join(errs...)
}

// way returns the way to the Provider of an Alert, nil if that is suspended.
func (a *Alerts) way(ctx context.Context, o *notificationv1beta3.Alert) (*alert, error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	p := &notificationv1beta3.Provider{}
	err := a.env.Manager.GetClient().Get(ctx, client.ObjectKey{Namespace: o.Namespace, Name: o.Spec.ProviderRef.Name}, p)
	if apierrors.IsNotFound(err) {
		return nil, errors.New("Provider " + o.Namespace + "/" + o.Spec.ProviderRef.Name + " does not exist")
	}
	if err != nil || p.Spec.Suspend {
		return nil, err
	}
	version := o.ResourceVersion + " " + p.ResourceVersion
	known := a.known[o.UID]
	if known != nil && known.version == version && time.Since(known.checked) < fresh {
		return known, nil
	}
	secret, err := a.secrets(ctx, p)
	if err != nil {
		return nil, err
	}
	if known != nil && known.version == version && known.secret == secret {
		known.checked = time.Now()
		return known, nil
	}
	sender, match, err := a.env.sender(ctx, p)
	if err != nil {
		return nil, in("Provider "+p.Namespace+"/"+p.Name, err)
	}
	rule, err := a.rule(o)
	if err != nil {
		return nil, errors.Join(err, sender.Close())
	}
	bus, err := notify.NewBus(&notify.BusOptions{Lost: func(d notify.Delivery) {
		a.env.Event(context.Background(), o, kube.Event{Warning: true, Trace: true, Reason: "NotificationDispatchFailed", Message: d.Err.Error()})
	}}, notify.Route{Name: o.Namespace + "/" + o.Name, Sender: sender, Rule: rule, Match: match})
	if err != nil {
		return nil, errors.Join(err, sender.Close())
	}
	if known != nil {
		go known.close()
	}
	a.known[o.UID] = &alert{version: version, secret: secret, checked: time.Now(), bus: bus, sender: sender}
	return a.known[o.UID], nil
}

// secrets tells whether the Secrets of a Provider have changed.
func (a *Alerts) secrets(ctx context.Context, p *notificationv1beta3.Provider) (string, error) {
	text := ""
	for _, ref := range []*meta.LocalObjectReference{p.Spec.SecretRef, p.Spec.CertSecretRef, p.Spec.ProxySecretRef} {
		data, err := a.env.secret(ctx, p.Namespace, ref)
		if err != nil {
			return "", in("Provider "+p.Namespace+"/"+p.Name, err)
		}
		text += fmt.Sprintf("%x ", fingerprint(data))
	}
	return text, nil
}

// close delivers what is left.
func (w *alert) close() {
	ctx, cancel := context.WithTimeout(context.Background(), fresh)
	defer cancel()
	w.bus.Close(ctx) //nolint:errcheck // what is lost is told by the bus
	w.sender.Close() //nolint:errcheck // it has no error
}

// forget closes the ways of Alerts that do not exist any more.
func (a *Alerts) forget(_ context.Context, seen map[types.UID]bool) {
	a.mu.Lock()
	defer a.mu.Unlock()
	for uid, way := range a.known {
		if !seen[uid] {
			delete(a.known, uid)
			go way.close()
		}
	}
}

// Close delivers what is left, until ctx ends.
func (a *Alerts) Close(ctx context.Context) {
	a.mu.Lock()
	defer a.mu.Unlock()
	var wait sync.WaitGroup
	for uid, way := range a.known {
		wait.Go(func() {
			way.bus.Close(ctx) //nolint:errcheck // what is lost is told by the bus
			way.sender.Close() //nolint:errcheck // it has no error
		})
		delete(a.known, uid)
	}
	wait.Wait()
}

// rule is what an Alert wants.
func (a *Alerts) rule(o *notificationv1beta3.Alert) (*notify.Rule, error) {
	rule := &notify.Rule{
		Include: o.Spec.InclusionList, Exclude: o.Spec.ExclusionList, PlainMetadata: true, Metadata: o.Spec.EventMetadata, Summary: o.Spec.Summary,
		AllNamespaces: !a.env.Policy.NoCrossNamespaceRefs, Labels: a.labels,
	}
	if o.Spec.EventSeverity == "error" {
		rule.Severity = notify.SeverityError
	}
	for _, s := range o.Spec.EventSources {
		namespace := or(s.Namespace, o.Namespace)
		if err := a.env.Policy.Ref(o.Namespace, s.Kind, namespace, s.Name); err != nil {
			return nil, err
		}
		rule.Sources = append(rule.Sources, notify.EventSource{Kind: s.Kind, Namespace: namespace, Name: s.Name, MatchLabels: s.MatchLabels})
	}
	return rule, nil
}

// labels reads the labels of an object from the cache.
func (a *Alerts) labels(o notify.Object) map[string]string {
	gv, err := schema.ParseGroupVersion(o.APIVersion)
	if err != nil {
		return nil
	}
	made, err := a.env.Manager.GetScheme().New(gv.WithKind(o.Kind))
	if err != nil {
		return nil
	}
	obj, ok := made.(client.Object)
	if !ok || a.env.Manager.GetClient().Get(context.Background(), client.ObjectKey{Namespace: o.Namespace, Name: o.Name}, obj) != nil {
		return nil
	}
	return obj.GetLabels()
}
