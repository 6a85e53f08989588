package kube

import (
	"context"
	"fmt"
	"log/slog"
	"maps"
	"sync"
	"time"

	"github.com/go-logr/logr" //nolint:depguard // the reflector of client-go takes one
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/fields"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/watch"
	"k8s.io/client-go/metadata"
	toolscache "k8s.io/client-go/tools/cache"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/manager"
)

// settleTimeout is how long a pass waits for the watches of what it refers to
// to begin.
const settleTimeout = 10 * time.Second

// mostNames is how many objects of a kind and a namespace are watched one by
// one; when there are more, one watch of the namespace takes their place, until
// there are half as many.
const mostNames = 32

// names watches the metadata of the objects that something refers to, for as
// long as it does. A pass may read an object as soon as its watch has settled:
// whatever happens to it from then on is told.
type names struct {
	client metadata.Interface
	mapper meta.RESTMapper
	kinds  map[schema.GroupKind]schema.GroupVersionKind
	tell   func(Reference)
	log    *slog.Logger

	mu      sync.Mutex
	ctx     context.Context                   //nolint:containedctx // of the controller, nil until it runs
	wanted  map[Reference]map[string]struct{} // by kind and namespace, the names; "" stands for every object
	open    map[Reference]*named
	running sync.WaitGroup
}

// named is the watch of one object, or of all objects of a namespace.
type named struct {
	cancel  context.CancelFunc
	settled chan struct{} // closed when the objects are known or cannot be watched, or another watch takes over

	mu     sync.Mutex
	over   bool // settled is closed
	late   bool // it was settled by an error: passes have not waited for what comes first
	logged bool
	seen   map[types.NamespacedName]string // resource versions
}

func newNames(mgr manager.Manager, watches []Watch, tell func(Reference), log *slog.Logger) (*names, error) {
	n := &names{mapper: mgr.GetRESTMapper(), kinds: map[schema.GroupKind]schema.GroupVersionKind{}, tell: tell, log: log, wanted: map[Reference]map[string]struct{}{}, open: map[Reference]*named{}}
	for _, w := range watches {
		if w.ByName {
			gvk := w.Object.GetObjectKind().GroupVersionKind()
			n.kinds[gvk.GroupKind()] = gvk
		}
	}
	var err error
	n.client, err = metadata.NewForConfigAndClient(mgr.GetConfig(), mgr.GetHTTPClient())
	return n, err
}

// run begins the watches, and has further ones begin at once, until stop.
func (n *names) run(ctx context.Context) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.ctx = ctx
	for ref, w := range n.open {
		n.begin(ref, w)
	}
}

// stop ends all watches and returns when they have ended.
func (n *names) stop() {
	n.mu.Lock()
	for ref, w := range n.open {
		w.cancel()
		delete(n.open, ref)
	}
	n.ctx = nil
	n.mu.Unlock()
	n.running.Wait()
}

// follow begins the watches of references that are new, and ends those of the
// ones that nothing has any more.
func (n *names) follow(added, removed []Reference) {
	n.mu.Lock()
	defer n.mu.Unlock()
	changed := map[Reference]struct{}{}
	for _, ref := range removed {
		changed[ref.every()] = struct{}{}
		delete(n.wanted[ref.every()], ref.Name)
	}
	for _, ref := range added {
		if _, ours := n.kinds[ref.GroupKind]; !ours {
			continue
		}
		every := ref.every()
		if changed[every] = struct{}{}; n.wanted[every] == nil {
			n.wanted[every] = map[string]struct{}{}
		}
		n.wanted[every][ref.Name] = struct{}{}
	}
	for every := range changed {
		n.arrange(every)
	}
}

// every is the reference to all objects of the kind in the namespace.
func (r Reference) every() Reference {
	return Reference{r.GroupKind, client.ObjectKey{Namespace: r.Namespace}}
}

