package git

import (
	"bytes"
	"crypto/hmac"
	"crypto/sha1" // the format's own hash for host names
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"net"
	"slices"
	"strings"

	"golang.org/x/crypto/ssh"
)

// knownHosts are the lines of a known_hosts file (sshd(8), SSH_KNOWN_HOSTS).
type knownHosts []knownHost

type knownHost struct {
	hosts  []string
	key    ssh.PublicKey
	marker string // "", "cert-authority" or "revoked"
}

func parseKnownHosts(data []byte) (knownHosts, error) {
	var known knownHosts
	for rest := data; ; {
		var h knownHost
		var err error
		h.marker, h.hosts, h.key, _, rest, err = ssh.ParseKnownHosts(rest)
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return nil, fmt.Errorf("SSH.KnownHosts: entry %d: %w", len(known)+1, err)
		}
		known = append(known, h)
	}
	if len(known) == 0 {
		return nil, errors.New("SSH.KnownHosts has no entry")
	}
	return known, nil
}

// hostKeyError says why a host's key is not accepted.
type hostKeyError struct{ text string }

func (e *hostKeyError) Error() string { return e.text }

// check is an ssh.HostKeyCallback.
func (k knownHosts) check(addr string, remote net.Addr, key ssh.PublicKey) error {
	checker := &ssh.CertChecker{
		IsHostAuthority: func(ca ssh.PublicKey, addr string) bool { return k.lists("cert-authority", addr, ca) },
		IsRevoked: func(c *ssh.Certificate) bool {
			return k.lists("revoked", addr, c.Key) || k.lists("revoked", addr, c.SignatureKey)
		},
		HostKeyFallback: k.checkPlain,
	}
	err := checker.CheckHostKey(addr, remote, key)
	var own *hostKeyError
	if err == nil || errors.As(err, &own) {
		return err
	}
	return &hostKeyError{fmt.Sprintf("the certificate of host %s is not accepted: %v", addr, err)}
}

func (k knownHosts) checkPlain(addr string, _ net.Addr, key ssh.PublicKey) error {
	presented := key.Type() + " " + ssh.FingerprintSHA256(key)
	if k.lists("revoked", addr, key) {
		return &hostKeyError{fmt.Sprintf("host %s presented the revoked key %s", addr, presented)}
	}
	if k.lists("", addr, key) {
		return nil
	}
	var listed []string
	for _, h := range k {
		if h.marker == "" && h.matches(addr) {
			listed = append(listed, h.key.Type()+" "+ssh.FingerprintSHA256(h.key))
		}
	}
	if len(listed) == 0 {
		return &hostKeyError{fmt.Sprintf("host %s presented the key %s, and SSH.KnownHosts has no entry for %s",
			addr, presented, normalize(addr))}
	}
	return &hostKeyError{fmt.Sprintf("host %s presented the key %s, SSH.KnownHosts lists %s: somebody may be in between, or the host has a new key",
		addr, presented, strings.Join(listed, ", "))}
}

// lists says whether a line with that marker has the key for the address.
func (k knownHosts) lists(marker, addr string, key ssh.PublicKey) bool {
	want := key.Marshal()
	return slices.ContainsFunc(k, func(h knownHost) bool {
		return h.marker == marker && bytes.Equal(h.key.Marshal(), want) && h.matches(addr)
	})
}

// algorithms are the host key algorithms to ask for: those of the keys that
// are known, or the server may present a key of another type. None known
// means all, so that the error can show the key the server has.
func (k knownHosts) algorithms(addr string) []string {
	var list []string
	add := func(names ...string) {
		for _, name := range names {
			if !slices.Contains(list, name) {
				list = append(list, name)
			}
		}
	}
	for _, h := range k {
		if !h.matches(addr) {
			continue
		}
		switch {
		case h.marker == "cert-authority":
			// The authority's own type says nothing about the host's.
			add(ssh.CertAlgoED25519v01, ssh.CertAlgoECDSA256v01, ssh.CertAlgoECDSA384v01, ssh.CertAlgoECDSA521v01,
				ssh.CertAlgoRSASHA512v01, ssh.CertAlgoRSASHA256v01)
		case h.marker != "":
		case h.key.Type() == ssh.KeyAlgoRSA:
			add(ssh.KeyAlgoRSASHA512, ssh.KeyAlgoRSASHA256) // never SHA-1
		default:
			add(h.key.Type())
		}
	}
	return list
}

// matches applies a line's names to an address "host:port". A negated pattern
// that matches takes the whole line out.
func (h knownHost) matches(addr string) bool {
	name := normalize(addr)
	found := false
	for _, pattern := range h.hosts {
		pattern, negated := strings.CutPrefix(pattern, "!")
		if !matchHost(pattern, name) {
			continue
		}
		if negated {
			return false
		}
		found = true
	}
	return found
}

// normalize writes an address as known_hosts does: "host" for port 22,
// "[host]:port" otherwise.
func normalize(addr string) string {
	host, port, err := net.SplitHostPort(addr)
	if err != nil {
		return strings.ToLower(addr)
	}
	host = strings.ToLower(host)
	if port == "22" {
		return host
	}
	return "[" + host + "]:" + port
}

func matchHost(pattern, name string) bool {
	if hashed, ok := strings.CutPrefix(pattern, "|1|"); ok {
		return matchHashed(hashed, name)
	}
	pattern = strings.ToLower(pattern)
	if bare, ok := strings.CutSuffix(pattern, "]:22"); ok {
		pattern = strings.TrimPrefix(bare, "[")
	}
	return wildcard(pattern, name)
}

func matchHashed(hashed, name string) bool {
	salt64, sum64, ok := strings.Cut(hashed, "|")
	salt, err1 := base64.StdEncoding.DecodeString(salt64)
	sum, err2 := base64.StdEncoding.DecodeString(sum64)
	if !ok || err1 != nil || err2 != nil {
		return false
	}
	mac := hmac.New(sha1.New, salt)
	mac.Write([]byte(name))
	return hmac.Equal(mac.Sum(nil), sum)
}

// wildcard matches "*" and "?" in linear space and without recursion.
func wildcard(pattern, name string) bool {
	p, n, star, mark := 0, 0, -1, 0
	for n < len(name) {
		switch {
		case p < len(pattern) && (pattern[p] == '?' || pattern[p] == name[n]) && pattern[p] != '*':
			p, n = p+1, n+1
		case p < len(pattern) && pattern[p] == '*':
			star, mark = p, n
			p++
		case star >= 0:
			mark++
			p, n = star+1, mark
		default:
			return false
		}
	}
	return strings.Trim(pattern[p:], "*") == ""
}
