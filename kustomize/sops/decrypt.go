package sops

import (
	"bytes"
	"encoding/json"
	"fmt"
	"path"
	"regexp"
	"time"

	"github.com/getsops/sops/v3"
	"github.com/getsops/sops/v3/aes"
	"github.com/getsops/sops/v3/config"
	"github.com/getsops/sops/v3/stores/dotenv"
	"github.com/getsops/sops/v3/stores/ini"
	sopsjson "github.com/getsops/sops/v3/stores/json"
	"github.com/getsops/sops/v3/stores/yaml"
)

// MaxFileBytes is the size of the largest encrypted file that is decrypted.
const MaxFileBytes = 5 << 20

// DecryptAnnotation is the annotation that keeps an encrypted manifest as it
// is when its value is "disabled".
const DecryptAnnotation = "kustomize.toolkit.fluxcd.io/decrypt"

// Encrypted reports whether data is a file that SOPS has encrypted.
func Encrypted(data []byte) bool {
	return bytes.Contains(data, []byte("sops")) && (yamlMark.Match(data) || envMark.Match(data) || iniMark.Match(data) || encryptedJSON(data))
}

// The marks of an encrypted file, one for each format but JSON.
var (
	yamlMark = regexp.MustCompile(`(?m)^["']?sops["']?:\s*(#.*)?$(?s:.*?)^\s+["']?mac["']?:\s`)
	envMark  = regexp.MustCompile(`(?m)^sops_mac=`)
	iniMark  = regexp.MustCompile(`(?m)^\[sops\]\s*$(?s:.*?)^mac\s*=`)
	optOut   = regexp.MustCompile(`(?i)["']?` + regexp.QuoteMeta(DecryptAnnotation) + `["']?\s*:\s*["']?disabled\b`)
)

func encryptedJSON(data []byte) bool {
	if trimmed := bytes.TrimLeft(data, " \t\r\n"); len(trimmed) == 0 || trimmed[0] != '{' {
		return false
	}
	var doc struct {
		SOPS struct {
			MAC string `json:"mac"`
		} `json:"sops"`
	}
	return json.Unmarshal(data, &doc) == nil && doc.SOPS.MAC != ""
}

// Decrypt returns the plain text of an encrypted file. The format follows the
// extension of name: .yaml, .yml, .json, .env, .ini; any other name is binary,
// unless the content is of one of those formats.
//
// The errors are those of the package.
func (k *Keys) Decrypt(name string, data []byte) (plain []byte, err error) {
	defer func() {
		if recover() != nil { // by the library, on malformed input; its text may hold a secret
			plain, err = nil, &Error{name, ErrDamaged}
		}
	}()
	if len(data) > MaxFileBytes {
		return nil, &Error{name, fmt.Errorf("%w: %d bytes, allowed are %d", ErrLimit, len(data), MaxFileBytes)}
	}
	if plain, err = k.decrypt(format(name, data), data); err != nil {
		return nil, &Error{name, err}
	}
	return plain, nil
}

// A store reads and writes one format.
type store interface {
	LoadEncryptedFile(in []byte) (sops.Tree, error)
	EmitPlainFile(in sops.TreeBranches) ([]byte, error)
}

// format chooses the store for a file.
func format(name string, data []byte) store {
	conf := config.NewStoresConfig()
	switch path.Ext(name) {
	case ".yaml", ".yml":
		return yaml.NewStore(&conf.YAML)
	case ".json", ".dockerconfigjson":
		return sopsjson.NewStore(&conf.JSON)
	case ".env":
		return dotenv.NewStore(&conf.Dotenv)
	case ".ini":
		return ini.NewStore(&conf.INI)
	}
	switch {
	case encryptedJSON(data):
		return sopsjson.NewBinaryStore(&conf.JSONBinary)
	case envMark.Match(data):
		return dotenv.NewStore(&conf.Dotenv)
	case iniMark.Match(data):
		return ini.NewStore(&conf.INI)
	}
	return yaml.NewStore(&conf.YAML)
}

// decrypt does what the program sops does. Errors of the library are dropped,
// because they may quote the text.
func (k *Keys) decrypt(store store, data []byte) ([]byte, error) {
	tree, err := store.LoadEncryptedFile(data)
	if err != nil {
		return nil, fmt.Errorf("%w: its structure cannot be read", ErrDamaged)
	}
	key, err := k.dataKey(&tree.Metadata)
	if err != nil {
		return nil, err
	}
	cipher := aes.NewCipher()
	computed, err := tree.Decrypt(key, cipher)
	if err != nil {
		return nil, fmt.Errorf("%w: a value cannot be decrypted", ErrDamaged)
	}
	stored, err := cipher.Decrypt(tree.Metadata.MessageAuthenticationCode, key, tree.Metadata.LastModified.Format(time.RFC3339))
	if err != nil || stored != computed {
		return nil, fmt.Errorf("%w: the message authentication code does not match: encrypt the file again", ErrDamaged)
	}
	plain, err := store.EmitPlainFile(tree.Branches)
	if err != nil {
		return nil, fmt.Errorf("%w: its plain text is not of its format", ErrDamaged)
	}
	return plain, nil
}
