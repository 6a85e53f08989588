package main

import (
	"errors"
	"math/rand/v2"
	"regexp"
	"strings"
	"testing"

	"github.com/fluxcd/pkg/envsubst"

	"github.com/gitopskit/gitopskit/kustomize"
)

// TestExpandLikePeer holds the expression language to that of Flux on random
// text: the same result, or an error on both sides.
func TestExpandLikePeer(t *testing.T) {
	const seed, rounds = 1, 200_000
	vars := map[string]string{"a": "x/y.z/w", "b": "abcABC", "empty": "", "n": "2", "u": "héé"}
	pieces := []string{
		"${", "}", "$", "$$", "a", "b", "empty", "n", "u", "no", ":", "=", "-", "+", ":-", ":=", ":+", "/", "//", "/#", "/%", "#", "##", "%", "%%",
		"^", "^^", ",", ",,", "*", "?", "x", ".", "1", "-1", `\`, `\/`, " ", "é", "${a}", "${b:-", "${a#", "${u%", "text",
	}
	rnd := rand.New(rand.NewPCG(seed, seed))
	same, failed := 0, 0
	for range rounds {
		var b strings.Builder
		for range 1 + rnd.IntN(9) {
			b.WriteString(pieces[rnd.IntN(len(pieces))])
		}
		text := b.String()
		if outside(text) {
			continue
		}
		lookup := func(name string) (string, bool) { v, ok := vars[name]; return v, ok }
		want, wantErr := peerExpand(text, lookup)
		got, err := kustomize.Expand(text, lookup)
		switch {
		case (err == nil) != (wantErr == nil):
			t.Fatalf("seed %d: %q: %q, %v; the peer: %q, %v", seed, text, got, err, want, wantErr)
		case err != nil:
			failed++
		case got != want:
			t.Fatalf("seed %d: %q: %q; the peer: %q", seed, text, got, want)
		default:
			same++
		}
	}
	t.Logf("%d equal results, %d refused by both", same, failed)
	if same < rounds/10 || failed < rounds/10 {
		t.Error("the texts do not try both outcomes often enough")
	}
}

// The documented differences: an unset variable with :? is an error here, and
// mixed case operators are.
var differs = regexp.MustCompile(`:\?|\^,|,\^`)

func outside(text string) bool { return differs.MatchString(text) }

func peerExpand(text string, lookup func(string) (string, bool)) (s string, err error) {
	defer func() {
		if recover() != nil {
			err = errors.New("the peer panics")
		}
	}()
	return envsubst.Eval(text, lookup)
}
