package secrets

import (
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strings"
)

// Key is a file with keys, by its entry.
type Key struct {
	// Name is the entry.
	Name string
	// Content is what it holds.
	Content []byte
}

// String shows the name.
func (k Key) String() string { return k.Name }

// GoString shows the name.
func (k Key) GoString() string { return "secrets.Key{" + k.Name + "}" }

// choose returns the entries that f wants, by name.
func choose(data map[string][]byte, f func(name string) bool) ([]Key, error) {
	var out []Key
	for _, name := range slices.Sorted(maps.Keys(data)) {
		if len(data[name]) == 0 || !f(name) {
			continue
		}
		content, err := entry(data, name)
		if err != nil {
			return nil, err
		}
		out = append(out, Key{name, content})
	}
	return out, nil
}

func suffixed(suffixes ...string) func(string) bool {
	return func(name string) bool {
		return slices.ContainsFunc(suffixes, func(s string) bool { return strings.HasSuffix(name, s) })
	}
}

// DecryptionKeys is what SOPS decrypts with.
type DecryptionKeys struct {
	// PGP are armored OpenPGP private keys, of entries that end in .asc; Age are lists of age identities, of entries
	// that end in .agekey.
	PGP, Age []Key
	// VaultToken is the entry sops.vault-token; AWS, Azure and GCP are sops.aws-kms, sops.azure-kv and sops.gcp-kms.
	VaultToken      string
	AWS, Azure, GCP []byte
}

// String shows the names of the keys.
func (k *DecryptionKeys) String() string {
	return fmt.Sprintf("keys %v", append(slices.Clone(k.PGP), k.Age...))
}

// GoString shows what String does.
func (k *DecryptionKeys) GoString() string { return "secrets.DecryptionKeys{" + k.String() + "}" }

// Decryption returns the keys of a Secret for SOPS, by the suffix or the name of their entries. Others are ignored;
// none at all is an error.
func Decryption(data map[string][]byte) (*DecryptionKeys, error) {
	k := &DecryptionKeys{}
	var err error
	if k.PGP, err = choose(data, suffixed(".asc")); err != nil {
		return nil, err
	}
	if k.Age, err = choose(data, suffixed(".agekey")); err != nil {
		return nil, err
	}
	if Has(data, "sops.vault-token") { // files made with an editor end in a line break
		trimmed := map[string][]byte{"sops.vault-token": []byte(strings.TrimSpace(string(data["sops.vault-token"])))}
		if k.VaultToken, err = text(trimmed, "sops.vault-token", true); err != nil {
			return nil, err
		}
	}
	for name, to := range map[string]*[]byte{"sops.aws-kms": &k.AWS, "sops.azure-kv": &k.Azure, "sops.gcp-kms": &k.GCP} {
		if *to, err = optional(data, name); err != nil {
			return nil, err
		}
	}
	if len(k.PGP)+len(k.Age)+len(k.VaultToken)+len(k.AWS)+len(k.Azure)+len(k.GCP) == 0 {
		return nil, &Error{"*.agekey, *.asc or sops.*", ErrMissing}
	}
	return k, nil
}

// GitKeys returns public keys that commits and tags are verified with: SSH keys of entries that end in .sshpub, as in
// authorized_keys, and armored OpenPGP keys of all others. None is an error.
func GitKeys(data map[string][]byte) (pgp, ssh []Key, err error) {
	if ssh, err = choose(data, suffixed(".sshpub")); err != nil {
		return nil, nil, err
	}
	if pgp, err = choose(data, func(name string) bool { return !strings.HasSuffix(name, ".sshpub") }); err != nil {
		return nil, nil, err
	}
	if len(pgp)+len(ssh) == 0 {
		return nil, nil, &Error{"*.asc or *.sshpub", ErrMissing}
	}
	return pgp, ssh, nil
}

// CosignKeys returns public keys of cosign: the entries that end in .pub. None is an error.
func CosignKeys(data map[string][]byte) ([]Key, error) {
	keys, err := choose(data, suffixed(".pub"))
	if err == nil && len(keys) == 0 {
		err = &Error{"*.pub", ErrMissing}
	}
	return keys, err
}

// NotationTrust is what Notation verifies with.
type NotationTrust struct {
	// Policy is the trust policy, a JSON document.
	Policy []byte
	// Certificates are those of the authorities.
	Certificates []Key
}

// Notation returns the entry trustpolicy.json and the certificates of entries that end in .crt or .pem; both are
// required.
func Notation(data map[string][]byte) (*NotationTrust, error) {
	const name = "trustpolicy.json"
	policy, err := entry(data, name)
	if err != nil {
		return nil, err
	}
	if !json.Valid(policy) {
		return nil, &Error{name, fmt.Errorf("%w: it is no JSON", ErrInvalid)}
	}
	certificates, err := choose(data, suffixed(".crt", ".pem"))
	if err == nil && len(certificates) == 0 {
		err = &Error{"*.crt or *.pem", ErrMissing}
	}
	if err != nil {
		return nil, err
	}
	return &NotationTrust{Policy: policy, Certificates: certificates}, nil
}

// TrustedRoot returns the entry trusted_root.json of cosign without keys: a JSON document.
func TrustedRoot(data map[string][]byte) ([]byte, error) {
	const name = "trusted_root.json"
	root, err := entry(data, name)
	if err == nil && !json.Valid(root) {
		err = &Error{name, fmt.Errorf("%w: it is no JSON", ErrInvalid)}
	}
	if err != nil {
		return nil, err
	}
	return root, nil
}

// SigningKey is a private key that commits are signed with.
type SigningKey struct {
	// Private is an armored OpenPGP key, or an SSH key in PEM form.
	Private []byte
	// SSH tells which.
	SSH bool
	// Passphrase opens it; empty if it needs none.
	Passphrase []byte
}

// String tells the kind.
func (k *SigningKey) String() string {
	if k.SSH {
		return "SSH signing key"
	}
	return "OpenPGP signing key"
}

// GoString shows what String does.
func (k *SigningKey) GoString() string { return "secrets.SigningKey{" + k.String() + "}" }

// Signing returns the entry git.asc with passphrase, or, where that is missing, identity with password.
func Signing(data map[string][]byte) (*SigningKey, error) {
	k := &SigningKey{SSH: !Has(data, "git.asc") && Has(data, "identity")}
	private, passphrase := "git.asc", "passphrase"
	if k.SSH {
		private, passphrase = "identity", "password"
	}
	var err error
	if k.Private, err = entry(data, private); err != nil {
		return nil, err
	}
	if k.Passphrase, err = optional(data, passphrase); err != nil {
		return nil, err
	}
	return k, nil
}
