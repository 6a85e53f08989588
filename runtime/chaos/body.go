package chaos

import (
	"bytes"
	"io"
	"math/rand/v2"
	"net/http"
)

// body is the body of an answer whose end ends the flight.
type body struct {
	io.ReadCloser
	flight *flight
}

func (b *body) Read(p []byte) (int, error) {
	n, err := b.ReadCloser.Read(p)
	if err != nil {
		err = b.flight.cause(err)
		b.flight.land()
	}
	return n, err
}

func (b *body) Close() error {
	b.flight.land() // first, because it wakes who reads
	return b.ReadCloser.Close()
}

// cutBody is the first part of an answer.
type cutBody struct {
	rest *bytes.Reader
	end  func() error // what comes then; nil is the regular end
}

func (c *cutBody) Read(p []byte) (int, error) {
	if len(p) == 0 {
		return 0, nil
	}
	n, err := c.rest.Read(p)
	if err != nil && c.end != nil {
		err = c.end()
	}
	return n, err
}

func (c *cutBody) Close() error { return nil }

// spoilWatch harms a watch.
func spoilWatch(resp *http.Response, fault Fault, rng *rand.Rand, fl *flight) {
	events := fault.N
	if events < 0 {
		events = rng.IntN(10)
	}
	w := &watchBody{ReadCloser: resp.Body, events: events}
	switch fault.Kind {
	case EndWatch:
		w.end = func() error { return io.EOF }
	case BreakWatch:
		w.extra = 10
		w.end = func() error { return io.ErrUnexpectedEOF }
	case ExpireWatch:
		w.last = []byte(`{"type":"ERROR","object":` + statusObject(http.StatusGone, "Expired", "too old resource version", "") + "}\n")
		w.end = func() error { return io.EOF }
	case Stuck:
		w.end = func() error { return fl.stuck(fault.After) }
	default:
		return
	}
	resp.Body = w
}

// watchBody passes on the first events of a watch, one on each line.
type watchBody struct {
	io.ReadCloser
	events int          // still to be passed on
	extra  int          // bytes of the event after them
	last   []byte       // to be said then
	end    func() error // and this
}

func (w *watchBody) Read(p []byte) (int, error) {
	if len(p) == 0 {
		return 0, nil
	}
	if w.events <= 0 && w.extra <= 0 {
		if len(w.last) > 0 {
			n := copy(p, w.last)
			w.last = w.last[n:]
			return n, nil
		}
		return 0, w.end()
	}
	n, err := w.ReadCloser.Read(p)
	passed := 0
	for passed < n && w.events > 0 {
		if p[passed] == '\n' {
			w.events--
		}
		passed++
	}
	if w.events <= 0 {
		more := min(n-passed, w.extra)
		passed, w.extra = passed+more, w.extra-more
		if passed < n || w.extra <= 0 {
			err = nil // the end is ours
		}
	}
	return passed, err
}
