package cosign

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/sha512"
	"crypto/x509"
	"encoding/hex"
	"encoding/pem"
	"errors"
	"fmt"
	"strings"

	"github.com/gitopskit/gitopskit/source"
	"github.com/gitopskit/gitopskit/source/oci"
)

// Keys is an oci.Verifier that wants a signature by one of several keys. Make
// one with NewKeys.
type Keys struct{ keys []key }

var _ oci.Verifier = (*Keys)(nil)

type key struct {
	public crypto.PublicKey
	id     string // as in Evidence.Signer
}

// minRSABits is what every signer in use makes at least.
const minRSABits = 2048

// NewKeys reads public keys in PEM, one or more in each text. At least one key
// is needed, and each must be one that can be used. Errors are *source.Error of
// class ErrInvalidSpec and name all that is wrong.
func NewKeys(texts ...[]byte) (*Keys, error) {
	k := &Keys{}
	var errs []error
	for i, text := range texts {
		n := len(k.keys)
		for rest := text; ; {
			var block *pem.Block
			if block, rest = pem.Decode(rest); block == nil {
				break
			}
			key, err := parseKey(block)
			if err != nil {
				errs = append(errs, fmt.Errorf("key %d: %w", i+1, err))
				n = -1
				continue
			}
			k.keys = append(k.keys, key)
		}
		if n == len(k.keys) {
			errs = append(errs, fmt.Errorf("key %d: no public key in PEM", i+1))
		}
	}
	if len(texts) == 0 {
		errs = append(errs, errors.New("no keys: without one everybody could have signed; signatures by identity (keyless) are not supported"))
	}
	if len(errs) > 0 {
		return nil, &source.Error{Op: "new", Source: "cosign keys", Err: fmt.Errorf("%w: %w", source.ErrInvalidSpec, errors.Join(errs...))}
	}
	return k, nil
}

func parseKey(block *pem.Block) (key, error) {
	var public crypto.PublicKey
	var err error
	switch {
	case strings.Contains(block.Type, "PRIVATE KEY"):
		return key{}, errors.New("this is a private key: give its public key, and keep this one secret")
	case block.Type == "CERTIFICATE":
		return key{}, errors.New("this is a certificate: signatures by certificates and identities (keyless) are not supported, only by keys")
	case block.Type == "RSA PUBLIC KEY":
		public, err = x509.ParsePKCS1PublicKey(block.Bytes)
	case block.Type == "PUBLIC KEY":
		public, err = x509.ParsePKIXPublicKey(block.Bytes)
	default:
		return key{}, fmt.Errorf("a PEM block of type %q is no public key", block.Type)
	}
	if err != nil {
		return key{}, fmt.Errorf("malformed public key: %w", err)
	}
	if err := usable(public); err != nil {
		return key{}, err
	}
	der, err := x509.MarshalPKIXPublicKey(public)
	if err != nil {
		return key{}, err
	}
	sum := sha256.Sum256(der)
	return key{public, "sha256:" + hex.EncodeToString(sum[:])}, nil
}

func usable(public crypto.PublicKey) error {
	switch k := public.(type) {
	case *ecdsa.PublicKey:
		switch k.Curve {
		case elliptic.P256(), elliptic.P384(), elliptic.P521():
			return nil
		}
		return fmt.Errorf("the ECDSA curve %s is not supported: want P-256, P-384 or P-521", k.Curve.Params().Name)
	case *rsa.PublicKey:
		if k.N.BitLen() < minRSABits {
			return fmt.Errorf("an RSA key of %d bits is too short: want %d at least", k.N.BitLen(), minRSABits)
		}
		return nil
	case ed25519.PublicKey:
		return nil
	}
	return fmt.Errorf("a %T is not supported: want ECDSA, RSA or Ed25519", public)
}

// signer is the id of the key that made a signature, or nothing.
func (k *Keys) signer(message, signature []byte) string {
	for _, key := range k.keys {
		if key.verify(message, signature) {
			return key.id
		}
	}
	return ""
}

// verify checks one signature. Signers hash by SHA-256, or with larger curves
// by the hash that belongs to them.
func (k key) verify(message, signature []byte) bool {
	sum := sha256.Sum256(message)
	switch public := k.public.(type) {
	case *ecdsa.PublicKey:
		if ecdsa.VerifyASN1(public, sum[:], signature) {
			return true
		}
		switch public.Curve {
		case elliptic.P384():
			long := sha512.Sum384(message)
			return ecdsa.VerifyASN1(public, long[:], signature)
		case elliptic.P521():
			long := sha512.Sum512(message)
			return ecdsa.VerifyASN1(public, long[:], signature)
		}
		return false
	case *rsa.PublicKey:
		return rsa.VerifyPKCS1v15(public, crypto.SHA256, sum[:], signature) == nil
	case ed25519.PublicKey:
		return ed25519.Verify(public, message, signature)
	}
	return false
}

// pae is what a signature of an envelope is made over.
func pae(payloadType string, payload []byte) []byte {
	var b bytes.Buffer
	fmt.Fprintf(&b, "DSSEv1 %d %s %d %s", len(payloadType), payloadType, len(payload), payload)
	return b.Bytes()
}
