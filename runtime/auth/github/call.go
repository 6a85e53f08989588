package github

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"
	"unicode"
)

// The classes of errors, for errors.Is.
var (
	// ErrInvalid: an [App] is incomplete or its key is none.
	ErrInvalid = errors.New("invalid")
	// ErrUnauthorized: GitHub does not take the App's proof: the key was revoked or is that of another App, or the clock
	// is wrong.
	ErrUnauthorized = errors.New("unauthorized")
	// ErrNotInstalled: there is no such App, or it is not installed there.
	ErrNotInstalled = errors.New("not installed")
	// ErrPermission: the installation is suspended, or was not granted the repositories or permissions.
	ErrPermission = errors.New("not permitted")
	// ErrRateLimited: GitHub wants to be left alone for a while; the error has RetryAfter.
	ErrRateLimited = errors.New("rate limited")
	// ErrUnavailable: GitHub cannot be reached, fails, or answers with something else than it should.
	ErrUnavailable = errors.New("unavailable")
)

// Error is a failure of an operation.
type Error struct {
	// Op is what was tried: "check", "find the installation", "issue a token".
	Op string
	// App is the id of the App, Host that of the API.
	App, Host string
	// Status is that of GitHub's answer, 0 if there was none; Message is what it says, shortened.
	Status  int
	Message string
	// Skew is by how much GitHub's clock is ahead of this machine's, if that is more than 30 seconds.
	Skew time.Duration
	// After is when to try again.
	After time.Duration
	// Err is the class, or wraps it.
	Err error
}

func (e *Error) Error() string {
	var b strings.Builder
	b.WriteString("github app " + e.App + ": " + e.Op)
	if e.Host != "" {
		b.WriteString(" at " + e.Host)
	}
	b.WriteString(": " + strings.ReplaceAll(e.Err.Error(), "\n", "; "))
	if e.Status != 0 {
		fmt.Fprintf(&b, ": status %d", e.Status)
	}
	if e.Message != "" {
		fmt.Fprintf(&b, " %q", e.Message)
	}
	if e.Skew != 0 {
		way := "behind"
		if e.Skew < 0 {
			way = "ahead of"
		}
		fmt.Fprintf(&b, "; the clock of this machine is %s %s that of the server", e.Skew.Abs().Round(time.Second), way)
	}
	return b.String()
}

// Unwrap returns the cause.
func (e *Error) Unwrap() error { return e.Err }

// Terminal reports whether only a changed App can help.
func (e *Error) Terminal() bool { return errors.Is(e.Err, ErrInvalid) }

// RetryAfter is how long GitHub asks to wait, 0 if it does not.
func (e *Error) RetryAfter() time.Duration { return e.After }

// Timeout reports whether the connection took too long.
func (e *Error) Timeout() bool {
	var t interface{ Timeout() bool }
	return errors.As(e.Err, &t) && t.Timeout()
}

const (
	attempts   = 3
	firstPause = 500 * time.Millisecond
	patience   = 30 * time.Second // for one attempt
	maxAnswer  = 1 << 20
	maxSkew    = 30 * time.Second
	maxRest    = time.Hour
)

type tokenAnswer struct {
	Token   string    `json:"token"`
	Expires time.Time `json:"expires_at"`
}

// call asks the API as the App, and reads the answer. It repeats what failed for reasons that pass. The skew is by how
// much the server's clock is ahead, 0 unless that is much.
func (i *Installation) call(ctx context.Context, op, method, path string, question, answer any) (skew time.Duration, err error) {
	var body []byte
	if question != nil {
		if body, err = json.Marshal(question); err != nil {
			return 0, err
		}
	}
	pause := firstPause
	for n := 1; ; n++ {
		skew, err = i.try(ctx, op, method, path, body, answer)
		var e *Error
		if err == nil || n == attempts || ctx.Err() != nil || !errors.As(err, &e) || !errors.Is(err, ErrUnavailable) || e.Status != 0 && e.Status < 500 || e.After > 0 {
			return skew, err
		}
		timer := time.NewTimer(pause)
		select {
		case <-timer.C:
		case <-ctx.Done():
			timer.Stop()
			return 0, err
		}
		pause *= 4
	}
}

