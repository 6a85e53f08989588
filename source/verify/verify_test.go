package verify_test

import (
	"bytes"
	"context"
	"crypto"
	"crypto/dsa" //nolint:staticcheck // a key that must be refused
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"encoding/pem"
	"errors"
	"fmt"
	"log"
	"math/big"
	"strings"
	"testing"
	"time"

	"github.com/ProtonMail/go-crypto/openpgp"
	"github.com/ProtonMail/go-crypto/openpgp/armor"
	"github.com/ProtonMail/go-crypto/openpgp/packet"
	"github.com/hiddeco/sshsig"
	"go.uber.org/goleak"
	"golang.org/x/crypto/ssh"

	"github.com/gitopskit/gitopskit/source"
	"github.com/gitopskit/gitopskit/source/git"
	"github.com/gitopskit/gitopskit/source/verify"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

var (
	_ git.Verifier = (*verify.Keyring)(nil)
	_ git.Signer   = (*verify.Signer)(nil)
)

const (
	commitHead = "tree 4b825dc642cb6eb9a060e54bf8d69288fbee4904\nauthor A <a@example.com> 1700000000 +0000\ncommitter A <a@example.com> 1700000000 +0000\n"
	message    = "\nfirst\n\nand more\n"
	tagText    = "object 0123456789012345678901234567890123456789\ntype commit\ntag v1\ntagger A <a@example.com> 1700000000 +0000\n\nrelease\n"
)

// withSignature puts a signature into a commit as Git does.
func withSignature(sig []byte) string {
	return commitHead + "gpgsig " + strings.ReplaceAll(strings.TrimRight(string(sig), "\n"), "\n", "\n ") + "\n" + message
}

func Example() {
	public, private, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		log.Fatal(err)
	}
	block, err := ssh.MarshalPrivateKey(private, "")
	if err != nil {
		log.Fatal(err)
	}
	signer, err := verify.NewSigner(pem.EncodeToMemory(block), nil)
	if err != nil {
		log.Fatal(err)
	}
	key, err := ssh.NewPublicKey(public)
	if err != nil {
		log.Fatal(err)
	}
	keys, err := verify.ParseKeys(map[string][]byte{"ci.sshpub": ssh.MarshalAuthorizedKey(key)})
	if err != nil {
		log.Fatal(err)
	}
	sig, err := signer.Sign(context.Background(), []byte(commitHead+message))
	if err != nil {
		log.Fatal(err)
	}
	evidence, err := keys.Verify(context.Background(), []byte(withSignature(sig)))
	fmt.Println(evidence.Kind, evidence.Object, evidence.Signer == signer.String(), err)
	// Output: ssh commit true <nil>
}

// pair is a key in both forms.
type pair struct{ private, public []byte }

func sshPair(t testing.TB, key crypto.Signer, passphrase string) pair {
	t.Helper()
	block, err := ssh.MarshalPrivateKey(key, "")
	if passphrase != "" {
		block, err = ssh.MarshalPrivateKeyWithPassphrase(key, "", []byte(passphrase))
	}
	if err != nil {
		t.Fatal(err)
	}
	public, err := ssh.NewPublicKey(key.Public())
	if err != nil {
		t.Fatal(err)
	}
	return pair{pem.EncodeToMemory(block), ssh.MarshalAuthorizedKey(public)}
}

func newSSH(t testing.TB) pair {
	t.Helper()
	_, key, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return sshPair(t, key, "")
}

func newPGP(t testing.TB, config *packet.Config, passphrase string) (pair, *openpgp.Entity) {
	t.Helper()
	e, err := openpgp.NewEntity("A", "", "a@example.com", config)
	if err != nil {
		t.Fatal(err)
	}
	var private, public bytes.Buffer
	w, err := armor.Encode(&public, openpgp.PublicKeyType, nil)
	if err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(e.Serialize(w), w.Close()); err != nil {
		t.Fatal(err)
	}
	if passphrase != "" {
		if err := e.EncryptPrivateKeys([]byte(passphrase), nil); err != nil {
			t.Fatal(err)
		}
	}
	if w, err = armor.Encode(&private, openpgp.PrivateKeyType, nil); err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(e.SerializePrivateWithoutSigning(w, nil), w.Close()); err != nil {
		t.Fatal(err)
	}
	return pair{private.Bytes(), append(public.Bytes(), '\n')}, e
}

