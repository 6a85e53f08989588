package chaos

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"os"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// The errors are those that net/http returns for real connections, so that clients take them for what they play.
var (
	errRefused error = &net.OpError{Op: "dial", Net: "tcp", Err: os.NewSyscallError("connect", syscall.ECONNREFUSED)}
	errReset   error = &net.OpError{Op: "read", Net: "tcp", Err: os.NewSyscallError("read", syscall.ECONNRESET)}
)

// maxAnswer bounds the answers that are held in memory to be cut.
const maxAnswer = 64 << 20

// Wrap puts the faults between a client and base, nil is [http.DefaultTransport]. It has the form of
// rest.Config.WrapTransport. What is wrapped is unharmed by a fault: faults are played here, and no connection is
// really broken but those that [Faults.Break] breaks.
func (f *Faults) Wrap(base http.RoundTripper) http.RoundTripper {
	if base == nil {
		base = http.DefaultTransport
	}
	return &transport{f, base}
}

type transport struct {
	faults *Faults
	base   http.RoundTripper
}

// WrappedRoundTripper is how client-go finds the transport below.
func (t *transport) WrappedRoundTripper() http.RoundTripper { return t.base }

// CloseIdleConnections is what http.Client.CloseIdleConnections calls.
func (t *transport) CloseIdleConnections() {
	if c, ok := t.base.(interface{ CloseIdleConnections() }); ok {
		c.CloseIdleConnections()
	}
}

// RoundTrip sends a request, unless something goes wrong.
func (t *transport) RoundTrip(r *http.Request) (*http.Response, error) {
	fault, rng, entry := t.faults.decide(r)
	fl, r := t.faults.takeOff(r)
	resp, reached, err := t.play(r, fault, rng, fl)
	if err != nil {
		err = fl.cause(err)
		fl.land()
		t.faults.done(entry, reached, 0)
		return nil, err
	}
	if resp.StatusCode != http.StatusSwitchingProtocols { // its body is a connection, which the caller needs as such
		resp.Body = &body{ReadCloser: resp.Body, flight: fl}
	}
	t.faults.done(entry, reached, resp.StatusCode)
	return resp, nil
}

// play does what a fault says, and tells whether the server got the request.
func (t *transport) play(r *http.Request, fault Fault, rng *rand.Rand, fl *flight) (resp *http.Response, reached bool, err error) {
	if resp := fault.answer(r); resp != nil {
		discard(r)
		return resp, false, nil
	}
	switch fault.Kind {
	case Refused, Reset, Hang:
		discard(r)
		if fault.Kind == Hang {
			err = fl.pause(fault.After)
		}
		if fault.Kind == Refused {
			return nil, false, errRefused
		}
		if err == nil {
			err = errReset
		}
		return nil, false, err
	case Slow:
		if fault.After <= 0 {
			fault.After = 100 * time.Millisecond
		}
		if err := fl.pause(fault.After); err != nil {
			discard(r)
			return nil, false, err
		}
	}
	watch := Watches(r)
	if watch && fault.Kind != "" && fault.Kind != Slow {
		r.Header.Set("Accept", asJSON(r.Header.Get("Accept"))) // it is a copy
	}
	resp, err = t.base.RoundTrip(r)
	if err != nil {
		return nil, true, err
	}
	if watch && resp.StatusCode == http.StatusOK {
		spoilWatch(resp, fault, rng, fl)
		return resp, true, nil
	}
	resp, err = spoil(resp, fault, fl)
	return resp, true, err
}

// spoil harms an answer.
func spoil(resp *http.Response, fault Fault, fl *flight) (*http.Response, error) {
	switch fault.Kind {
	case Lost, Cut, Short, Stuck:
	default:
		return resp, nil
	}
	content, err := io.ReadAll(io.LimitReader(resp.Body, maxAnswer))
	resp.Body.Close()
	if err != nil {
		return nil, err
	}
	if fault.Kind == Lost {
		return nil, errReset
	}
	n := fault.N
	if n <= 0 || n > len(content) {
		n = len(content) / 2
	}
	cut := &cutBody{rest: bytes.NewReader(content[:n])}
	resp.Body = cut
	switch fault.Kind {
	case Cut:
		cut.end = func() error { return io.ErrUnexpectedEOF }
	case Short:
		resp.ContentLength = int64(n)
		if resp.Header.Get("Content-Length") != "" {
			resp.Header.Set("Content-Length", strconv.Itoa(n))
		}
	case Stuck:
		cut.end = func() error { return fl.stuck(fault.After) }
	}
	return resp, nil
}

