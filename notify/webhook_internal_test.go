package notify

import (
	"net/http"
	"testing"
	"time"
)

func TestParseRetryAfter(t *testing.T) {
	now := time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)
	for value, want := range map[string]time.Duration{
		"":                        0,
		"0":                       0,
		"120":                     2 * time.Minute,
		" 7 ":                     7 * time.Second,
		"-5":                      0,
		"1.5":                     0,
		"soon":                    0,
		"86401":                   24 * time.Hour,
		"18446744073709551615":    24 * time.Hour,
		"99999999999999999999999": 0,
		now.Add(time.Hour).Format(http.TimeFormat):        time.Hour,
		now.Add(-time.Hour).Format(http.TimeFormat):       0,
		now.Add(9999 * time.Hour).Format(http.TimeFormat): 24 * time.Hour,
	} {
		if got := parseRetryAfter(value, now); got != want {
			t.Errorf("%q: got %v, want %v", value, got, want)
		}
	}
}

func TestPatience(t *testing.T) {
	now := time.Unix(1_800_000_000, 0)
	for _, tc := range []struct {
		after, remaining, reset string
		want                    time.Duration
	}{
		{"", "", "", 0},
		{"7", "", "", 7 * time.Second},
		{"7", "0", "1800000060", 7 * time.Second},
		{"", "0", "1800000060", time.Minute},
		{"", "1", "1800000060", 0},
		{"", "0", "1799999999", 0},
		{"", "0", "soon", 0},
		{"", "0", "9223372036854775807", 24 * time.Hour},
		{"", "0", "-9223372036854775808", 0},
	} {
		h := http.Header{}
		h.Set("Retry-After", tc.after)
		h.Set("X-RateLimit-Remaining", tc.remaining)
		h.Set("X-RateLimit-Reset", tc.reset)
		if got := patience(h, now); got != tc.want {
			t.Errorf("%+v: got %v", tc, got)
		}
	}
}
