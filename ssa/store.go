package ssa

import (
	"context"
	"fmt"
	"log/slog"
	"slices"
	"sync"
	"time"

	"k8s.io/apimachinery/pkg/api/meta"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/selection"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/dynamic"
)

// Store knows the applied objects of one cluster: it follows every kind that
// its clients apply by one list and one watch, of all objects that carry the
// owner label of its group, and keeps of each object a few hundred bytes. With
// it, clients answer most questions without a request:
//
//   - an object that nobody touched since the server last confirmed what would
//     be applied is unchanged, also if only its status was written, or, with a
//     [Prover], fields that others own;
//   - [Client.Wait] and [Client.Watch] take states and drift from its events.
//
// Run it once for each cluster and group of labels, and give it to any number
// of clients, whomever they act as; see [Client.Identity]. What it knows of an
// object serves only the owner that the object's labels name. While it does not
// run, has no connection or is refused, clients work as without it.
//
// # When a request is skipped
//
// All of this must hold: the object has the identity and the owner labels that
// it had when the server confirmed the same body, applied by the same manager;
// nothing has written it since but status, or fields of others if the prover
// said so; it is not being deleted; no mutating webhook, mutating admission
// policy or binding that concerns its kind has changed since, nor the
// definition of its kind, nor the server's version; the confirmation is younger
// than MaxAge; and the client's identity may patch the kind in that namespace,
// by a review of the last minutes.
//
// Skipping gives up what a dry run in every interval also does: new validating
// policies and quotas are not tried on unchanged objects, and a mutating webhook
// that behaves differently with the same configuration is noticed after MaxAge.
// So is an admission policy that behaves differently because its parameters or the
// labels of a namespace changed, and what changed while the store did not run.
// [VerifyAlways] is the way around it.
//
// It is safe for concurrent use. Its fields must not change while it runs.
type Store struct {
	// Dynamic is the connection to the cluster, with an identity that may list
	// and watch in all namespaces: every kind that clients apply, ConfigMaps,
	// CustomResourceDefinitions, and mutating webhook configurations, admission
	// policies and their bindings. Required.
	Dynamic dynamic.Interface
	// Group is the prefix of the owner labels, the Group of the clients' owners;
	// empty means [DefaultGroup].
	Group string
	// Cluster is the identity of the cluster, see [ClusterID]. If it is set, and a
	// client's, too, clients of another cluster are refused.
	Cluster types.UID
	// Version returns the version of the server, as ServerVersion of a discovery
	// client does, so that an upgrade is noticed. It is asked when a watch was
	// interrupted. Nil means that every interruption counts as an upgrade.
	Version func(ctx context.Context) (string, error)
	// MaxAge is for how long a confirmation is believed, less up to a tenth, which
	// spreads the requests; 0 means 24 hours. That of a [Prover] alone, such as
	// after a restart, is believed for a tenth of it, less up to a half.
	MaxAge time.Duration
	// AccessAge is for how long it is believed that an identity may patch a kind
	// in a namespace; 0 means five minutes, which is also the most.
	AccessAge time.Duration
	// Idle is after how long without use a kind is no longer followed; 0 means
	// two hours. It should be longer than the intervals of the clients.
	Idle time.Duration
	// Logger tells which kinds cannot be followed, and why; nil is silent.
	Logger *slog.Logger

	mu      sync.Mutex
	kinds   map[kindKey]*kindStore
	waiting []*kindStore  // not started yet
	wake    chan struct{} // non-nil while the store runs
	ended   chan struct{} // closed when it stops
	epoch   *epoch
	recent  []voiding     // what made confirmations void a moment ago
	grace   time.Duration // instead of the constant, for tests

	access      access
	contests    contests
	inventories inventories
}

// kindKey is what one list and watch delivers.
type kindKey struct {
	resource schema.GroupVersionResource
	selector string
}

// Run follows the cluster until ctx ends, and then returns nil; an error means
// that the store is not set up or runs already. It waits for nothing; clients wait
// for the first list of a kind, ten seconds at most, and then ask the server.
func (s *Store) Run(ctx context.Context) error {
	if s.Dynamic == nil {
		return fmt.Errorf("ssa: store: %w: Store.Dynamic is nil", ErrInvalid)
	}
	s.mu.Lock()
	if s.wake != nil {
		s.mu.Unlock()
		return fmt.Errorf("ssa: store: %w: it runs already", ErrInvalid)
	}
	s.kinds, s.waiting = map[kindKey]*kindStore{}, nil
	s.wake, s.ended, s.epoch = make(chan struct{}, 1), make(chan struct{}), newEpoch()
	wake, ended, epoch := s.wake, s.ended, s.epoch
	s.mu.Unlock()

	ctx, cancel := context.WithCancel(ctx)
	var wg sync.WaitGroup
	defer func() {
		s.mu.Lock()
		s.kinds, s.waiting, s.wake = nil, nil, nil
		s.mu.Unlock()
		close(ended)
		cancel()
		wg.Wait()
	}()
	for _, source := range epochSources() {
		wg.Go(func() { s.followEpoch(ctx, epoch, source) })
	}
	tidy := time.NewTicker(max(s.idle()/4, 10*time.Millisecond))
	defer tidy.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-tidy.C:
			s.dropIdle()
		case <-wake:
			for _, k := range s.takeWaiting() {
				wg.Go(func() { k.run(ctx) })
			}
		}
	}
}