// answer is what comes instead of the server's answer, nil for other faults.
func (f Fault) answer(r *http.Request) *http.Response {
	switch f.Kind {
	case Throttled:
		seconds := max(1, int((f.After+time.Second-1)/time.Second))
		resp := status(r, http.StatusTooManyRequests, "TooManyRequests", "the server has received too many requests", fmt.Sprintf(`,"details":{"retryAfterSeconds":%d}`, seconds))
		resp.Header.Set("Retry-After", strconv.Itoa(seconds))
		return resp
	case Conflict:
		return status(r, http.StatusConflict, "Conflict", "the object has been modified; please apply your changes to the latest version and try again", "")
	case Internal:
		return status(r, http.StatusInternalServerError, "InternalError", "an error on the server has prevented the request from succeeding", "")
	case Expired:
		return status(r, http.StatusGone, "Expired", "too old resource version", "")
	case Unavailable:
		return respond(r, http.StatusServiceUnavailable, "text/plain", "upstream connect error or disconnect before headers")
	case Garbage:
		return respond(r, http.StatusOK, "text/html", "<html><title>Welcome</title>Please accept the terms of this network.</html>")
	case Answer:
		resp := respond(r, f.Status, "text/plain", f.Body)
		for name, values := range f.Header {
			resp.Header[http.CanonicalHeaderKey(name)] = append([]string(nil), values...)
		}
		return resp
	default:
		return nil
	}
}

func status(r *http.Request, code int, reason, message, more string) *http.Response {
	return respond(r, code, "application/json", statusObject(code, reason, message, more))
}

func statusObject(code int, reason, message, more string) string {
	return fmt.Sprintf(`{"kind":"Status","apiVersion":"v1","metadata":{},"status":"Failure","message":%q,"reason":%q,"code":%d%s}`, message, reason, code, more)
}

func respond(r *http.Request, code int, contentType, content string) *http.Response {
	return &http.Response{
		Status: strconv.Itoa(code) + " " + http.StatusText(code), StatusCode: code, Proto: "HTTP/1.1", ProtoMajor: 1, ProtoMinor: 1,
		Header: http.Header{"Content-Type": {contentType}}, ContentLength: int64(len(content)), Body: io.NopCloser(strings.NewReader(content)), Request: r,
	}
}

// discard closes the body of a request that is not sent, as transports must.
func discard(r *http.Request) {
	if r.Body != nil {
		r.Body.Close()
	}
}

// asJSON leaves the JSON forms of what a client accepts.
func asJSON(accept string) string {
	var kept []string
	for form := range strings.SplitSeq(accept, ",") {
		if form = strings.TrimSpace(form); strings.HasPrefix(form, "application/json") {
			kept = append(kept, form)
		}
	}
	if kept == nil {
		return "application/json"
	}
	return strings.Join(kept, ",")
}

// flight is a request from its begin until its answer is read or closed.
type flight struct {
	faults *Faults
	done   <-chan struct{}
	why    func() error
	cancel context.CancelCauseFunc
}

// takeOff gives a request a context that [Faults.Break] can end, and makes it a copy.
func (f *Faults) takeOff(r *http.Request) (*flight, *http.Request) {
	ctx, cancel := context.WithCancelCause(r.Context())
	fl := &flight{faults: f, done: ctx.Done(), why: func() error { return context.Cause(ctx) }, cancel: cancel}
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.flights == nil {
		f.flights = map[*flight]struct{}{}
	}
	f.flights[fl] = struct{}{}
	return fl, r.Clone(ctx)
}

// land ends a flight; more than once does no harm.
func (fl *flight) land() {
	fl.faults.mu.Lock()
	delete(fl.faults.flights, fl)
	fl.faults.mu.Unlock()
	fl.cancel(nil)
}

// cause is what an error of the transport means: a broken connection if the flight was broken.
func (fl *flight) cause(err error) error {
	if cause := fl.why(); cause != nil && errors.Is(cause, errReset) {
		return errReset
	}
	return err
}

// pause waits, without end if d is 0. The error says why it ended before.
func (fl *flight) pause(d time.Duration) error {
	var over <-chan time.Time
	if d > 0 {
		timer := time.NewTimer(d)
		defer timer.Stop()
		over = timer.C
	}
	select {
	case <-over:
		return nil
	case <-fl.done:
		return fl.why()
	}
}

// stuck is the end of a body whose rest does not come.
func (fl *flight) stuck(d time.Duration) error {
	if err := fl.pause(d); err != nil {
		return err
	}
	return errReset
}