// try is one attempt.
func (i *Installation) try(ctx context.Context, op, method, path string, body []byte, answer any) (time.Duration, error) {
	e := &Error{Op: op, App: i.app.ID, Host: i.api.Host}
	proof, err := assertion(i.app.ID, i.key, time.Now())
	if err != nil {
		e.Err = fmt.Errorf("%w: %w", ErrInvalid, err)
		return 0, e
	}
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	r, err := http.NewRequestWithContext(ctx, method, i.api.JoinPath(path).String(), bytes.NewReader(body))
	if err != nil {
		return 0, err
	}
	r.Header.Set("Authorization", "Bearer "+proof)
	r.Header.Set("Accept", "application/vnd.github+json")
	r.Header.Set("X-Github-Api-Version", "2022-11-28")
	if body != nil {
		r.Header.Set("Content-Type", "application/json")
	}
	resp, err := i.http.Do(r)
	if err != nil {
		e.Err = fmt.Errorf("%w: %w", ErrUnavailable, withoutURL(err))
		return 0, e
	}
	defer resp.Body.Close()
	e.Status, e.Skew = resp.StatusCode, skewOf(resp.Header)
	content, err := io.ReadAll(io.LimitReader(resp.Body, maxAnswer+1))
	if err != nil {
		e.Status, e.Err = 0, fmt.Errorf("%w: the answer breaks off: %w", ErrUnavailable, err)
		return 0, e
	}
	if resp.StatusCode != http.StatusOK && resp.StatusCode != http.StatusCreated {
		i.refused(e, resp.Header, content, proof)
		return 0, e
	}
	if len(content) > maxAnswer || json.Unmarshal(content, answer) != nil {
		e.Err = fmt.Errorf("%w: the answer is not that of the API", ErrUnavailable)
		return 0, e
	}
	return e.Skew, nil
}

// refused says what an answer other than success means.
func (i *Installation) refused(e *Error, header http.Header, content []byte, proof string) {
	var said struct {
		Message string `json:"message"`
	}
	if json.Unmarshal(content, &said) == nil {
		e.Message = shown(said.Message, proof)
	}
	e.After = restOf(header, time.Now().Add(e.Skew))
	limited := e.Status == http.StatusTooManyRequests ||
		e.Status == http.StatusForbidden && (header.Get("Retry-After") != "" || header.Get("X-Ratelimit-Remaining") == "0" || strings.Contains(e.Message, "rate limit"))
	switch {
	case limited:
		e.Err = ErrRateLimited
		if e.After == 0 {
			e.After = time.Minute // what GitHub asks for where it says nothing
		}
		return
	case e.Status == http.StatusUnauthorized:
		e.Err = fmt.Errorf("%w: the private key, or the clock, is not right for this App", ErrUnauthorized)
	case e.Status == http.StatusForbidden || e.Status == http.StatusUnprocessableEntity:
		e.Err = ErrPermission
	case e.Status == http.StatusNotFound:
		e.Err = ErrNotInstalled
	case e.Status >= 300 && e.Status < 400:
		e.Err = fmt.Errorf("%w: it redirects elsewhere, which is not followed", ErrUnavailable)
	default:
		e.Err = ErrUnavailable
	}
	if e.Status != http.StatusServiceUnavailable {
		e.After = 0
	}
}

// shown makes what a server says fit for an error: short, without control characters, and without what it was sent.
func shown(message, proof string) string {
	for _, part := range append(strings.Split(proof, "."), proof) {
		message = strings.ReplaceAll(message, part, "…")
	}
	message = strings.Map(func(r rune) rune {
		if !unicode.IsPrint(r) {
			return ' '
		}
		return r
	}, message)
	if runes := []rune(message); len(runes) > 200 {
		message = string(runes[:200]) + "…"
	}
	return message
}

// withoutURL leaves the cause of a failed request.
func withoutURL(err error) error {
	if u, ok := errors.AsType[*url.Error](err); ok {
		return u.Err
	}
	return err
}

// skewOf is by how much the clock of a server is ahead, 0 if it is not much or not known.
func skewOf(header http.Header) time.Duration {
	date, err := http.ParseTime(header.Get("Date"))
	if err != nil {
		return 0
	}
	if skew := time.Until(date); skew.Abs() > maxSkew {
		return skew
	}
	return 0
}

// restOf is how long a server asks to wait, an hour at most.
func restOf(header http.Header, now time.Time) time.Duration {
	if s := header.Get("Retry-After"); s != "" {
		if n, err := strconv.Atoi(s); err == nil && n > 0 {
			return min(time.Duration(min(n, 86_400))*time.Second, maxRest)
		}
		if at, err := http.ParseTime(s); err == nil && at.After(now) {
			return min(at.Sub(now), maxRest)
		}
	}
	if header.Get("X-Ratelimit-Remaining") != "0" {
		return 0
	}
	if n, err := strconv.ParseInt(header.Get("X-Ratelimit-Reset"), 10, 64); err == nil {
		if at := time.Unix(n, 0); at.After(now) {
			return min(at.Sub(now), maxRest)
		}
	}
	return 0
}
