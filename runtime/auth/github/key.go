package github

import (
	"bytes"
	"crypto"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"time"
)

// The sizes of keys, in bits, that are taken: GitHub's have 2048.
const (
	minBits = 2048
	maxBits = 8192
)

// parseKey reads the private key of an App, in PEM form, as PKCS #1 (which GitHub hands out) or PKCS #8. What else it
// may be is refused by name.
func parseKey(data []byte) (*rsa.PrivateKey, error) {
	if len(data) > 64<<10 {
		return nil, errors.New("the private key is longer than 64 KiB")
	}
	data = bytes.TrimSpace(data)
	if len(data) == 0 {
		return nil, errors.New("the private key is missing")
	}
	block, rest := pem.Decode(data)
	if block == nil {
		return nil, errors.New("the private key is not in PEM form, in which GitHub hands it out")
	}
	if len(bytes.TrimSpace(rest)) > 0 {
		return nil, errors.New("something follows after the private key")
	}
	if block.Headers["DEK-Info"] != "" || block.Type == "ENCRYPTED PRIVATE KEY" {
		return nil, errors.New("the private key is encrypted: give it without a passphrase")
	}
	var parsed any
	var err error
	switch block.Type {
	case "RSA PRIVATE KEY":
		parsed, err = x509.ParsePKCS1PrivateKey(block.Bytes)
	case "PRIVATE KEY":
		parsed, err = x509.ParsePKCS8PrivateKey(block.Bytes)
	case "OPENSSH PRIVATE KEY", "EC PRIVATE KEY", "PUBLIC KEY", "RSA PUBLIC KEY", "CERTIFICATE", "CERTIFICATE REQUEST":
		return nil, fmt.Errorf("it is no private key of a GitHub App, but of the kind %s", block.Type)
	default:
		return nil, errors.New("it is no private key of a GitHub App, but PEM of another kind")
	}
	if err != nil { // what the parser says may quote the key
		return nil, fmt.Errorf("the private key is damaged: it is no %s", block.Type)
	}
	key, ok := parsed.(*rsa.PrivateKey)
	if !ok {
		return nil, errors.New("the private key is not of the kind RSA")
	}
	if bits := key.N.BitLen(); bits < minBits || bits > maxBits {
		return nil, fmt.Errorf("the private key has %d bits: it needs %d to %d", bits, minBits, maxBits)
	}
	return key, nil
}

// assertion is the JSON web token by which an App proves who it is: RS256, issued a minute ago because clocks differ,
// and good for nine more, since GitHub takes ten at most.
func assertion(app string, key *rsa.PrivateKey, now time.Time) (string, error) {
	claims, err := json.Marshal(map[string]any{"iss": app, "iat": now.Add(-time.Minute).Unix(), "exp": now.Add(9 * time.Minute).Unix()})
	if err != nil {
		return "", err
	}
	encode := base64.RawURLEncoding.EncodeToString
	signed := encode([]byte(`{"alg":"RS256","typ":"JWT"}`)) + "." + encode(claims)
	sum := sha256.Sum256([]byte(signed))
	signature, err := rsa.SignPKCS1v15(rand.Reader, key, crypto.SHA256, sum[:])
	if err != nil {
		return "", errors.New("the private key cannot sign")
	}
	return signed + "." + encode(signature), nil
}
