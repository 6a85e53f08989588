package runtime_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	rt "github.com/gitopskit/gitopskit/runtime"
)

// A program that keeps two things in shape, the second after the first.
func Example() {
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()

	loop, err := rt.New(rt.Func[string](func(_ context.Context, p rt.Pass[string]) rt.Result {
		fmt.Println("reconcile", p.Key)
		return rt.OK().At("main@4f2a")
	}), nil)
	if err != nil {
		fmt.Println(err)
		return
	}
	_ = loop.Set("apps", rt.Spec[string]{Interval: 10 * time.Minute, DependsOn: rt.On("base")})
	_ = loop.Set("base", rt.Spec[string]{Interval: time.Hour})
	ticket := loop.Trigger("apps", nil)

	done := make(chan error, 1)
	go func() { done <- loop.Run(ctx) }()
	state, err := ticket.Wait(ctx)
	fmt.Println(state.Outcome, state.Revision, err)
	cancel()
	fmt.Println(<-done)
	// Output:
	// reconcile base
	// reconcile apps
	// ok main@4f2a <nil>
	// <nil>
}

// A pass that waits for something slow holds no worker meanwhile: one worker is enough for a thousand of these.
func ExampleWait() {
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	rollout := make(chan struct{})

	loop, err := rt.New(rt.Func[string](func(_ context.Context, p rt.Pass[string]) rt.Result {
		if p.Why.Has(rt.CauseWoken) {
			return rt.OK().Note("rolled out")
		}
		close(rollout) // starts the rollout, here one that is over at once
		return rt.Wait("the rollout", rt.WakeOn(rollout))
	}), &rt.Options[string]{Workers: 1})
	if err != nil {
		fmt.Println(err)
		return
	}
	_ = loop.Set("app", rt.Spec[string]{Timeout: time.Minute})
	ticket := loop.Trigger("app", nil)
	go func() { _ = loop.Run(ctx) }()

	state, err := ticket.Wait(ctx)
	fmt.Println(state.Outcome, state.Message, err)
	// Output: ok rolled out <nil>
}

// Tenants share the workers by weight, and none waits behind the load of another.
func ExampleSpec() {
	loop, err := rt.New(rt.Func[string](func(_ context.Context, p rt.Pass[string]) rt.Result {
		fmt.Println(p.Key)
		return rt.OK()
	}), &rt.Options[string]{Workers: 1})
	if err != nil {
		fmt.Println(err)
		return
	}
	for i := range 3 {
		_ = loop.Set(fmt.Sprint("busy/", i), rt.Spec[string]{Group: "busy"})
	}
	_ = loop.Set("calm/0", rt.Spec[string]{Group: "calm"})
	_ = loop.Set("busy/urgent", rt.Spec[string]{Group: "busy", Priority: 1})
	last := loop.Trigger("busy/2", nil)

	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	go func() { _ = loop.Run(ctx) }()
	_, _ = last.Wait(ctx)
	// Output:
	// busy/urgent
	// calm/0
	// busy/0
	// busy/1
	// busy/2
}

// Drain is how keys are handed to another process: after it nothing of them runs here.
func ExampleLoop_Drain() {
	loop, err := rt.New(rt.Func[string](func(context.Context, rt.Pass[string]) rt.Result { return rt.OK() }), nil)
	if err != nil {
		fmt.Println(err)
		return
	}
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	go func() { _ = loop.Run(ctx) }()

	eu := func(k string) bool { return strings.HasPrefix(k, "eu/") }
	if err := loop.Drain(ctx, eu); err != nil {
		fmt.Println(err)
	}
	_ = loop.Set("eu/1", rt.Spec[string]{})
	s, _ := loop.Get("eu/1")
	fmt.Println(s.Phase)

	loop.Undrain(eu)
	s, err = loop.Trigger("eu/1", nil).Wait(ctx)
	fmt.Println(s.Outcome, err)
	// Output:
	// drained
	// ok <nil>
}

// A Buffer keeps a slow sink from holding passes up.
func ExampleBuffered() {
	events := rt.Buffered(func(_ context.Context, o rt.Observation[string]) error {
		fmt.Println(o.Key, o.State.Outcome) // for instance, post it
		return nil
	}, 1000)
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	loop, err := rt.New(rt.Func[string](func(context.Context, rt.Pass[string]) rt.Result { return rt.OK() }),
		&rt.Options[string]{Observe: events.Observe})
	if err != nil {
		fmt.Println(err)
		return
	}
	_ = loop.Set("app", rt.Spec[string]{})
	ticket := loop.Trigger("app", nil)
	go func() { _ = loop.Run(ctx) }()
	_, _ = ticket.Wait(ctx)
	fmt.Println(events.Close(ctx), events.Dropped())
	// Output:
	// app ok
	// <nil> 0
}

// Observe is where metrics, events and status are attached.
func ExampleOptions() {
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()

	loop, err := rt.New(rt.Func[string](func(context.Context, rt.Pass[string]) rt.Result {
		return rt.Stall(errors.New("kustomization.yaml: line 3: unknown field"))
	}), &rt.Options[string]{
		Observe: func(o rt.Observation[string]) {
			fmt.Println(o.Key, o.State.Outcome, "-", o.State.Message)
		},
	})
	if err != nil {
		fmt.Println(err)
		return
	}
	_ = loop.Set("app", rt.Spec[string]{})
	ticket := loop.Trigger("app", nil)
	go func() { _ = loop.Run(ctx) }()
	_, err = ticket.Wait(ctx)
	fmt.Println(err)
	// Output:
	// app stalled - kustomization.yaml: line 3: unknown field
	// kustomization.yaml: line 3: unknown field
}
