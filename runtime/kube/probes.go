package kube

import (
	"net/http"
	"sync/atomic"

	"sigs.k8s.io/controller-runtime/pkg/manager"
)

// Probes answers the probes of a process for as long as that lives, whatever
// becomes of its managers: "/healthz", and "/readyz", which says in the line
// "role=leader" or "role=standby" what the process is. A standby is ready: it
// has nothing to do but wait, and one that is not could not take over. So is a
// process that has lost the leadership and begins anew.
//
// The zero value is ready to use, and a standby. It is safe for concurrent use.
type Probes struct {
	manager atomic.Pointer[manager.Manager]
}

// Follow has the answers be about a manager from now on; it takes the place of
// one that has ended.
func (p *Probes) Follow(mgr manager.Manager) { p.manager.Store(&mgr) }

// ServeHTTP answers a probe.
func (p *Probes) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	answer := "ok\n"
	switch r.URL.Path {
	case "/healthz", "/healthz/":
	case "/readyz", "/readyz/":
		answer += "role=" + p.role() + "\n"
	default:
		http.NotFound(w, r)
		return
	}
	w.Header().Set("Content-Type", "text/plain; charset=utf-8")
	w.Header().Set("X-Content-Type-Options", "nosniff")
	w.Write([]byte(answer))
}

// role is what the manager is at the moment.
func (p *Probes) role() string {
	mgr := p.manager.Load()
	if mgr == nil {
		return "standby"
	}
	if f := fenceOf(*mgr); f != nil && !f.leads() {
		return "standby"
	}
	select {
	case <-(*mgr).Elected():
		return "leader"
	default:
		return "standby"
	}
}