func ed25519PGP() *packet.Config { return &packet.Config{Algorithm: packet.PubKeyAlgoEdDSA} }

func keyring(t testing.TB, files map[string][]byte) *verify.Keyring {
	t.Helper()
	k, err := verify.ParseKeys(files)
	if err != nil {
		t.Fatal(err)
	}
	return k
}

func newSigner(t testing.TB, private []byte, passphrase string) *verify.Signer {
	t.Helper()
	s, err := verify.NewSigner(private, []byte(passphrase))
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func sign(t testing.TB, s *verify.Signer, object string) []byte {
	t.Helper()
	sig, err := s.Sign(t.Context(), []byte(object))
	if err != nil {
		t.Fatal(err)
	}
	return sig
}

func TestSignAndVerify(t *testing.T) {
	ec := func(c elliptic.Curve) crypto.Signer {
		key, err := ecdsa.GenerateKey(c, rand.Reader)
		if err != nil {
			t.Fatal(err)
		}
		return key
	}
	rsaKey, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	pgp, _ := newPGP(t, ed25519PGP(), "")
	pgpRSA, _ := newPGP(t, &packet.Config{RSABits: 2048}, "hush")
	for name, test := range map[string]struct {
		pair
		passphrase, file, kind string
	}{
		"ssh ed25519":   {newSSH(t), "", "a.sshpub", "ssh"},
		"ssh p256":      {sshPair(t, ec(elliptic.P256()), ""), "", "a.sshpub", "ssh"},
		"ssh p384":      {sshPair(t, ec(elliptic.P384()), ""), "", "a.sshpub", "ssh"},
		"ssh p521":      {sshPair(t, ec(elliptic.P521()), ""), "", "a.sshpub", "ssh"},
		"ssh rsa":       {sshPair(t, rsaKey, "hush"), "hush", "a.sshpub", "ssh"},
		"pgp ed25519":   {pgp, "", "a.asc", "pgp"},
		"pgp rsa":       {pgpRSA, "hush", "a.asc", "pgp"},
		"any extension": {pgp, "", "key.pub", "pgp"},
	} {
		t.Run(name, func(t *testing.T) {
			s := newSigner(t, test.private, test.passphrase)
			keys := keyring(t, map[string][]byte{test.file: test.public, "other.sshpub": newSSH(t).public})
			commit := withSignature(sign(t, s, commitHead+message))
			e, err := keys.Verify(t.Context(), []byte(commit))
			if err != nil || e.Kind != test.kind || e.Object != "commit" || e.Signer != s.String() {
				t.Errorf("commit: %+v, %v", e, err)
			}
			if test.kind == "pgp" && time.Since(e.Time) > time.Minute {
				t.Errorf("signed at %v", e.Time)
			}
			e, err = keys.Verify(t.Context(), append([]byte(tagText), sign(t, s, tagText)...))
			if err != nil || e.Object != "tag" || e.Signer != s.String() {
				t.Errorf("tag: %+v, %v", e, err)
			}
			// Any other byte is another object.
			for i := range commit {
				damaged := []byte(commit)
				damaged[i] ^= 1
				if i%7 != 0 {
					continue
				}
				if _, err := keys.Verify(t.Context(), damaged); err == nil {
					if inArmor := i > len(commitHead) && i < len(commit)-len(message); !inArmor {
						t.Errorf("the inverted bit in byte %d was not noticed", i)
					}
				} else if !errors.Is(err, source.ErrUnverified) {
					t.Errorf("byte %d: %v", i, err)
				}
			}
			stranger := keyring(t, map[string][]byte{"other.sshpub": newSSH(t).public})
			if _, err := stranger.Verify(t.Context(), []byte(commit)); !errors.Is(err, source.ErrUnverified) {
				t.Errorf("unknown key: %v", err)
			}
		})
	}
}

func TestVerifyRefuses(t *testing.T) {
	sshKey := newSSH(t)
	pgpKey, entity := newPGP(t, ed25519PGP(), "")
	keys := keyring(t, map[string][]byte{"a.sshpub": sshKey.public, "a.asc": pgpKey.public})
	s, p := newSigner(t, sshKey.private, ""), newSigner(t, pgpKey.private, "")
	sig, pgpSig := sign(t, s, commitHead+message), sign(t, p, commitHead+message)
	gpgsig := "gpgsig " + strings.ReplaceAll(strings.TrimRight(string(sig), "\n"), "\n", "\n ") + "\n"
	foreign := func(namespace string) []byte {
		key, err := ssh.ParsePrivateKey(sshKey.private)
		if err != nil {
			t.Fatal(err)
		}
		other, err := sshsig.Sign(strings.NewReader(commitHead+message), key, sshsig.HashSHA256, namespace)
		if err != nil {
			t.Fatal(err)
		}
		return sshsig.Armor(other)
	}
	if _, err := keys.Verify(t.Context(), []byte(withSignature(foreign("git")))); err != nil {
		t.Errorf("hash SHA-256: %v", err)
	}
	var weak bytes.Buffer
	if err := openpgp.ArmoredDetachSign(&weak, entity, strings.NewReader(commitHead+message), &packet.Config{DefaultHash: crypto.SHA1}); err == nil {
		if _, err := keys.Verify(t.Context(), []byte(withSignature(weak.Bytes()))); !errors.Is(err, source.ErrUnverified) {
			t.Errorf("hash SHA-1: %v", err)
		}
	}
	var text bytes.Buffer
	if err := openpgp.ArmoredDetachSignText(&text, entity, strings.NewReader(commitHead+message), nil); err != nil {
		t.Fatal(err)
	}
	for name, test := range map[string]struct{ object, want string }{
		"text":                 {withSignature(text.Bytes()), "line ends"},
		"nothing":              {"", "neither a commit nor a tag"},
		"blob":                 {"hello", "neither a commit nor a tag"},
		"unsigned commit":      {commitHead + message, "not signed"},
		"unsigned tag":         {tagText, "not signed"},
		"no message":           {commitHead, "malformed"},
		"NUL":                  {withSignature(sig) + "\x00", "malformed"},
		"other commit":         {strings.Replace(withSignature(sig), "first", "second", 1), "signature"},
		"two signatures":       {commitHead + gpgsig + gpgsig + message, "more than one"},
		"ssh then pgp":         {withSignature(append(bytes.Clone(sig), pgpSig...)), "not one block"},
		"text after":           {withSignature(append(bytes.Clone(sig), "more\n"...)), "not one block"},
		"text before":          {withSignature(append([]byte("more\n"), sig...)), "unknown kind"},
		"namespace":            {withSignature(foreign("file")), "namespace"},
		"X.509":                {withSignature([]byte("-----BEGIN SIGNED MESSAGE-----\nx\n-----END SIGNED MESSAGE-----\n")), "X.509"},
		"empty":                {commitHead + "gpgsig \n" + message, "unknown kind"},
		"broken ssh":           {withSignature([]byte("-----BEGIN SSH SIGNATURE-----\nU1NIU0lH\n-----END SSH SIGNATURE-----\n")), "damaged"},
		"broken pgp":           {withSignature([]byte("-----BEGIN PGP SIGNATURE-----\n\n====\n-----END PGP SIGNATURE-----\n")), "pgp signature"},
		"sha256":               {commitHead + "gpgsig-sha256 x\n" + gpgsig + message, "SHA-256"},
		"signature in message": {commitHead + "\n" + string(sig), "not signed"},
		"tag with header":      {strings.Replace(tagText, "\n\n", "\n"+gpgsig+"\n", 1), "header"},
		"tag and text":         {tagText + string(sign(t, s, tagText)) + "more\n", "not one block"},
		"tag signed twice":     {tagText + string(sign(t, s, tagText)) + string(sign(t, p, tagText)), "not one block"},
		"tag without message":  {"object 01\n" + string(sig), "malformed"},
	} {
		_, err := keys.Verify(t.Context(), []byte(test.object))
		if !errors.Is(err, source.ErrUnverified) || !strings.Contains(err.Error(), test.want) {
			t.Errorf("%s: %v, want %q", name, err, test.want)
		}
	}
	for name, file := range map[string]pair{"a.asc": pgpKey, "a.sshpub": sshKey} {
		one := keyring(t, map[string][]byte{name: file.public})
		other := sig
		if name == "a.sshpub" {
			other = pgpSig
		}
		if _, err := one.Verify(t.Context(), []byte(withSignature(other))); !errors.Is(err, source.ErrUnverified) || !strings.Contains(err.Error(), "add one in a file") {
			t.Errorf("no key of the kind: %v", err)
		}
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := keys.Verify(ctx, []byte(withSignature(sig))); !errors.Is(err, context.Canceled) {
		t.Errorf("cancelled: %v", err)
	}
	if _, err := s.Sign(ctx, nil); !errors.Is(err, context.Canceled) {
		t.Errorf("cancelled: %v", err)
	}
	if _, err := new(verify.Keyring).Verify(t.Context(), []byte(withSignature(sig))); !errors.Is(err, source.ErrUnverified) {
		t.Errorf("the zero keyring: %v", err)
	}
}

func TestExpiredAndRevoked(t *testing.T) {
	past := func() time.Time { return time.Now().Add(-48 * time.Hour) }
	_, expired := newPGP(t, &packet.Config{Algorithm: packet.PubKeyAlgoEdDSA, Time: past, KeyLifetimeSecs: 3600}, "")
	_, revoked := newPGP(t, ed25519PGP(), "")
	if err := revoked.RevokeKey(packet.KeyCompromised, "lost", nil); err != nil {
		t.Fatal(err)
	}
	for name, e := range map[string]*openpgp.Entity{"expired": expired, "revoked": revoked} {
		var public, sig bytes.Buffer
		w, err := armor.Encode(&public, openpgp.PublicKeyType, nil)
		if err != nil {
			t.Fatal(err)
		}
		if err := errors.Join(e.Serialize(w), w.Close()); err != nil {
			t.Fatal(err)
		}
		config := &packet.Config{Time: past}
		if name == "revoked" {
			e.Revocations = nil // who has the key does not care
			config = nil
		}
		if err := openpgp.ArmoredDetachSign(&sig, e, strings.NewReader(commitHead+message), config); err != nil {
			t.Fatal(err)
		}
		keys := keyring(t, map[string][]byte{"a.asc": public.Bytes()})
		_, err = keys.Verify(t.Context(), []byte(withSignature(sig.Bytes())))
		if !errors.Is(err, source.ErrUnverified) || !strings.Contains(err.Error(), name) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestParseKeys(t *testing.T) {
	key := newSSH(t)
	pgp, _ := newPGP(t, ed25519PGP(), "")
	other, _ := newPGP(t, ed25519PGP(), "")
	keyring(t, map[string][]byte{
		"a.sshpub": []byte("# people\n\n" + string(key.public) + "\r\n" + string(newSSH(t).public)),
		"b.asc":    append(bytes.Clone(pgp.public), other.public...),
	})
	short, err := rsa.GenerateKey(rand.Reader, 1024)
	if err != nil {
		t.Fatal(err)
	}
	for name, file := range map[string]struct {
		name string
		data []byte
	}{
		"empty ssh":       {"a.sshpub", nil},
		"comments":        {"a.sshpub", []byte("# none\n")},
		"no key":          {"a.sshpub", []byte("hello\n")},
		"good and bad":    {"a.sshpub", append(bytes.Clone(key.public), "hello\n"...)},
		"options":         {"a.sshpub", append([]byte(`command="x" `), key.public...)},
		"short rsa":       {"a.sshpub", sshPair(t, short, "").public},
		"dsa":             {"a.sshpub", dsaKey(t)},
		"certificate":     {"a.sshpub", certificate(t, key)},
		"pgp as ssh":      {"a.sshpub", pgp.public},
		"empty pgp":       {"a.asc", nil},
		"no armor":        {"a.asc", []byte("hello")},
		"ssh as pgp":      {"a.asc", key.public},
		"private pgp":     {"a.asc", pgp.private},
		"damaged":         {"a.asc", []byte("-----BEGIN PGP PUBLIC KEY BLOCK-----\n\nAAAA\n-----END PGP PUBLIC KEY BLOCK-----\n")},
		"private ssh key": {"a.sshpub", key.private},
	} {
		_, err := verify.ParseKeys(map[string][]byte{file.name: file.data, "z.asc": []byte("also wrong")})
		if !errors.Is(err, source.ErrInvalidSpec) || !strings.Contains(err.Error(), file.name) || !strings.Contains(err.Error(), "z.asc") || strings.Contains(err.Error(), "hello") {
			t.Errorf("%s: %v", name, err)
		}
	}
	if _, err := verify.ParseKeys(nil); !errors.Is(err, source.ErrInvalidSpec) {
		t.Errorf("none: %v", err)
	}
}

func dsaKey(t *testing.T) []byte {
	t.Helper()
	one := big.NewInt(5)
	p := new(big.Int).Lsh(big.NewInt(1), 1023)
	q := new(big.Int).Lsh(big.NewInt(1), 159)
	public, err := ssh.NewPublicKey(&dsa.PublicKey{Parameters: dsa.Parameters{P: p, Q: q, G: one}, Y: one})
	if err != nil {
		t.Fatal(err)
	}
	return ssh.MarshalAuthorizedKey(public)
}

func certificate(t *testing.T, key pair) []byte {
	t.Helper()
	signer, err := ssh.ParsePrivateKey(key.private)
	if err != nil {
		t.Fatal(err)
	}
	cert := &ssh.Certificate{Key: signer.PublicKey(), CertType: ssh.UserCert, ValidBefore: ssh.CertTimeInfinity}
	if err := cert.SignCert(rand.Reader, signer); err != nil {
		t.Fatal(err)
	}
	return ssh.MarshalAuthorizedKey(cert)
}

func TestNewSignerRefuses(t *testing.T) {
	_, key, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	short, err := rsa.GenerateKey(rand.Reader, 1024)
	if err != nil {
		t.Fatal(err)
	}
	encrypted := sshPair(t, key, "hush")
	pgp, _ := newPGP(t, ed25519PGP(), "hush")
	clear, _ := newPGP(t, ed25519PGP(), "")
	for name, test := range map[string]struct {
		key        []byte
		passphrase string
		want       string
	}{
		"nothing":       {nil, "", "neither"},
		"no key":        {[]byte("hello"), "", "neither"},
		"encrypted":     {encrypted.private, "", "passphrase"},
		"wrong":         {encrypted.private, "s3cret", "passphrase"},
		"encrypted pgp": {pgp.private, "", "passphrase"},
		"wrong pgp":     {pgp.private, "s3cret", "passphrase"},
		"public pgp":    {clear.public, "", "private"},
		"short":         {sshPair(t, short, "").private, "", "2048"},
		"broken pgp":    {[]byte("-----BEGIN PGP PRIVATE KEY BLOCK-----\n"), "", "armored"},
	} {
		_, err := verify.NewSigner(test.key, []byte(test.passphrase))
		if !errors.Is(err, source.ErrInvalidSpec) || !strings.Contains(err.Error(), test.want) || strings.Contains(err.Error(), "s3cret") {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func FuzzVerify(f *testing.F) {
	key := newSSH(f)
	pgp, _ := newPGP(f, ed25519PGP(), "")
	keys := keyring(f, map[string][]byte{"a.sshpub": key.public, "a.asc": pgp.public})
	f.Add([]byte(commitHead + message))
	f.Add([]byte(withSignature([]byte("-----BEGIN SSH SIGNATURE-----\nU1NIU0lH\n-----END SSH SIGNATURE-----\n"))))
	f.Add([]byte(tagText + "-----BEGIN PGP SIGNATURE-----\n\nAAAA\n-----END PGP SIGNATURE-----\n"))
	f.Fuzz(func(t *testing.T, object []byte) {
		// The keys are new: whatever verifies was not signed.
		if _, err := keys.Verify(t.Context(), object); !errors.Is(err, source.ErrUnverified) {
			t.Errorf("%q: %v", object, err)
		}
	})
}
