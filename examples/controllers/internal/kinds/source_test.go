package kinds

import (
	"errors"
	"testing"
)

// TestStrip leaves the queries of URLs out of messages.
func TestStrip(t *testing.T) {
	for message, want := range map[string]string{
		`Get "https://host/path?token=canary&b=c": refused`: `Get "https://host/path": refused`,
		"http://a/b?c and oci://d/e?f=g#h are wrong":        "http://a/b and oci://d/e are wrong",
		"is it so? https://host/path":                       "is it so? https://host/path",
		"":                                                  "",
	} {
		if got := (withoutQuery{errors.New(message)}).Error(); got != want {
			t.Errorf("got %q, want %q", got, want)
		}
	}
}
