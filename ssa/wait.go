package ssa

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/fluxcd/cli-utils/pkg/kstatus/status"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/fields"
)

// State is how far an object has come, by the rules of kstatus
// (https://github.com/kubernetes-sigs/cli-utils/tree/master/pkg/kstatus), or by
// those of [Client.Health]. Unlike kstatus, a Job is Current when it is complete
// or suspended, not when it has started.
type State string

// The states of an object.
const (
	Current     State = State(status.CurrentStatus) // the desired state is reached
	InProgress  State = State(status.InProgressStatus)
	Stuck       State = State(status.FailedStatus) // "Failed": it says that it cannot get there
	Terminating State = State(status.TerminatingStatus)
	NotFound    State = State(status.NotFoundStatus)
	Unknown     State = State(status.UnknownStatus)
)

// Status is the state of one object and why.
type Status struct {
	Object  ObjectID
	State   State
	Message string
}

// String returns the status in a line.
func (s Status) String() string {
	if s.Message == "" {
		return fmt.Sprintf("%s: %s", s.Object, s.State)
	}
	return fmt.Sprintf("%s: %s: %s", s.Object, s.State, s.Message)
}

// WaitOptions are the optional settings of [Client.Wait] and [Client.WaitDeleted].
type WaitOptions struct {
	// Timeout ends the wait; 0 means five minutes.
	Timeout time.Duration
	// AnyOwner also finds objects without the owner's labels, such as those
	// that a controller made. It costs a watch for each object instead of one
	// for each kind.
	AnyOwner bool
	// Grace is for how long from its creation an object is InProgress because it
	// has no status yet, if kstatus has no rule for its kind, nor the client's
	// Health, and the kind has a status; kstatus by itself takes it for Current.
	// For each kind with such an object it takes one read of its status. 0 means
	// that there is no grace.
	Grace time.Duration
	// Expiring are objects that delete themselves when they are done, as
	// [ChangeSet.Expiring] lists them: Wait takes them for Current when they do not
	// exist. Those that are seen before they go need not be listed.
	Expiring []ObjectID
	// Progress, if set, is called for every change of a state, in order, by one
	// goroutine at a time, for the last time before the wait returns.
	Progress func(Status)
}

// Wait returns when all objects are Current at the same time, or when some of
// them are Stuck or were deleted and none is on its way any more, or after the
// timeout. While it waits it sends no requests: states come from the client's
// [Store], or from one watch for each kind. Of kinds that the client's Health
// covers it always takes a watch of its own: the store keeps no objects that it
// could judge.
//
// It returns the last status of every object, in the order of ids. Unless all
// are Current there is an error, which lists the others; it matches
// [ErrNotReady], and context.DeadlineExceeded after the timeout. Unless ctx has
// ended, too, the messages of up to ten workloads, pods and volume claims among
// them say what is wrong down to the container: a few reads for each, and three
// seconds at most. They quote what kubelet and controllers report, and no output
// of containers but that of failing probes.
func (c *Client) Wait(ctx context.Context, ids []ObjectID, opts *WaitOptions) ([]Status, error) {
	return c.wait(ctx, "wait", ids, opts, func(s State) bool { return s == Current })
}

// WaitDeleted is [Client.Wait] for objects to be gone.
func (c *Client) WaitDeleted(ctx context.Context, ids []ObjectID, opts *WaitOptions) ([]Status, error) {
	return c.wait(ctx, "wait for deletion", ids, opts, func(s State) bool { return s == NotFound })
}

