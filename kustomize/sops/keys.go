package sops

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/getsops/sops/v3"
	"github.com/getsops/sops/v3/age"
	"github.com/getsops/sops/v3/keyservice"
	"google.golang.org/grpc"
)

// Keys open encrypted files. They come from [ParseKeys]; the zero value opens
// nothing. Keys are safe for concurrent use.
type Keys struct {
	age age.ParsedIdentities
}

// ParseKeys reads keys from the data of a Secret, in the form of Flux's
// spec.decryption.secretRef: the value of each entry whose name ends in
// .agekey holds age identities, one a line, with # for comments.
//
// Entries for OpenPGP (.asc), Vault (sops.vault-token) and the clouds
// (sops.aws-kms, sops.azure-kv, sops.gcp-kms) are [ErrUnsupported]; other
// entries are ignored. Without one identity the error is [ErrInvalid].
func ParseKeys(data map[string][]byte) (*Keys, error) {
	k := &Keys{}
	var failed []error
	for _, name := range slices.Sorted(maps.Keys(data)) {
		switch {
		case strings.HasSuffix(name, ".agekey") && plugin(data[name]):
			failed = append(failed, &Error{name, fmt.Errorf("%w: identities of plug-ins, which are programs", ErrUnsupported)})
		case strings.HasSuffix(name, ".agekey"):
			// The library repeats the line that it cannot read, which is a secret.
			if err := k.age.Import(string(data[name])); err != nil {
				failed = append(failed, &Error{name, fmt.Errorf("%w: this is no list of age identities: each line starts with AGE-SECRET-KEY-1", ErrInvalid)})
			}
		case strings.HasSuffix(name, ".asc"), slices.Contains(unsupported(), name):
			failed = append(failed, &Error{name, fmt.Errorf("%w: keys of this kind: use age (.agekey)", ErrUnsupported)})
		}
	}
	if len(k.age) == 0 && len(failed) == 0 {
		failed = append(failed, &Error{"keys", fmt.Errorf("%w: there is no entry whose name ends in .agekey", ErrInvalid)})
	}
	if err := errors.Join(failed...); err != nil {
		return nil, err
	}
	return k, nil
}

// plugin reports whether identities need a program: the library would run it.
func plugin(identities []byte) bool {
	for line := range strings.Lines(string(identities)) {
		if line = strings.TrimSpace(line); line != "" && line[0] != '#' && !strings.HasPrefix(line, "AGE-SECRET-KEY-") {
			return strings.HasPrefix(strings.ToUpper(line), "AGE-PLUGIN-")
		}
	}
	return strings.Contains(strings.ToUpper(string(identities)), "AGE-PLUGIN-")
}

func unsupported() []string {
	return []string{"sops.vault-token", "sops.aws-kms", "sops.azure-kv", "sops.gcp-kms"}
}

// dataKey opens the data key of a file.
func (k *Keys) dataKey(m *sops.Metadata) ([]byte, error) {
	key, err := m.GetDataKeyWithKeyServices([]keyservice.KeyServiceClient{service{k}}, []string{"age"})
	if err != nil {
		return nil, fmt.Errorf("%w: it was encrypted for %s", ErrNoKey, recipients(m))
	}
	return key, nil
}

// recipients lists whom a file was encrypted for, by their public names.
func recipients(m *sops.Metadata) string {
	var names []string
	for _, group := range m.KeyGroups {
		for _, key := range group {
			names = append(names, key.TypeToIdentifier()+" "+key.ToString())
		}
	}
	if len(names) == 0 {
		return "nobody"
	}
	const most = 10
	if len(names) > most {
		names = append(names[:most], "…")
	}
	return strings.Join(names, ", ")
}

// service answers the library's questions for data keys from the identities at
// hand, and from nowhere else.
type service struct{ keys *Keys }

func (s service) Decrypt(_ context.Context, req *keyservice.DecryptRequest, _ ...grpc.CallOption) (*keyservice.DecryptResponse, error) {
	recipient := req.GetKey().GetAgeKey()
	if recipient == nil || len(s.keys.age) == 0 {
		return nil, ErrUnsupported
	}
	master := &age.MasterKey{Recipient: recipient.GetRecipient(), EncryptedKey: string(req.GetCiphertext())}
	s.keys.age.ApplyToMasterKey(master)
	key, err := master.Decrypt()
	if err != nil {
		return nil, ErrNoKey
	}
	return &keyservice.DecryptResponse{Plaintext: key}, nil
}

func (service) Encrypt(context.Context, *keyservice.EncryptRequest, ...grpc.CallOption) (*keyservice.EncryptResponse, error) {
	return nil, ErrUnsupported
}
