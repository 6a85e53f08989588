package ssa

import (
	"context"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"
)

// TestAccess: a refusal counts more than permissions that were asked for before
// it, whichever answer comes last.
func TestAccess(t *testing.T) {
	var a access
	g := grant{identity: "tenant", namespace: "default"}
	asked := time.Now()
	a.note(g, asked)
	if !a.fresh(g, time.Minute) {
		t.Error("a permission is not believed")
	}
	a.revoke(g)
	a.note(g, asked)
	if a.fresh(g, time.Minute) {
		t.Error("an old permission is believed after a refusal")
	}
	a.tidy()
	a.note(g, time.Now())
	if !a.fresh(g, time.Minute) {
		t.Error("a new permission is not believed")
	}
}

// TestAccessIsAskedOnce: while one asks, others wait for the answer, and the next of them asks if it was no.
func TestAccessIsAskedOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var a access
		g := grant{identity: "tenant", namespace: "default"}
		ended, stop := context.WithCancel(t.Context())
		stop()
		var asked, granted atomic.Int32
		turn := func(ctx context.Context, yes bool) {
			end, fresh := a.begin(ctx, g, time.Minute)
			if fresh {
				granted.Add(1)
				return
			}
			asked.Add(1)
			time.Sleep(time.Second)
			if yes {
				a.note(g, time.Now())
			}
			end()
		}
		go turn(t.Context(), false)
		synctest.Wait()
		if end, fresh := a.begin(ended, g, time.Minute); fresh {
			t.Error("fresh without an answer")
		} else {
			end()
		}
		for range 5 {
			go turn(t.Context(), true)
		}
		time.Sleep(time.Minute)
		if asked.Load() != 2 || granted.Load() != 4 || len(a.asking) != 0 {
			t.Errorf("asked %d times, granted %d times, %d open", asked.Load(), granted.Load(), len(a.asking))
		}
	})
}
