package secrets

import (
	"fmt"
	"net/http"
	"net/url"
	"strings"

	"go.yaml.in/yaml/v3"
)

// Destination is where notifications go to, and with which credentials.
type Destination struct {
	// Address is a URL, or what else a destination is called; it may hold a credential. Empty if it is not in the
	// Secret.
	Address string
	// Token, Username and Password are empty if they are missing.
	Token, Username, Password string
	// Headers are sent with each request.
	Headers http.Header
	// Proxy is nil unless the Secret has the older entry of that name.
	Proxy *url.URL
}

// String shows nothing.
func (d *Destination) String() string { return "notification destination" }

// GoString shows nothing.
func (d *Destination) GoString() string { return "secrets.Destination{}" }

// Notification returns the entries address (2048 bytes at most), token, username, password, headers (a YAML map of one
// line each) and proxy (a URL), each of which may be missing.
func Notification(data map[string][]byte) (*Destination, error) {
	t, err := texts(data, "address?", "token?", "username?", "proxy?")
	if err != nil {
		return nil, err
	}
	d := &Destination{Address: t[0], Token: t[1], Username: t[2]}
	if len(d.Address) > 2048 {
		return nil, &Error{"address", fmt.Errorf("%w: it is longer than 2048 bytes", ErrInvalid)}
	}
	password, err := optional(data, "password")
	if err != nil {
		return nil, err
	}
	d.Password = string(password)
	if t[3] != "" {
		if d.Proxy, err = Proxy(map[string][]byte{"address": data["proxy"]}); err != nil {
			return nil, &Error{"proxy", fmt.Errorf("%w: it is no URL of a proxy", ErrInvalid)}
		}
	}
	if d.Headers, err = headers(data); err != nil {
		return nil, err
	}
	return d, nil
}

// headers reads a YAML map. Aliases are refused: they make small files big.
func headers(data map[string][]byte) (http.Header, error) {
	const name = "headers"
	content, err := optional(data, name)
	if content == nil || err != nil {
		return nil, err
	}
	fail := func(why string) (http.Header, error) {
		return nil, &Error{name, fmt.Errorf("%w: %s", ErrInvalid, why)}
	}
	if len(content) > 64<<10 {
		return fail("it is longer than 64 KiB")
	}
	var doc yaml.Node
	if yaml.Unmarshal(content, &doc) != nil || len(doc.Content) != 1 || doc.Content[0].Kind != yaml.MappingNode {
		return fail("it is no YAML map of names to values")
	}
	pairs := doc.Content[0].Content
	out := http.Header{}
	for i := 0; i+1 < len(pairs); i += 2 {
		field, value := pairs[i], pairs[i+1]
		switch {
		case field.Kind != yaml.ScalarNode || value.Kind != yaml.ScalarNode:
			return fail(fmt.Sprintf("line %d is no name with a value", field.Line))
		case field.Value == "" || strings.ContainsFunc(field.Value, notToken):
			return fail(fmt.Sprintf("line %d has no name of a header", field.Line))
		case strings.ContainsFunc(value.Value, func(r rune) bool { return r < ' ' && r != '\t' || r == 0x7f }):
			return fail(fmt.Sprintf("line %d has control characters in its value", field.Line))
		}
		out.Add(field.Value, value.Value)
	}
	return out, nil
}

// notToken finds what is in no name of a header.
func notToken(r rune) bool {
	return r <= ' ' || r >= 0x7f || strings.ContainsRune(`"(),/:;<=>?@[\]{}`, r)
}

// Hook is what a webhook receiver checks requests with.
type Hook struct {
	// Token is the shared secret.
	Token []byte
	// Email and Audience are those of a Google token; empty if they are missing.
	Email, Audience string
}

// String shows nothing.
func (h *Hook) String() string { return "webhook secret" }

// GoString shows nothing.
func (h *Hook) GoString() string { return "secrets.Hook{}" }

// Receiver returns the entry token of a webhook receiver, and email and audience, which may be missing. An empty token
// is an error, because it would open the hook to everybody, and so is one of blanks. Tokens shorter than 16 bytes are
// taken, and [Hook.Weak].
func Receiver(data map[string][]byte) (*Hook, error) {
	token, err := entry(data, "token")
	if err != nil {
		return nil, err
	}
	if strings.TrimSpace(string(token)) == "" {
		return nil, &Error{"token", fmt.Errorf("%w: it is blank", ErrInvalid)}
	}
	t, err := texts(data, "email?", "audience?")
	if err != nil {
		return nil, err
	}
	return &Hook{Token: token, Email: t[0], Audience: t[1]}, nil
}

// Weak reports whether a token is so short that it can be guessed.
func (h *Hook) Weak() bool { return len(h.Token) < 16 }
