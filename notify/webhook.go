package notify

import (
	"bytes"
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"strings"
)

// Webhook is a [Sender] that posts events as JSON, as Flux's providers generic and generic-hmac do: the body is the
// event, the header Gotk-Component its reporting controller, and the header X-Signature, if there is a key, is
// "sha256=" and the hexadecimal HMAC-SHA-256 of the body. It is made by [NewWebhook] or [NewSignedWebhook].
type Webhook struct {
	*endpoint
	key []byte
}

var _ Sender = (*Webhook)(nil)

const (
	headerSender = "Gotk-Component"
	headerSign   = "X-Signature"
)

// NewWebhook returns a webhook without a signature. The error is a [*SendError] that lists all problems with the
// arguments; no connection is made.
func NewWebhook(address string, o *HTTPOptions) (*Webhook, error) {
	return newWebhook(address, nil, o)
}

// NewSignedWebhook returns a webhook that signs with the key, which must not be empty. The error is as for
// [NewWebhook].
func NewSignedWebhook(address string, key []byte, o *HTTPOptions) (*Webhook, error) {
	var problem error
	if len(key) == 0 {
		problem = errors.New("the HMAC key is empty: give a key, or use NewWebhook for no signature")
	}
	return newWebhook(address, key, o, problem)
}

func newWebhook(address string, key []byte, o *HTTPOptions, problems ...error) (*Webhook, error) {
	if o == nil {
		o = &HTTPOptions{}
	}
	p, err := newEndpoint("webhook", address, *o, []string{headerSender, headerSign}, []string{string(key)}, problems...)
	if err != nil {
		return nil, err
	}
	return &Webhook{endpoint: p, key: bytes.Clone(key)}, nil
}

// Send posts the event. The error is a [*SendError].
func (w *Webhook) Send(ctx context.Context, e Event) error {
	body, err := json.Marshal(e)
	if err != nil {
		return w.fail(err, true)
	}
	header := map[string]string{headerSender: headerValue(e.ReportingController)}
	if len(w.key) > 0 {
		mac := hmac.New(sha256.New, w.key)
		mac.Write(body)
		header[headerSign] = "sha256=" + hex.EncodeToString(mac.Sum(nil))
	}
	_, err = w.post(ctx, header, body)
	return err
}

// headerValue leaves out what no header may hold.
func headerValue(s string) string {
	return strings.Map(func(r rune) rune {
		if isControl(r) {
			return -1
		}
		return r
	}, s)
}