func (c *Client) wait(ctx context.Context, op string, ids []ObjectID, opts *WaitOptions, done func(State) bool) ([]Status, error) {
	if opts == nil {
		opts = &WaitOptions{}
	}
	timeout := opts.Timeout
	if timeout == 0 {
		timeout = 5 * time.Minute
	}
	w := &waiter{client: c, done: done, progress: opts.Progress, grace: opts.Grace, at: map[ObjectID]int{}, expiring: map[ObjectID]bool{}, wake: make(chan struct{}, 1)}
	if !done(NotFound) {
		for _, id := range opts.Expiring {
			w.expiring[id] = true
		}
	}
	err := c.validate()
	if err == nil {
		timed, cancel := context.WithTimeout(ctx, timeout)
		err = w.run(timed, ids, opts.AnyOwner)
		cancel()
	}
	if notReady := (*NotReadyError)(nil); errors.As(err, &notReady) && !done(NotFound) && ctx.Err() == nil {
		c.explain(ctx, notReady.Statuses)
		for _, s := range notReady.Statuses {
			w.statuses[w.at[s.Object]] = s
		}
	}
	if err != nil {
		return w.statuses, fmt.Errorf("ssa: %s: %w", op, err)
	}
	return w.statuses, nil
}

// waiter collects states until all are as wanted.
type waiter struct {
	client   *Client
	done     func(State) bool
	progress func(Status)
	grace    time.Duration
	finish   context.CancelFunc

	mu       sync.Mutex
	statuses []Status
	at       map[ObjectID]int
	listed   bool // all streams told their first state
	expiring map[ObjectID]bool
	graces   graces

	notices []Status          // for progress
	wake    chan struct{}     // when there are some
	over    bool              // it is settled, whatever may come
	cancels []func()          // of subscriptions to the store
	ends    []<-chan struct{} // one is closed when the store tells no more
}

func (w *waiter) run(ctx context.Context, ids []ObjectID, anyOwner bool) error {
	for _, id := range ids {
		if _, twice := w.at[id]; !twice {
			w.at[id] = len(w.statuses)
			w.statuses = append(w.statuses, Status{Object: id, State: Unknown, Message: notRead})
		}
	}
	outer := ctx
	ctx, w.finish = context.WithCancel(ctx)
	defer w.endGraces()
	defer w.finish()
	defer w.report()()
	defer w.unsubscribe()
	streams, err := w.streams(ctx, anyOwner)
	if err != nil {
		return err
	}
	errs := make([]error, len(streams))
	w.client.each(ctx, len(streams), func(i int) {
		errs[i] = w.settle(streams[i], streams[i].first(ctx))
	})
	if ctx.Err() != nil { // its error in each stream says no more
		return w.result(outer, context.Cause(ctx))
	}
	if err := errors.Join(errs...); err != nil {
		return w.result(outer, err)
	}
	w.mu.Lock()
	w.listed = true
	settled := w.settled()
	w.over = settled
	w.mu.Unlock()
	if !settled {
		w.follow(ctx, streams, errs)
	}
	return w.result(outer, errors.Join(errs...))
}

// report calls progress, apart from whoever brings news, until the returned
// function is called, which has it told the rest.
func (w *waiter) report() (end func()) {
	if w.progress == nil {
		return func() {}
	}
	stop := make(chan struct{})
	var wg sync.WaitGroup
	tell := func() {
		w.mu.Lock()
		notices := w.notices
		w.notices = nil
		w.mu.Unlock()
		for _, s := range notices {
			w.progress(s)
		}
	}
	wg.Go(func() {
		for {
			select {
			case <-w.wake:
				tell()
			case <-stop:
				tell()
				return
			}
		}
	})
	return func() {
		close(stop)
		wg.Wait()
	}
}

// follow runs all watches until the states are settled or ctx is done.
func (w *waiter) follow(ctx context.Context, streams []*kindStream, errs []error) {
	var wg sync.WaitGroup
	for i, s := range streams {
		wg.Go(func() {
			if s.gone {
				return
			}
			err := objectError("watch", s.objects[0], s.follow(ctx))
			if err = w.settle(s, err); err != nil && ctx.Err() == nil {
				errs[i] = err
				w.finish()
			}
		})
	}
	for _, end := range w.ends {
		wg.Go(func() {
			select {
			case <-end:
				w.finish()
			case <-ctx.Done():
			}
		})
	}
	if len(w.ends) > 0 {
		<-ctx.Done()
	}
	wg.Wait()
}

