package auth

import (
	"container/list"
	"context"
	"errors"
	"log/slog"
	"sync"
	"time"
)

// Token is a credential with an end.
type Token struct {
	// Value is the secret.
	Value string
	// Expires is its end by the clock of this machine; zero is none.
	Expires time.Time
}

// String shows the end, not the value.
func (t Token) String() string {
	if t.Expires.IsZero() {
		return "token"
	}
	return "token until " + t.Expires.UTC().Format(time.RFC3339)
}

// GoString shows what String does.
func (t Token) GoString() string { return "auth.Token{" + t.String() + "}" }

// LogValue shows what String does.
func (t Token) LogValue() slog.Value { return slog.StringValue(t.String()) }

// Event is what a cache did, for metrics.
type Event string

const (
	// Hit is a token that was there.
	Hit Event = "hit"
	// Miss is a token that was not, or whose time was over: the issuer was asked, or is being asked by another caller.
	Miss Event = "miss"
	// Stale is an old token that served because there was no new one.
	Stale Event = "stale"
	// Failure is an answer of the issuer that is an error.
	Failure Event = "failure"
	// Eviction is a token that made room for another.
	Eviction Event = "eviction"
)

// Cache keeps tokens by identity. The zero value is ready. It must not be copied.
type Cache struct {
	// Max is how many tokens are kept; 0 means 100. The one that was not used for longest goes first.
	Max int
	// Observe is called with each event, possibly by several goroutines at a time; it must not use the cache. Nil is
	// nobody.
	Observe func(Event)

	mu      sync.Mutex
	known   map[string]*list.Element
	order   list.List // of *entry, the last used first
	flights map[string]*flight
}

type entry struct {
	key   string
	token Token // the zero Token if there was none yet
	renew time.Time
	// rest and err are an issuer's wish to be left alone.
	rest time.Time
	err  error
}

// flight is one question to the issuer.
type flight struct {
	done    chan struct{}
	waiting int
	cancel  context.CancelFunc
	token   Token
	err     error
	gone    bool // Forget came meanwhile
}

// stalePause is how long an old token serves until the issuer is asked again.
const stalePause = 30 * time.Second

// Get returns the token of an identity. The key tells identities apart, together with everything that their tokens
// depend on; it is no secret. The issuer is asked by issue, whose context has the values of ctx but not its end.
func (c *Cache) Get(ctx context.Context, key string, issue func(context.Context) (Token, error)) (Token, error) {
	if err := ctx.Err(); err != nil {
		return Token{}, context.Cause(ctx)
	}
	c.mu.Lock()
	now := time.Now()
	e := c.find(key)
	if e != nil {
		c.order.MoveToFront(c.known[key])
		if e.token.valid(now) && now.Before(e.renew) {
			c.mu.Unlock()
			c.tell(Hit)
			return e.token, nil
		}
		if e.err != nil && now.Before(e.rest) {
			err := e.err
			c.mu.Unlock()
			c.tell(Miss)
			return Token{}, err
		}
	}
	f := c.flights[key]
	if f == nil {
		f = c.takeOff(ctx, key, issue)
	}
	f.waiting++
	c.mu.Unlock()
	c.tell(Miss)
	return c.await(ctx, key, f)
}

// Forget drops the token of an identity, for instance because it was refused. One that is being issued serves those
// who wait for it already.
func (c *Cache) Forget(key string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.drop(key)
	if f := c.flights[key]; f != nil {
		f.gone = true
		delete(c.flights, key)
	}
}

// Len returns how many identities are known.
func (c *Cache) Len() int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.order.Len()
}

// find returns the entry of a key, nil if there is none; c.mu is held.
func (c *Cache) find(key string) *entry {
	el := c.known[key]
	if el == nil {
		return nil
	}
	e, _ := el.Value.(*entry)
	return e
}

// takeOff asks the issuer; c.mu is held.
func (c *Cache) takeOff(ctx context.Context, key string, issue func(context.Context) (Token, error)) *flight {
	own, cancel := context.WithCancel(context.WithoutCancel(ctx))
	f := &flight{done: make(chan struct{}), cancel: cancel}
	if c.flights == nil {
		c.flights = map[string]*flight{}
	}
	c.flights[key] = f
	go func() {
		defer cancel()
		token, err := Token{}, errors.New("auth: the issuer ended without an answer")
		defer func() { c.land(key, f, token, err) }() // also if issue ends its goroutine
		token, err = issue(own)
	}()
	return f
}

// land keeps what the issuer answered.
func (c *Cache) land(key string, f *flight, token Token, err error) {
	var events []Event
	c.mu.Lock()
	if c.flights[key] == f {
		delete(c.flights, key)
	}
	now := time.Now()
	switch {
	case err == nil:
		f.token = token
		if !f.gone && token.valid(now) {
			events = c.keep(&entry{key: key, token: token, renew: token.renewal(now)})
		}
	default:
		f.err = err
		events = append(events, Failure)
		e := c.find(key)
		if e != nil && e.token.valid(now) && !f.gone {
			f.token, f.err = e.token, nil
			e.renew = now.Add(stalePause)
			events = append(events, Stale)
			break
		}
		if rest := restOf(err); rest > 0 && !f.gone {
			events = append(events, c.keep(&entry{key: key, rest: now.Add(rest), err: err})...)
		} else if e != nil {
			c.drop(key)
		}
	}
	c.mu.Unlock()
	for _, e := range events {
		c.tell(e)
	}
	close(f.done)
}

// await waits for the issuer, or for the end of ctx. The last who leaves ends the question.
func (c *Cache) await(ctx context.Context, key string, f *flight) (Token, error) {
	select {
	case <-f.done:
		return f.token, f.err
	case <-ctx.Done():
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if f.waiting--; f.waiting == 0 {
		f.cancel()
		if c.flights[key] == f { // who comes now begins anew
			delete(c.flights, key)
		}
	}
	return Token{}, context.Cause(ctx)
}

// keep puts an entry first, and drops the last ones if there are too many; c.mu is held.
func (c *Cache) keep(e *entry) (events []Event) {
	c.drop(e.key)
	if c.known == nil {
		c.known = map[string]*list.Element{}
	}
	c.known[e.key] = c.order.PushFront(e)
	limit := c.Max
	if limit <= 0 {
		limit = 100
	}
	for c.order.Len() > limit {
		if last, ok := c.order.Back().Value.(*entry); ok {
			c.drop(last.key)
			events = append(events, Eviction)
		}
	}
	return events
}

// drop forgets an entry; c.mu is held.
func (c *Cache) drop(key string) {
	if el := c.known[key]; el != nil {
		c.order.Remove(el)
		delete(c.known, key)
	}
}

func (c *Cache) tell(e Event) {
	if c.Observe != nil {
		c.Observe(e)
	}
}

func (t Token) valid(now time.Time) bool {
	return t.Value != "" && (t.Expires.IsZero() || now.Before(t.Expires))
}

// renewal is when four fifths of a token's life are over.
func (t Token) renewal(now time.Time) time.Time {
	if t.Expires.IsZero() {
		return now.Add(1 << 62)
	}
	return now.Add(t.Expires.Sub(now) / 5 * 4)
}

// restOf is how long an error asks to wait, at most an hour.
func restOf(err error) time.Duration {
	var wait interface{ RetryAfter() time.Duration }
	if errors.As(err, &wait) {
		return min(wait.RetryAfter(), time.Hour)
	}
	return 0
}
