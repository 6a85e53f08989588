package secrets

import (
	"encoding/base64"
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/google/go-containerregistry/pkg/authn"
)

// Keychain returns the credentials of the entry .dockerconfigjson, as in Secrets of type kubernetes.io/dockerconfigjson,
// or of its older form .dockercfg. A registry that has none is used anonymously. Credential helpers are ignored:
// nothing is executed.
//
// A registry is matched by its host, and by the longest path that is given for it; a host may begin with "*." for all
// names below.
func Keychain(data map[string][]byte) (authn.Keychain, error) {
	name := pick(data, ".dockerconfigjson", ".dockercfg")
	content, err := entry(data, name)
	if err != nil {
		return nil, err
	}
	var file struct {
		Auths map[string]authn.AuthConfig `json:"auths"`
	}
	if name == ".dockercfg" {
		err = json.Unmarshal(content, &file.Auths)
	} else {
		err = json.Unmarshal(content, &file)
	}
	if err != nil {
		return nil, &Error{name, fmt.Errorf("%w: it is no JSON of the form {\"auths\": {…}}", ErrInvalid)}
	}
	k := keychain{}
	for _, registry := range slices.Sorted(maps.Keys(file.Auths)) {
		auth := file.Auths[registry]
		if auth.Auth != "" && auth.Username == "" {
			text, err := base64.StdEncoding.DecodeString(auth.Auth)
			user, password, ok := strings.Cut(string(text), ":")
			if err != nil || !ok {
				return nil, &Error{name, fmt.Errorf("%w: the auth of %s is not base64 of user:password", ErrInvalid, shown(registry))}
			}
			auth.Username, auth.Password, auth.Auth = user, strings.TrimRight(password, "\x00"), ""
		}
		k[normal(registry)] = auth
	}
	return k, nil
}

// shown is the name of a registry as errors have it: not at all, if it looks like more than a name.
func shown(registry string) string {
	registry = normal(registry)
	if len(registry) > 200 || strings.ContainsFunc(registry, func(r rune) bool { return r <= ' ' || r >= 0x7f || strings.ContainsRune("@?#%", r) }) {
		return "a registry"
	}
	return fmt.Sprintf("%q", registry)
}

// normal brings the names of registries into one form: host and path, without
// scheme and version.
func normal(name string) string {
	name = strings.TrimPrefix(strings.TrimPrefix(name, "https://"), "http://")
	name = strings.TrimSuffix(strings.TrimSuffix(strings.TrimSuffix(name, "/"), "/v1"), "/v2")
	if name == "docker.io" || name == "registry-1.docker.io" {
		name = "index.docker.io"
	}
	return name
}

// keychain is the credentials by registry, or registry and path.
type keychain map[string]authn.AuthConfig

// Resolve returns the credentials for a registry or repository.
func (k keychain) Resolve(target authn.Resource) (authn.Authenticator, error) {
	for name := normal(target.String()); ; {
		if auth, ok := k.lookup(name); ok {
			return authn.FromConfig(auth), nil
		}
		i := strings.LastIndexByte(name, '/')
		if i < 0 {
			return authn.Anonymous, nil
		}
		name = name[:i]
	}
}

func (k keychain) lookup(name string) (authn.AuthConfig, bool) {
	if auth, ok := k[name]; ok {
		return auth, true
	}
	host, path, _ := strings.Cut(name, "/")
	for parent := host; ; {
		_, rest, ok := strings.Cut(parent, ".")
		if !ok {
			return authn.AuthConfig{}, false
		}
		wild := "*." + rest
		if path != "" {
			wild += "/" + path
		}
		if auth, ok := k[wild]; ok {
			return auth, true
		}
		parent = rest
	}
}
