package chaos_test

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"time"

	rt "github.com/gitopskit/gitopskit/runtime"
	"github.com/gitopskit/gitopskit/runtime/chaos"
)

// A reconciler that creates a database must not create two when the answer to the first request is lost.
func Example() {
	created := 0
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch {
		case r.Method == http.MethodPost:
			created++
		case created == 0:
			w.WriteHeader(http.StatusNotFound)
		}
	}))
	defer server.Close()

	faults := &chaos.Faults{Rules: []chaos.Rule{
		{Match: chaos.On("POST", "/databases"), Times: 1, Faults: []chaos.Fault{{Kind: chaos.Lost}}},
	}}
	client := &http.Client{Transport: faults.Wrap(nil)}
	send := func(ctx context.Context, method string) (int, error) {
		r, err := http.NewRequestWithContext(ctx, method, server.URL+"/databases", nil)
		if err != nil {
			return 0, err
		}
		resp, err := client.Do(r)
		if err != nil {
			return 0, err
		}
		return resp.StatusCode, resp.Body.Close()
	}
	reconcile := func(ctx context.Context, _ rt.Pass[string]) rt.Result {
		if code, err := send(ctx, "GET"); err != nil || code == http.StatusOK {
			return rt.Of(err)
		}
		_, err := send(ctx, "POST")
		return rt.Of(err)
	}

	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	loop, err := rt.New(rt.Func[string](reconcile), &rt.Options[string]{Observe: func(o rt.Observation[string]) {
		if o.State.Outcome == rt.OutcomeOK {
			cancel()
		}
	}})
	if err != nil {
		fmt.Println(err)
		return
	}
	err = loop.Set("orders", rt.Spec[string]{Retry: rt.Backoff{Min: time.Millisecond}})
	fmt.Println(errors.Join(err, loop.Run(ctx)), created)
	for _, line := range faults.Journal() {
		fmt.Println(line)
	}
	// Output:
	// <nil> 1
	// GET /databases 404
	// POST /databases lost
	// GET /databases 200
}

// A step that may be interrupted is a point; a test decides what happens there.
func ExamplePoints() {
	release := func(ctx context.Context) error {
		fmt.Println("tag")
		if err := chaos.Point(ctx, "tagged"); err != nil {
			return err
		}
		fmt.Println("publish")
		return nil
	}
	points := &chaos.Points{Stops: []chaos.Stop{
		{Name: "tagged", N: 1, Do: func(context.Context) error { return errors.New("power cut") }},
	}}
	ctx := chaos.With(context.Background(), points)
	fmt.Println(release(ctx))
	fmt.Println(release(ctx))
	// Output:
	// tag
	// power cut
	// tag
	// publish
	// <nil>
}
