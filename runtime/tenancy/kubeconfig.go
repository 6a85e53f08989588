package tenancy

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"

	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"
	"k8s.io/client-go/tools/clientcmd/api"
)

// KubeconfigError says what is wrong with a kubeconfig.
type KubeconfigError struct {
	// Field is the path of the field at fault; empty if the whole cannot be read.
	Field string
	// Err is the cause.
	Err error
}

func (e *KubeconfigError) Error() string {
	if e.Field == "" {
		return "kubeconfig: " + e.Err.Error()
	}
	return "kubeconfig: " + e.Field + ": " + e.Err.Error()
}

// Unwrap returns the cause.
func (e *KubeconfigError) Unwrap() error { return e.Err }

// ErrNotAllowed: a kubeconfig would run a program, read a file, or not verify
// the server.
var ErrNotAllowed = errors.New("not allowed")

// Config reads a kubeconfig that comes from a tenant. What it refers to must
// be in it: exec and auth-provider, paths of files, and
// insecure-skip-tls-verify are refused with [ErrNotAllowed]. Every error is, or
// joins, a *[KubeconfigError].
func Config(kubeconfig []byte) (*rest.Config, error) {
	file, err := clientcmd.Load(kubeconfig)
	if err != nil {
		return nil, &KubeconfigError{Err: errors.New("it cannot be read: it is no YAML of kind Config")}
	}
	if err := allowed(file); err != nil {
		return nil, err
	}
	config, err := clientcmd.NewDefaultClientConfig(*file, &clientcmd.ConfigOverrides{}).ClientConfig()
	if err != nil {
		return nil, &KubeconfigError{Err: err}
	}
	return config, nil
}

func allowed(file *api.Config) error {
	var errs []error
	refuse := func(set bool, format string, args ...any) {
		if set {
			errs = append(errs, &KubeconfigError{Field: fmt.Sprintf(format, args...), Err: ErrNotAllowed})
		}
	}
	for _, name := range slices.Sorted(maps.Keys(file.Clusters)) {
		c := file.Clusters[name]
		refuse(!strings.HasPrefix(c.Server, "https://"), "cluster %q: server without https", name)
		refuse(c.InsecureSkipTLSVerify, "cluster %q: insecure-skip-tls-verify", name)
		refuse(c.CertificateAuthority != "", "cluster %q: certificate-authority", name)
	}
	for _, name := range slices.Sorted(maps.Keys(file.AuthInfos)) {
		u := file.AuthInfos[name]
		refuse(u.Exec != nil, "user %q: exec", name)
		refuse(u.AuthProvider != nil, "user %q: auth-provider", name)
		refuse(u.ClientCertificate != "", "user %q: client-certificate", name)
		refuse(u.ClientKey != "", "user %q: client-key", name)
		refuse(u.TokenFile != "", "user %q: tokenFile", name)
	}
	return errors.Join(errs...)
}
