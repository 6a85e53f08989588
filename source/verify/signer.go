package verify

import (
	"bytes"
	"context"
	"errors"
	"fmt"

	"github.com/ProtonMail/go-crypto/openpgp"
	"github.com/ProtonMail/go-crypto/openpgp/packet"
	"github.com/hiddeco/sshsig"
	"golang.org/x/crypto/ssh"

	"github.com/gitopskit/gitopskit/source"
)

// Signer signs commits with one private key. It implements git.Signer. Make one
// with NewSigner.
type Signer struct {
	name string
	sign func(object []byte) ([]byte, error)
}

// NewSigner reads a private key: an armored PGP key ring with one key, or an
// SSH key in PEM or OpenSSH form, which must be Ed25519, ECDSA, or RSA of 2048
// bits or more. The passphrase is for a key that is encrypted.
func NewSigner(privateKey, passphrase []byte) (*Signer, error) {
	parse := sshSigner
	if bytes.Contains(privateKey, []byte("-----BEGIN PGP ")) {
		parse = pgpSigner
	}
	s, err := parse(privateKey, passphrase)
	if err != nil {
		return nil, fmt.Errorf("%w: signing key: %w", source.ErrInvalidSpec, err)
	}
	return s, nil
}

// Sign returns the armored signature of a commit object.
func (s *Signer) Sign(ctx context.Context, object []byte) ([]byte, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	return s.sign(object)
}

// String names the key as the evidence of its signatures does.
func (s *Signer) String() string { return s.name }

func pgpSigner(privateKey, passphrase []byte) (*Signer, error) {
	list, err := openpgp.ReadArmoredKeyRing(bytes.NewReader(privateKey))
	if err != nil {
		return nil, errors.New("not an armored PGP private key")
	}
	if len(list) != 1 || list[0].PrivateKey == nil {
		return nil, fmt.Errorf("the PGP key ring has %d keys: want one private key", len(list))
	}
	key := list[0]
	encrypted := key.PrivateKey.Encrypted
	for _, sub := range key.Subkeys { // the primary key may be a stub
		encrypted = encrypted || sub.PrivateKey != nil && sub.PrivateKey.Encrypted
	}
	if encrypted {
		if len(passphrase) == 0 {
			return nil, errors.New("the PGP key is encrypted: give its passphrase")
		}
		if err := key.DecryptPrivateKeys(passphrase); err != nil {
			return nil, errors.New("the passphrase of the PGP key is wrong")
		}
	}
	return &Signer{
		name: fmt.Sprintf("%X", key.PrimaryKey.Fingerprint),
		sign: func(object []byte) ([]byte, error) {
			var b bytes.Buffer
			err := openpgp.ArmoredDetachSign(&b, key, bytes.NewReader(object), &packet.Config{})
			return append(b.Bytes(), '\n'), err
		},
	}, nil
}

func sshSigner(privateKey, passphrase []byte) (*Signer, error) {
	key, err := ssh.ParsePrivateKey(privateKey)
	var missing *ssh.PassphraseMissingError
	if errors.As(err, &missing) {
		if len(passphrase) == 0 {
			return nil, errors.New("the SSH key is encrypted: give its passphrase")
		}
		if key, err = ssh.ParsePrivateKeyWithPassphrase(privateKey, passphrase); err != nil {
			return nil, errors.New("the passphrase of the SSH key is wrong")
		}
	}
	if err != nil {
		return nil, errors.New("neither an armored PGP private key nor an SSH private key")
	}
	if err := checkSSH(key.PublicKey()); err != nil {
		return nil, err
	}
	return &Signer{
		name: ssh.FingerprintSHA256(key.PublicKey()),
		sign: func(object []byte) ([]byte, error) {
			sig, err := sshsig.Sign(bytes.NewReader(object), key, sshsig.HashSHA512, namespace)
			if err != nil {
				return nil, err
			}
			return sshsig.Armor(sig), nil
		},
	}, nil
}
