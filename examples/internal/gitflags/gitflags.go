// Package gitflags gives example programs the flags for a Git repository and
// its credentials.
package gitflags

import (
	"flag"
	"fmt"
	"os"
	"strings"

	"github.com/gitopskit/gitopskit/source/git"
)

// PasswordVariable is the environment variable with the password or token.
const PasswordVariable = "GITOPSKIT_PASSWORD"

// Flags are the values given on the command line.
type Flags struct {
	URL, Path string
	Ref       git.Ref

	username, passwordFile, identity, knownHosts string
}

// Register adds the flags to a set.
func (f *Flags) Register(set *flag.FlagSet) {
	set.StringVar(&f.URL, "url", "", "repository to reconcile: http://, https:// or ssh:// (default: a demo repository, with a tour)")
	set.StringVar(&f.Path, "path", ".", "directory in the repository")
	set.StringVar(&f.Ref.Branch, "branch", "", "branch to follow (default: the repository's own)")
	set.StringVar(&f.Ref.Tag, "tag", "", "tag to follow")
	set.StringVar(&f.Ref.Commit, "commit", "", "commit to stay at, the full hash")
	set.StringVar(&f.username, "username", "", "user name for http; the password is in $"+PasswordVariable+" or -password-file")
	set.StringVar(&f.passwordFile, "password-file", "", "file with the password; without -username it is sent as a bearer token")
	set.StringVar(&f.identity, "identity", "", "file with the private key for ssh; a password is its passphrase")
	set.StringVar(&f.knownHosts, "known-hosts", "", "file with the host keys for ssh")
}

// Source returns the repository that the flags describe.
func (f *Flags) Source() (*git.Source, error) {
	auth, err := f.auth()
	if err != nil {
		return nil, err
	}
	return git.New(f.URL, &git.Options{Ref: f.Ref, Auth: auth})
}

func (f *Flags) auth() (git.Auth, error) {
	password := os.Getenv(PasswordVariable)
	if f.passwordFile != "" {
		data, err := os.ReadFile(f.passwordFile)
		if err != nil {
			return nil, fmt.Errorf("-password-file: %w", err)
		}
		password = strings.TrimRight(string(data), "\r\n")
	}
	switch {
	case f.identity != "":
		key, err := os.ReadFile(f.identity)
		if err != nil {
			return nil, fmt.Errorf("-identity: %w", err)
		}
		hosts, err := os.ReadFile(f.knownHosts)
		if err != nil {
			return nil, fmt.Errorf("-identity needs -known-hosts: %w", err)
		}
		return git.SSH{PrivateKey: key, Passphrase: []byte(password), KnownHosts: hosts, User: f.username}, nil
	case f.username != "":
		return git.Basic{Username: f.username, Password: password}, nil
	case password != "":
		return git.Token(password), nil
	}
	return nil, nil // nil is "nobody"
}
