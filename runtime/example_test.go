package runtime_test

import (
	"context"
	"errors"
	"fmt"
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
