package github

import (
	"crypto/rand"
	"crypto/rsa"
	"testing"
	"time"

	"github.com/golang-jwt/jwt/v5"
)

// TestAssertionLikePeer: the proof is, to the byte, that of the library which most programs use, and it passes its
// checks.
func TestAssertionLikePeer(t *testing.T) {
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	for _, id := range []string{"1", "123456", "Iv1.0123456789abcdef"} {
		now := time.Now()
		got, err := assertion(id, key, now)
		if err != nil {
			t.Fatal(err)
		}
		want, err := jwt.NewWithClaims(jwt.SigningMethodRS256, jwt.MapClaims{"iss": id, "iat": now.Add(-time.Minute).Unix(), "exp": now.Add(9 * time.Minute).Unix()}).SignedString(key)
		if err != nil {
			t.Fatal(err)
		}
		if got != want {
			t.Errorf("%s\n%s", got, want)
		}
		claims := &jwt.RegisteredClaims{}
		token, err := jwt.ParseWithClaims(got, claims, func(*jwt.Token) (any, error) { return &key.PublicKey, nil },
			jwt.WithValidMethods([]string{"RS256"}), jwt.WithIssuer(id), jwt.WithIssuedAt(), jwt.WithExpirationRequired())
		if err != nil || !token.Valid {
			t.Error(err)
		}
		if life := claims.ExpiresAt.Sub(claims.IssuedAt.Time); life != 10*time.Minute {
			t.Errorf("it lives %s, GitHub takes ten minutes at most", life)
		}
	}
}