// subscribe takes the states of objects of one kind from the store, if it has
// them.
func (w *waiter) subscribe(ctx context.Context, m *meta.RESTMapping, group []ObjectID) bool {
	k := w.client.Store.kind(m)
	if k == nil {
		return false
	}
	if _, online := k.wait(ctx); !online {
		return false
	}
	cancel, refused := k.subscribe(w.client.Owner.String(), group, func(id ObjectID, r *record) { w.tellRecord(ctx, id, r) })
	w.cancels = append(w.cancels, cancel)
	w.ends = append(w.ends, k.ended, k.dropped, refused)
	w.absent(group)
	return true
}

func (w *waiter) unsubscribe() {
	for _, cancel := range w.cancels {
		cancel()
	}
}

// tellRecord takes in what the store keeps of an object.
func (w *waiter) tellRecord(ctx context.Context, id ObjectID, r *record) {
	w.mu.Lock()
	defer w.mu.Unlock()
	i := w.at[id]
	switch {
	case r != nil:
		w.saw(ctx, i, r.look)
	case w.statuses[i].Message != notRead:
		w.lost(i, wasDeleted)
	}
}

// streams returns what to watch beyond what the store tells: a stream for each
// kind, or for each object.
func (w *waiter) streams(ctx context.Context, anyOwner bool) ([]*kindStream, error) {
	byKey := map[string][]ObjectID{}
	var keys []string
	for _, s := range w.statuses {
		key := s.Object.GroupKind().String()
		if anyOwner {
			key = s.Object.Encode()
		}
		if byKey[key] == nil {
			keys = append(keys, key)
		}
		byKey[key] = append(byKey[key], s.Object)
	}
	var out []*kindStream
	for _, key := range keys {
		group := byKey[key]
		m, err := w.client.mapping(group[0].GroupKind(), "")
		if errors.Is(err, ErrUnknownKind) && w.done(NotFound) {
			w.absent(group)
			continue // nothing of a kind that is not served exists
		}
		if err != nil {
			return nil, objectError("wait", group[0], err)
		}
		if !anyOwner && !w.client.covers(m.GroupVersionKind.GroupKind()) && w.subscribe(ctx, m, group) {
			continue
		}
		options := metav1.ListOptions{LabelSelector: w.client.Owner.selector()}
		if anyOwner {
			options = metav1.ListOptions{FieldSelector: fields.OneTermEqualSelector("metadata.name", group[0].Name).String()}
		}
		out = append(out, w.stream(ctx, m, group, options))
	}
	return out, nil
}

// kindStream follows the objects of one kind that are waited for.
type kindStream struct {
	stream
	objects []ObjectID
	gone    bool // the kind is no longer served, and its objects are wanted gone
}

// settle takes in that a stream was listed, or how it ended.
func (w *waiter) settle(s *kindStream, err error) error {
	switch {
	case err == nil:
		w.absent(s.objects)
	case errors.Is(err, ErrUnknownKind) && w.done(NotFound): // gone with their definition
		s.gone = true
		for key := range s.known {
			s.seen(nameOnly(key, s.version), true)
		}
		w.absent(s.objects)
		return nil
	}
	return err
}

func (w *waiter) stream(ctx context.Context, m *meta.RESTMapping, group []ObjectID, options metav1.ListOptions) *kindStream {
	namespace := group[0].Namespace
	if slices.ContainsFunc(group, func(id ObjectID) bool { return id.Namespace != namespace }) {
		namespace = ""
	}
	seen := func(obj *unstructured.Unstructured, gone bool) {
		obj.SetGroupVersionKind(m.GroupVersionKind)
		w.tell(ctx, obj, gone)
	}
	return &kindStream{stream: stream{resource: w.client.resource(m, namespace), options: options, seen: seen}, objects: group}
}

// absent settles the objects that a first list did not have.
func (w *waiter) absent(ids []ObjectID) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, id := range ids {
		if s := w.statuses[w.at[id]]; s.State == Unknown && s.Message == notRead {
			w.lost(w.at[id], "it does not exist")
		}
	}
}

const notRead = "not read yet"