// arrange opens and closes watches of a kind and a namespace as its names want
// it; n.mu is held. A watch that takes the place of others goes on from what
// they have seen, so that nothing is missed in between.
func (n *names) arrange(every Reference) {
	wanted := n.wanted[every]
	_, all := wanted[""]
	shared := all || len(wanted) > mostNames || n.open[every] != nil && len(wanted) > mostNames/2
	need := map[Reference]struct{}{}
	for name := range wanted {
		if ref := every; !shared {
			ref.Name = name
			need[ref] = struct{}{}
		}
	}
	if shared {
		need[every] = struct{}{}
	}
	seen := map[types.NamespacedName]string{}
	for ref, w := range n.open {
		if _, stays := need[ref]; stays || ref.every() != every {
			continue
		}
		w.cancel()
		delete(n.open, ref)
		w.mu.Lock()
		w.settle()
		maps.Copy(seen, w.seen)
		w.mu.Unlock()
	}
	for ref := range need {
		if n.open[ref] != nil {
			continue
		}
		w := &named{cancel: func() {}, settled: make(chan struct{}), seen: map[types.NamespacedName]string{}}
		for key, version := range seen {
			if ref.Name == "" || ref.Name == key.Name {
				w.seen[key] = version
			}
		}
		n.open[ref] = w
		if n.ctx != nil {
			n.begin(ref, w)
		}
	}
	if len(wanted) == 0 {
		delete(n.wanted, every)
	}
}

// settle has nobody wait any longer; w.mu is held.
func (w *named) settle() {
	if !w.over {
		w.over = true
		close(w.settled)
	}
}

// wants reports whether an object of a name matters to a watch.
func (n *names) wants(ref Reference, name string) bool {
	n.mu.Lock()
	defer n.mu.Unlock()
	wanted := n.wanted[ref.every()]
	_, all := wanted[""]
	_, named := wanted[name]
	return ref.Name == name || ref.Name == "" && (all || named)
}

