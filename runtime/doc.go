// Package runtime runs reconciliations: a keyed loop with intervals, back-off, triggers, dependencies, suspension, waits
// that hold no worker, fair shares of tenants, and states that outlast the process. It knows nothing of Kubernetes and needs nothing but the standard library. Import it
// as rt, since the standard library has a package of the same name.
//
//	loop, err := rt.New(rt.Func[string](func(ctx context.Context, p rt.Pass[string]) rt.Result {
//		rev, err := deploy(ctx, p.Key)
//		if err != nil {
//			return rt.Fail(err) // again after 750 ms, doubling to 15 minutes
//		}
//		return rt.OK().At(rev) // again after the interval
//	}), nil)
//	...
//	loop.Set("clusters/eu", rt.Spec[string]{Interval: 10 * time.Minute, DependsOn: rt.On("clusters/base")})
//	err = loop.Run(ctx) // until ctx ends
//
// # The life of a key
//
// [Loop.Set] makes a key known and queues a pass. A free worker takes the key, checks that its dependencies are ready,
// and calls the [Reconciler]. The [Result] decides what follows: [OK] rests for the interval, [Fail] for the back-off,
// [Again] for a time of its own, [Stall] until something changes, and [Wait] parks the pass without a worker until a
// [Waker] fires, after which the same pass goes on. [Loop.Trigger] asks for a pass now. [Loop.Delete] ends with a
// final pass if there is a finalizer.
//
// What always holds: there is at most one pass per key at a time; a trigger is never lost, and any number of triggers
// during a pass lead to exactly one further pass; a parked or blocked key holds no worker; a panic is a failure of
// its pass; keys in a dependency cycle stall and no others; when [Loop.Run] returns nil no pass is running and no
// goroutine is left.
//
// # Many keys
//
// Where more keys are ready than there are workers, each Spec.Group gets its share of their time, weighted by
// Options.Weights: the group that has used least goes first, where what counts is how long its passes take. Within a
// group the key goes first that has waited longest, and Spec.Priority counts as waiting. Keys whose passes are
// slow are kept from taking all workers by Options.SlowLane.
//
// # Holding back
//
// Four things keep a pass from beginning, each for itself: a suspension ([Loop.Suspend]), a drain ([Loop.Drain]: nothing
// that matches runs any more when it returns, as it takes to hand keys to another process), closed Spec.Windows, and
// dependencies that are not ready. What comes up meanwhile is kept for the pass that follows, and State.Waiting
// says what for.
//
// # Restarts
//
// With Options.Store, a restart goes on where the last process was: [MemoryStore] is for tests, package
// runtime/boltstore has a file. Slow receivers of observations are kept away from passes by [Buffered].
//
// # Errors
//
// The loop learns about errors by their behaviour and never by their type: an error with a method
// "Terminal() bool" that returns true stalls the key, one with "RetryAfter() time.Duration" sets the pause, see
// [IsTerminal] and [RetryAfter]. The package's own errors are sentinels for errors.Is (ErrNotFound, ErrDeleted,
// ErrStopped, ErrRunning) and types for errors.As (SpecError, CycleError, TimeoutError, PanicError, SuspendedError,
// StuckError, RestoredError).
//
// # Concurrency and cost
//
// A Loop is safe for concurrent use and its methods never block on passes, but Drain, which is for that. It runs
// Options.Workers goroutines besides the caller of Run, one timer, one goroutine for each WakeOn and WakeWhen that is being
// waited for, and one that saves if there is a Store. An idle key costs about 115 bytes besides the key itself, and
// more when its passes report revisions or messages.
//
// Time is package time, so that tests run in a [testing/synctest] bubble with a fake clock.
//
// # What it does not do
//
// It elects no leader, and writes no status anywhere: Options.Observe is where that is attached. It saves states after
// passes, not triggers: one that no pass has answered is lost when the process is killed. It does not kill passes that ignore their context; [StuckError] names them.
package runtime
