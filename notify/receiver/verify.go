package receiver

import (
	"crypto/hmac"
	"crypto/sha1" // callers sign with it; an HMAC does not need its collision resistance
	"crypto/sha256"
	"crypto/sha512"
	"crypto/subtle"
	"encoding/hex"
	"fmt"
	"hash"
	"net/http"
	"strings"
)

// verifyHMAC checks a signature as sha256=<hexadecimal HMAC of the body> in the first of the headers that is there.
func verifyHMAC(header http.Header, body, token []byte, names ...string) error {
	for _, name := range names {
		if value, err := single(header, name); err != nil {
			return err
		} else if value != "" {
			return checkHMAC(name, value, body, token)
		}
	}
	return fmt.Errorf("%w: there is no header %s", ErrUnverified, names[0])
}

func checkHMAC(name, value string, body, token []byte) error {
	algorithm, digits, _ := strings.Cut(value, "=")
	var newHash func() hash.Hash
	switch algorithm {
	case "sha1":
		newHash = sha1.New
	case "sha256":
		newHash = sha256.New
	case "sha512":
		newHash = sha512.New
	default:
		return fmt.Errorf("%w: the signature in %s is not by sha1, sha256 or sha512", ErrUnverified, name)
	}
	got, err := hex.DecodeString(digits)
	if err != nil {
		return fmt.Errorf("%w: the signature in %s is not hexadecimal", ErrUnverified, name)
	}
	mac := hmac.New(newHash, token)
	mac.Write(body)
	if !hmac.Equal(got, mac.Sum(nil)) {
		return fmt.Errorf("%w: the signature in %s does not match: check that both sides have the same token", ErrUnverified, name)
	}
	return nil
}

// verifyToken checks that a header is the token, in a time that tells nothing about it.
func verifyToken(header http.Header, token []byte, name string) error {
	value, err := single(header, name)
	if err != nil {
		return err
	}
	got, want := sha256.Sum256([]byte(value)), sha256.Sum256(token)
	if subtle.ConstantTimeCompare(got[:], want[:]) != 1 {
		return fmt.Errorf("%w: the header %s is not the token", ErrUnverified, name)
	}
	return nil
}

// single returns the value of a header, which must not be there twice: different readers would read different ones.
func single(header http.Header, name string) (string, error) {
	if len(header.Values(name)) > 1 {
		return "", fmt.Errorf("%w: the header %s is there twice", ErrUnverified, name)
	}
	return header.Get(name), nil
}