func (s *Store) group() string { return Owner{Group: s.Group}.group() }

func (s *Store) idle() time.Duration {
	if s.Idle <= 0 {
		return 2 * time.Hour
	}
	return s.Idle
}

func (s *Store) say(message string, args ...any) {
	if s.Logger != nil {
		s.Logger.Warn(message, args...)
	}
}

// selector selects the objects of all owners of the group.
func (s *Store) selector() string {
	requirement, err := labels.NewRequirement(s.group()+"/name", selection.Exists, nil)
	if err != nil {
		return s.group() + "/name" // an invalid group; the server refuses it
	}
	return labels.NewSelector().Add(*requirement).String()
}

// kind returns what is known of a kind and begins to follow it, or nil if the
// store does not run.
func (s *Store) kind(m *meta.RESTMapping) *kindStore {
	if s == nil {
		return nil
	}
	return s.follow(kindKey{resource: m.Resource, selector: s.selector()}, m.GroupVersionKind)
}

func (s *Store) follow(key kindKey, gvk schema.GroupVersionKind) *kindStore {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.wake == nil {
		return nil
	}
	k := s.kinds[key]
	if k == nil {
		k = newKindStore(s, key, gvk)
		k.again = s.inEffect(k)
		s.kinds[key] = k
		s.waiting = append(s.waiting, k)
		select {
		case s.wake <- struct{}{}:
		default: // it will be taken with the one that was noticed
		}
	}
	k.used = time.Now()
	return k
}

// voiding is a change that made confirmations about some kinds void.
type voiding struct {
	at        time.Time
	concerned func(*kindStore) bool
}

// inEffect returns when what has changed for a kind a moment ago is in effect;
// the zero time if nothing has.
func (s *Store) inEffect(k *kindStore) (at time.Time) {
	s.recent = s.pending()
	for _, v := range s.recent {
		if v.concerned(k) {
			at = v.at.Add(s.patience())
		}
	}
	return at
}

// pending returns what of the recent changes may not be in effect yet.
func (s *Store) pending() []voiding {
	return slices.DeleteFunc(s.recent, func(v voiding) bool { return time.Since(v.at) > s.patience() })
}

func (s *Store) takeWaiting() []*kindStore {
	s.mu.Lock()
	defer s.mu.Unlock()
	out := s.waiting
	s.waiting = nil
	return out
}

// dropIdle forgets kinds that nobody used for a while.
func (s *Store) dropIdle() {
	s.mu.Lock()
	defer s.mu.Unlock()
	for key, k := range s.kinds {
		if time.Since(k.used) > s.idle() && !k.inUse() {
			delete(s.kinds, key)
			k.drop()
		}
	}
	s.access.tidy()
	s.contests.tidy()
}

// forget removes a kind that is no longer served.
func (s *Store) forget(k *kindStore) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.kinds[k.key] == k {
		delete(s.kinds, k.key)
	}
	k.drop()
}

// outdate notes a write of an object in the other versions of its kind, so that
// nobody takes its state before for that after.
func (s *Store) outdate(written *kindStore, key types.NamespacedName, version string) {
	for _, k := range s.all() {
		if k != written && k.key.resource.GroupResource() == written.key.resource.GroupResource() && k.key.selector == written.key.selector {
			k.outdate(key, version)
		}
	}
}

// all returns the kinds that are followed.
func (s *Store) all() []*kindStore {
	s.mu.Lock()
	defer s.mu.Unlock()
	out := make([]*kindStore, 0, len(s.kinds))
	for _, k := range s.kinds {
		out = append(out, k)
	}
	return out
}

// ready waits until it is known what could make confirmations void. It gives up
// after a few seconds, and reports whether it is known now.
func (s *Store) ready(ctx context.Context) bool {
	if s == nil {
		return false
	}
	s.mu.Lock()
	running, epoch, ended := s.wake != nil, s.epoch, s.ended
	s.mu.Unlock()
	if !running {
		return false
	}
	patience := time.NewTimer(5 * time.Second)
	defer patience.Stop()
	select {
	case <-epoch.settled:
		return epoch.online()
	case <-ended:
	case <-ctx.Done():
	case <-patience.C:
	}
	return false
}
