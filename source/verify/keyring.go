package verify

import (
	"bytes"
	"context"
	"crypto"
	"crypto/rsa"
	"errors"
	"fmt"
	"io"
	"maps"
	"path"
	"slices"
	"strings"

	"github.com/ProtonMail/go-crypto/openpgp"
	"github.com/ProtonMail/go-crypto/openpgp/armor"
	"github.com/ProtonMail/go-crypto/openpgp/packet"
	"github.com/hiddeco/sshsig"
	"golang.org/x/crypto/ssh"

	"github.com/gitopskit/gitopskit/source"
)

// The kinds of evidence that a Keyring gives.
const (
	KindPGP = "pgp" // its signer is the fingerprint of the primary key, in upper case
	KindSSH = "ssh" // its signer is "SHA256:…", as ssh-keygen -l shows it
)

// minRSA is the shortest RSA key that is trusted.
const minRSA = 2048

// Keyring verifies objects by the keys of those who may sign. The zero value
// trusts nobody. Make one with ParseKeys.
type Keyring struct {
	pgp openpgp.EntityList
	ssh map[string]ssh.PublicKey // by fingerprint
}

// ParseKeys reads public keys from files, as the Secrets of Flux hold them:
// names that end in ".sshpub" are lines as in authorized_keys, all others
// armored PGP key rings, by custom ".asc". Every file must hold keys, and
// nothing but keys.
func ParseKeys(files map[string][]byte) (*Keyring, error) {
	k := &Keyring{ssh: map[string]ssh.PublicKey{}}
	var errs []error
	for _, name := range slices.Sorted(maps.Keys(files)) {
		var err error
		if path.Ext(name) == ".sshpub" {
			err = k.addSSH(files[name])
		} else {
			err = k.addPGP(files[name])
		}
		if err != nil {
			errs = append(errs, fmt.Errorf("%s: %w", name, err))
		}
	}
	if len(files) == 0 {
		errs = append(errs, errors.New("there are none"))
	}
	if err := errors.Join(errs...); err != nil {
		return nil, fmt.Errorf("%w: public keys: %w", source.ErrInvalidSpec, err)
	}
	return k, nil
}

func (k *Keyring) addPGP(data []byte) error {
	r := bytes.NewReader(data)
	found := false
	for {
		// A file may hold several armored blocks one after the other.
		block, err := armor.Decode(r)
		if errors.Is(err, io.EOF) && found {
			return nil
		}
		if err != nil {
			return errors.New("not an armored PGP key ring")
		}
		if block.Type != openpgp.PublicKeyType {
			return fmt.Errorf("a PGP block of type %q, not a public key", block.Type)
		}
		list, err := openpgp.ReadKeyRing(block.Body)
		if err != nil {
			return fmt.Errorf("not a PGP key ring: %w", err)
		}
		k.pgp = append(k.pgp, list...)
		found = found || len(list) > 0
	}
}

func (k *Keyring) addSSH(data []byte) error {
	found := false
	for n, line := range strings.Split(string(data), "\n") {
		line = strings.TrimSpace(line)
		if line == "" || line[0] == '#' {
			continue
		}
		key, _, options, _, err := ssh.ParseAuthorizedKey([]byte(line))
		if err != nil || len(options) > 0 {
			return fmt.Errorf("line %d is no SSH public key, or has options", n+1)
		}
		if err := checkSSH(key); err != nil {
			return fmt.Errorf("line %d: %w", n+1, err)
		}
		k.ssh[ssh.FingerprintSHA256(key)] = key
		found = true
	}
	if !found {
		return errors.New("no SSH public key")
	}
	return nil
}

