package image_test

import (
	"errors"
	"net/http"
	"strings"
	"testing"

	"github.com/gitopskit/gitopskit/image"
)

func TestCanonicalName(t *testing.T) {
	for name, want := range map[string]string{
		"alpine":                        "index.docker.io/library/alpine",
		"docker.io/library/alpine":      "index.docker.io/library/alpine",
		"org/app":                       "index.docker.io/org/app",
		"localhost:5000/a/b":            "localhost:5000/a/b",
		"registry.example.com:5000/app": "registry.example.com:5000/app",
	} {
		if got, err := image.CanonicalName(name); got != want || err != nil {
			t.Errorf("%s: %s, %v", name, got, err)
		}
	}
}

func TestNewScannerRefuses(t *testing.T) {
	for _, test := range []struct {
		image string
		opts  *image.ScannerOptions
		texts []string
	}{
		{"https://x/y", nil, []string{`remove "https://"`}},
		{"alpine:1", nil, []string{`remove ":1"`}},
		{"host:5000/alpine:1", nil, []string{`remove ":1"`}},
		{"x@sha256:1", nil, []string{`remove "@sha256:1"`}},
		{"me:s3cret@host/x", nil, []string{"credentials", "Keychain"}},
		{"https://me:s3cret@host/x", nil, []string{"scheme"}},
		{"", nil, []string{"malformed"}},
		{"UPPER", nil, []string{"malformed"}},
		{"x", &image.ScannerOptions{Exclude: []string{"a", "["}}, []string{"Exclude[1]"}},
		{"x", &image.ScannerOptions{Exclude: make([]string, 26)}, []string{"at most 25"}},
		{"x", &image.ScannerOptions{Exclude: []string{strings.Repeat("a", 1001)}}, []string{"at most 1000"}},
		{"x", &image.ScannerOptions{Limits: image.Limits{Pages: -2}}, []string{"Limits.Pages", "Unlimited"}},
		{"x", &image.ScannerOptions{Client: image.Client{CAs: []byte("s3cret")}}, []string{"CAs"}},
		{"x", &image.ScannerOptions{Client: image.Client{CAs: []byte("x"), Transport: http.DefaultTransport}}, []string{"Transport"}},
		{"x:1", &image.ScannerOptions{Exclude: []string{"["}, Limits: image.Limits{Tags: -5}}, []string{"tag", "Exclude[0]", "Limits.Tags"}},
	} {
		_, err := image.NewScanner(test.image, test.opts)
		fails(t, err, image.ErrInvalid, test.texts...)
	}
}

func TestParseRef(t *testing.T) {
	digest := "sha256:" + strings.Repeat("a", 64)
	for s, want := range map[string]image.Ref{
		"alpine":                         {Name: "alpine"},
		"alpine:3":                       {Name: "alpine", Tag: "3"},
		"host:5000/app":                  {Name: "host:5000/app"},
		"host:5000/app:v1@" + digest:     {Name: "host:5000/app", Tag: "v1", Digest: digest},
		"ghcr.io/org/app@" + digest:      {Name: "ghcr.io/org/app", Digest: digest},
		"docker.io/library/alpine:3.1_x": {Name: "docker.io/library/alpine", Tag: "3.1_x"},
	} {
		got, err := image.ParseRef(s)
		if err != nil || got != want || got.String() != s {
			t.Errorf("%s: %+v, %v", s, got, err)
		}
	}
	for _, s := range []string{"", ":1", "a:", "a@", "a:b c", "a: x", "a:1@sha256:12", "a:1@" + digest + "0", "https://a/b", "a\nb:1", "a:1\nb", "me:s3cret@host/a:1", "me:s3cret!@host/a:1", `".b/c`} {
		_, err := image.ParseRef(s)
		fails(t, err, image.ErrInvalid)
	}
}

func FuzzParseRef(f *testing.F) {
	f.Add("host:5000/app:v1@sha256:" + strings.Repeat("a", 64))
	f.Add("alpine")
	f.Fuzz(func(t *testing.T, s string) {
		r, err := image.ParseRef(s)
		if err != nil {
			if !errors.Is(err, image.ErrInvalid) {
				t.Error(err)
			}
			return
		}
		if r.String() != s || strings.ContainsAny(s, " \n\"'#") {
			t.Errorf("%q is %+v", s, r)
		}
	})
}