// first lists, with patience for a server that cannot answer right now.
func (s *kindStream) first(ctx context.Context) error {
	for pause := 200 * time.Millisecond; ; pause = min(2*pause, 5*time.Second) {
		err := s.list(ctx)
		if err == nil || ctx.Err() != nil || !isTransient(err) && !isGap(err) { // a list in pages may take too long for the server
			return objectError("watch", s.objects[0], err)
		}
		select {
		case <-time.After(pause):
		case <-ctx.Done():
			return objectError("watch", s.objects[0], err)
		}
	}
}

// tell takes in an object, and ends the wait when that settles it.
func (w *waiter) tell(ctx context.Context, obj *unstructured.Unstructured, gone bool) {
	id := IDOf(obj)
	if _, ours := w.at[id]; !ours { // nobody writes to it any more
		return
	}
	var l look
	if !gone {
		if l = w.client.lookAt(ctx, obj); ctx.Err() != nil {
			return // what it says may be about that
		}
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	if gone {
		w.lost(w.at[id], wasDeleted)
		return
	}
	w.saw(ctx, w.at[id], l)
}

// saw takes in how far an object has come. mu must be held.
func (w *waiter) saw(ctx context.Context, i int, l look) {
	s := Status{Object: w.statuses[i].Object, State: l.state, Message: l.message}
	if l.expires && !w.done(NotFound) {
		w.expiring[s.Object] = true
	}
	if l.bare != 0 && !w.done(NotFound) && w.hold(ctx, i, l.bare) {
		s.State, s.Message = InProgress, noStatus
	}
	w.update(i, s)
}

// lost takes in that an object does not exist. mu must be held.
func (w *waiter) lost(i int, message string) {
	s := Status{Object: w.statuses[i].Object, State: NotFound, Message: message}
	if w.expiring[s.Object] {
		if w.statuses[i].State == Stuck {
			return // it went because it was done, and it was done because it failed
		}
		s.State, s.Message = Current, ""
	}
	w.update(i, s)
}

// update takes in a state. mu must be held.
func (w *waiter) update(i int, next Status) {
	if w.over || next == w.statuses[i] {
		return
	}
	w.statuses[i] = next
	if w.progress != nil {
		w.notices = append(w.notices, next)
		select {
		case w.wake <- struct{}{}:
		default: // it is awake
		}
	}
	if w.listed && w.settled() {
		w.over = true
		w.finish()
	}
}

const wasDeleted = "it was deleted meanwhile"

// settled reports that nothing is left to wait for: all are as wanted, or some
// are stuck or were deleted and the others are as wanted.
func (w *waiter) settled() bool {
	return !slices.ContainsFunc(w.statuses, func(s Status) bool {
		return !w.done(s.State) && s.State != Stuck && s.Message != wasDeleted
	})
}

func (w *waiter) result(ctx context.Context, err error) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.over = true
	var missing []Status
	for _, s := range w.statuses {
		if !w.done(s.State) {
			missing = append(missing, s)
		}
	}
	if len(missing) == 0 {
		return nil
	}
	if err == nil && !w.settled() {
		err = context.Cause(ctx)
	}
	if err == nil && !w.settled() {
		err = fmt.Errorf("%w: the store stopped, or may no longer follow a kind: wait again", ErrUnavailable)
	}
	return &NotReadyError{Statuses: missing, Err: err}
}

// NotReadyError lists the objects that a wait gave up on.
type NotReadyError struct {
	// Statuses are the last states of those objects.
	Statuses []Status
	// Err is what ended the wait, nil if the objects themselves gave up.
	Err error
}

func (e *NotReadyError) Error() string {
	const shown = 10
	var b strings.Builder
	fmt.Fprintf(&b, "%d objects are not as wanted", len(e.Statuses))
	if e.Err != nil {
		fmt.Fprintf(&b, " (%s)", e.Err)
	}
	for i, s := range e.Statuses {
		if i == shown {
			fmt.Fprintf(&b, "; and %d more", len(e.Statuses)-shown)
			break
		}
		b.WriteString("; " + s.String())
	}
	return b.String()
}

// Unwrap makes the error match [ErrNotReady] and what ended the wait.
func (e *NotReadyError) Unwrap() []error {
	if e.Err == nil {
		return []error{ErrNotReady}
	}
	return []error{ErrNotReady, e.Err}
}
