package oci

import (
	"errors"
	"fmt"
	"strings"

	"github.com/google/go-containerregistry/pkg/name"
)

// Scheme may start the name of a repository.
const Scheme = "oci://"

// parseRepository accepts "oci://host/path" and "host/path".
func parseRepository(raw string, insecure bool) (name.Repository, error) {
	text := strings.TrimPrefix(raw, Scheme)
	if i := strings.LastIndexByte(text, '@'); i >= 0 {
		if strings.ContainsRune(text[:i], '/') {
			return name.Repository{}, fmt.Errorf("the repository has a digest: remove %q and set Options.Ref", text[i:])
		}
		return name.Repository{}, errors.New("the repository contains credentials: move them to Options.Keychain")
	}
	if strings.Contains(text, "://") {
		return name.Repository{}, errors.New("the repository has a scheme: want oci://host/path")
	}
	slash := strings.LastIndexByte(text, '/')
	if i := strings.LastIndexByte(text, ':'); i > slash && slash >= 0 {
		return name.Repository{}, fmt.Errorf("the repository has a tag: remove %q and set Options.Ref", text[i:])
	}
	if slash <= 0 {
		return name.Repository{}, errors.New("the repository has no host: want oci://host/path")
	}
	opts := []name.Option{name.StrictValidation}
	if insecure {
		opts = append(opts, name.Insecure)
	}
	repo, err := name.NewRepository(text, opts...)
	if err != nil {
		return name.Repository{}, fmt.Errorf("the repository is malformed: %w", err)
	}
	return repo, nil
}

// redact shows a name that may be malformed, without what may be a password.
func redact(raw string) string {
	text := strings.TrimPrefix(raw, Scheme)
	if i := strings.LastIndexByte(text, '@'); i >= 0 && !strings.ContainsRune(text[:i], '/') {
		text = text[i+1:]
	}
	if len(text) > 300 {
		text = text[:300]
	}
	return Scheme + strings.ToValidUTF8(strings.Map(printable, text), "?")
}

func printable(r rune) rune {
	if r < ' ' || r == 0x7f {
		return '?'
	}
	return r
}