// checkSSH allows the kinds of keys that can sign for Git.
func checkSSH(key ssh.PublicKey) error {
	switch key.Type() {
	case ssh.KeyAlgoED25519, ssh.KeyAlgoECDSA256, ssh.KeyAlgoECDSA384, ssh.KeyAlgoECDSA521, ssh.KeyAlgoSKED25519, ssh.KeyAlgoSKECDSA256:
		return nil
	case ssh.KeyAlgoRSA:
		if c, ok := key.(ssh.CryptoPublicKey); ok {
			if pub, ok := c.CryptoPublicKey().(*rsa.PublicKey); ok && pub.N.BitLen() >= minRSA {
				return nil
			}
		}
		return fmt.Errorf("an RSA key of less than %d bits", minRSA)
	}
	return fmt.Errorf("a key of type %q, which cannot sign", key.Type())
}

// Verify checks the signature of a commit or tag object, which is passed as Git
// stores it. It implements git.Verifier.
func (k *Keyring) Verify(ctx context.Context, object []byte) (source.Evidence, error) {
	if err := ctx.Err(); err != nil {
		return source.Evidence{}, err
	}
	s, err := split(object)
	if err != nil {
		return source.Evidence{}, fmt.Errorf("%w: %w", source.ErrUnverified, err)
	}
	e := source.Evidence{Kind: s.kind, Object: s.object}
	if s.kind == KindSSH {
		e.Signer, err = k.verifySSH(s)
	} else {
		err = k.verifyPGP(s, &e)
	}
	if err != nil {
		return source.Evidence{}, fmt.Errorf("%w: %s signature: %w", source.ErrUnverified, s.kind, err)
	}
	return e, nil
}

func (k *Keyring) verifyPGP(s *signed, e *source.Evidence) error {
	if len(k.pgp) == 0 {
		return errors.New("there is no PGP key to check it with: add one in a file that ends in .asc")
	}
	block, err := armor.Decode(bytes.NewReader(s.signature))
	if err != nil || block.Type != openpgp.SignatureType {
		return errors.New("its armor is damaged")
	}
	sig, signer, err := openpgp.VerifyDetachedSignature(k.pgp, bytes.NewReader(s.payload), block.Body, nil)
	if err != nil {
		return err
	}
	if sig.SigType != packet.SigTypeBinary {
		return errors.New("it is over text, whose line ends anybody may change")
	}
	switch sig.Hash {
	case crypto.SHA256, crypto.SHA384, crypto.SHA512, crypto.SHA3_256, crypto.SHA3_512:
	default:
		return fmt.Errorf("it uses the hash %v, which can be forged", sig.Hash)
	}
	key := signer.PrimaryKey
	if sig.IssuerKeyId != nil && key.KeyId != *sig.IssuerKeyId {
		for _, sub := range signer.Subkeys {
			if sub.PublicKey.KeyId == *sig.IssuerKeyId {
				key = sub.PublicKey
			}
		}
	}
	if bits, err := key.BitLength(); err == nil && key.PubKeyAlgo <= 3 && bits < minRSA {
		return fmt.Errorf("its RSA key has less than %d bits", minRSA)
	}
	e.Signer, e.Time = fmt.Sprintf("%X", signer.PrimaryKey.Fingerprint), sig.CreationTime.UTC()
	return nil
}

func (k *Keyring) verifySSH(s *signed) (string, error) {
	if len(k.ssh) == 0 {
		return "", errors.New("there is no SSH key to check it with: add one in a file that ends in .sshpub")
	}
	sig, err := sshsig.Unarmor(s.signature)
	if err != nil {
		return "", fmt.Errorf("its armor is damaged: %w", err)
	}
	signer := ssh.FingerprintSHA256(sig.PublicKey)
	key, ok := k.ssh[signer]
	if !ok {
		return "", fmt.Errorf("nobody trusts its key %s", signer)
	}
	if err := sshsig.Verify(bytes.NewReader(s.payload), sig, key, sig.HashAlgorithm, namespace); err != nil {
		return "", err
	}
	return signer, nil
}

// namespace is what SSH signatures of Git objects are made for.
const namespace = "git"