// covered returns the references that a watch is there for.
func (n *names) covered(ref Reference) []Reference {
	if ref.Name != "" {
		return []Reference{ref}
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	var out []Reference
	for name := range n.wanted[ref] {
		out = append(out, Reference{ref.GroupKind, client.ObjectKey{Namespace: ref.Namespace, Name: name}})
	}
	return out
}

// unsettled returns channels that are closed when the watches of the
// references have begun, those that are not yet.
func (n *names) unsettled(refs []Reference) (out []<-chan struct{}) {
	n.mu.Lock()
	defer n.mu.Unlock()
	for _, ref := range refs {
		w := n.open[ref]
		if w == nil {
			w = n.open[ref.every()]
		}
		if w == nil {
			continue
		}
		select {
		case <-w.settled:
		default:
			out = append(out, w.settled)
		}
	}
	return out
}

// begin starts a watch; n.mu is held.
func (n *names) begin(ref Reference, w *named) {
	ctx, cancel := context.WithCancel(n.ctx)
	w.cancel = cancel
	n.running.Go(func() {
		defer cancel()
		mapping, err := n.mapping(ctx, ref, w)
		if err != nil {
			return
		}
		logger := logr.FromSlogHandler(slog.DiscardHandler)
		reflector := toolscache.NewReflectorWithOptions(n.lister(ref, w, mapping), &metav1.PartialObjectMetadata{},
			&namedStore{names: n, ref: ref, w: w}, toolscache.ReflectorOptions{Logger: &logger, Name: ref.String()})
		reflector.RunWithContext(ctx)
	})
}

// mapping finds the resource of a kind, if need be when it has been defined.
func (n *names) mapping(ctx context.Context, ref Reference, w *named) (*meta.RESTMapping, error) {
	gvk := n.kinds[ref.GroupKind]
	for pause := time.Second; ; pause = min(2*pause, time.Minute) {
		mapping, err := n.mapper.RESTMapping(gvk.GroupKind(), gvk.Version)
		if err == nil {
			return mapping, nil
		}
		n.failed(ref, w, err)
		select {
		case <-ctx.Done():
			return nil, ctx.Err()
		case <-time.After(pause):
		}
	}
}

// lister lists and watches the one object.
func (n *names) lister(ref Reference, w *named, mapping *meta.RESTMapping) *toolscache.ListWatch {
	var resource metadata.ResourceInterface = n.client.Resource(mapping.Resource)
	if ref.Namespace != "" {
		resource = n.client.Resource(mapping.Resource).Namespace(ref.Namespace)
	}
	narrow := func(o *metav1.ListOptions) {
		if ref.Name != "" {
			o.FieldSelector = fields.OneTermEqualSelector(metav1.ObjectNameField, ref.Name).String()
		}
	}
	return &toolscache.ListWatch{
		ListWithContextFunc: func(ctx context.Context, o metav1.ListOptions) (runtime.Object, error) {
			narrow(&o)
			list, err := resource.List(ctx, o)
			if err != nil && ctx.Err() == nil {
				n.failed(ref, w, err)
			}
			return list, err
		},
		WatchFuncWithContext: func(ctx context.Context, o metav1.ListOptions) (watch.Interface, error) {
			narrow(&o)
			return resource.Watch(ctx, o)
		},
	}
}

// failed settles a watch that cannot begin: its object must not keep passes
// from beginning for ever.
func (n *names) failed(ref Reference, w *named, err error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.late = w.late || !w.over
	w.settle()
	if !w.logged {
		w.logged = true
		n.log.Warn("an object that others refer to cannot be watched: its changes are noticed after the interval only", "object", ref.String(), "error", err)
	}
}

// String names what is referred to.
func (r Reference) String() string {
	if r.Name == "" {
		return fmt.Sprintf("every %s in namespace %s", r.GroupKind, r.Namespace)
	}
	return describe(r.GroupKind.String(), r.ObjectKey)
}

// namedStore is where a reflector puts what it sees.
type namedStore struct {
	names *names
	ref   Reference
	w     *named
}

// Replace takes what is there after a list.
func (s *namedStore) Replace(items []any, _ string) error {
	now := map[types.NamespacedName]string{}
	for _, item := range items {
		if key, version, ok := s.read(item); ok {
			now[key] = version
		}
	}
	covered := s.names.covered(s.ref)
	s.w.mu.Lock()
	changed := map[types.NamespacedName]struct{}{}
	for key, version := range now {
		if before, known := s.w.seen[key]; known && before != version || !known && s.w.over {
			changed[key] = struct{}{}
		}
	}
	for key := range s.w.seen {
		if _, there := now[key]; !there {
			changed[key] = struct{}{}
		}
	}
	if s.w.late {
		for _, ref := range covered {
			changed[ref.ObjectKey] = struct{}{}
		}
	}
	s.w.seen, s.w.late, s.w.logged = now, false, false
	s.w.settle()
	s.w.mu.Unlock()
	for key := range changed {
		s.tell(key)
	}
	return nil
}

// read returns what matters of an object; not ok if nothing does.
func (s *namedStore) read(item any) (key types.NamespacedName, version string, ok bool) {
	obj, ok := item.(*metav1.PartialObjectMetadata)
	if !ok || !s.names.wants(s.ref, obj.Name) {
		return key, "", false
	}
	return types.NamespacedName{Namespace: obj.Namespace, Name: obj.Name}, obj.ResourceVersion, true
}

func (s *namedStore) tell(key types.NamespacedName) { s.names.tell(Reference{s.ref.GroupKind, key}) }

// Add takes an object that is new.
func (s *namedStore) Add(item any) error { return s.Update(item) }

// Update takes an object that has changed.
func (s *namedStore) Update(item any) error {
	key, version, ok := s.read(item)
	if !ok {
		return nil
	}
	s.w.mu.Lock()
	changed := s.w.seen[key] != version
	s.w.seen[key] = version
	s.w.mu.Unlock()
	if changed {
		s.tell(key)
	}
	return nil
}

// Delete takes an object that is gone.
func (s *namedStore) Delete(item any) error {
	if key, _, ok := s.read(item); ok {
		s.w.mu.Lock()
		delete(s.w.seen, key)
		s.w.mu.Unlock()
		s.tell(key)
	}
	return nil
}

// Resync has nothing to do.
func (s *namedStore) Resync() error { return nil }
