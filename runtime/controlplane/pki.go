package controlplane

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"fmt"
	"io/fs"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"time"
)

// Names of the files below the directory of a control plane.
const (
	pkiDir         = "pki"
	caCertFile     = "pki/ca.crt"
	caKeyFile      = "pki/ca.key"
	serverCertFile = "pki/server.crt"
	serverKeyFile  = "pki/server.key"
	saKeyFile      = "pki/sa.key"
	kubeconfigFile = "kubeconfig"
	portFile       = "port"
	etcdDir        = "etcd"
	etcdSocket     = "etcd.sock"
	lockFile       = "lock"
)

// serviceIP is the address of the service "kubernetes", the first of the service range.
const (
	serviceRange = "10.0.0.0/16"
	serviceIP    = "10.0.0.1"
)

const certLifetime = 10 * 365 * 24 * time.Hour

// keyPair is a certificate and its key in PEM.
type keyPair struct{ cert, key []byte }

// pki is what the parent process needs of a control plane's keys.
type pki struct {
	ca    keyPair
	admin keyPair
}

// preparePKI makes the keys of a control plane in dir. The authority and the key that signs service account tokens are
// kept when they exist, so that a kubeconfig and tokens given out before a restart stay good; the serving certificate and
// the administrator's are issued anew.
func preparePKI(dir string) (*pki, error) {
	if err := os.MkdirAll(filepath.Join(dir, pkiDir), 0o700); err != nil {
		return nil, err
	}
	ca, err := loadOrCreate(dir, caCertFile, caKeyFile, newAuthority)
	if err != nil {
		return nil, err
	}
	if _, err := loadOrCreate(dir, "", saKeyFile, newSigningKey); err != nil {
		return nil, err
	}
	issuer, err := tls.X509KeyPair(ca.cert, ca.key)
	if err != nil {
		return nil, fmt.Errorf("read certificate authority in %s: %w", filepath.Join(dir, pkiDir), err)
	}
	server, err := issue(&issuer, &x509.Certificate{
		Subject:     pkix.Name{CommonName: "kube-apiserver"},
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
		DNSNames:    []string{"localhost", "kubernetes", "kubernetes.default", "kubernetes.default.svc", "kubernetes.default.svc.cluster.local"},
		IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1), net.IPv6loopback, net.ParseIP(serviceIP)},
	})
	if err != nil {
		return nil, err
	}
	if err := errors.Join(
		writeSecret(filepath.Join(dir, serverCertFile), server.cert),
		writeSecret(filepath.Join(dir, serverKeyFile), server.key),
	); err != nil {
		return nil, err
	}
	admin, err := issue(&issuer, &x509.Certificate{
		Subject:     pkix.Name{CommonName: "admin", Organization: []string{"system:masters"}},
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth},
	})
	if err != nil {
		return nil, err
	}
	return &pki{ca: ca, admin: admin}, nil
}

// loadOrCreate reads a key pair from dir or creates and writes it. An empty certificate name means a key alone.
func loadOrCreate(dir, certName, keyName string, create func() (keyPair, error)) (keyPair, error) {
	key, err := os.ReadFile(filepath.Join(dir, keyName))
	if err == nil {
		pair := keyPair{key: key}
		if certName != "" {
			pair.cert, err = os.ReadFile(filepath.Join(dir, certName))
		}
		return pair, err
	}
	if !errors.Is(err, fs.ErrNotExist) {
		return keyPair{}, err
	}
	pair, err := create()
	if err != nil {
		return keyPair{}, err
	}
	if certName != "" {
		if err := writeSecret(filepath.Join(dir, certName), pair.cert); err != nil {
			return keyPair{}, err
		}
	}
	return pair, writeSecret(filepath.Join(dir, keyName), pair.key)
}

func newAuthority() (keyPair, error) {
	return issue(nil, &x509.Certificate{
		Subject:               pkix.Name{CommonName: "gitopskit control plane"},
		IsCA:                  true,
		BasicConstraintsValid: true,
		KeyUsage:              x509.KeyUsageCertSign | x509.KeyUsageDigitalSignature,
	})
}

func newSigningKey() (keyPair, error) {
	_, encoded, err := newKey()
	return keyPair{key: encoded}, err
}

// issue completes the template and signs it with the issuer, or with its own key when there is none.
func issue(issuer *tls.Certificate, template *x509.Certificate) (keyPair, error) {
	key, encodedKey, err := newKey()
	if err != nil {
		return keyPair{}, err
	}
	template.SerialNumber, err = rand.Int(rand.Reader, new(big.Int).Lsh(big.NewInt(1), 120))
	if err != nil {
		return keyPair{}, err
	}
	template.NotBefore = time.Now().Add(-5 * time.Minute)
	template.NotAfter = time.Now().Add(certLifetime)
	if template.KeyUsage == 0 {
		template.KeyUsage = x509.KeyUsageDigitalSignature
	}
	parent, signer := template, any(key)
	if issuer != nil {
		parent, signer = issuer.Leaf, issuer.PrivateKey
	}
	der, err := x509.CreateCertificate(rand.Reader, template, parent, &key.PublicKey, signer)
	if err != nil {
		return keyPair{}, fmt.Errorf("sign certificate for %s: %w", template.Subject.CommonName, err)
	}
	return keyPair{cert: pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}), key: encodedKey}, nil
}

func newKey() (*ecdsa.PrivateKey, []byte, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, nil, err
	}
	der, err := x509.MarshalECPrivateKey(key)
	if err != nil {
		return nil, nil, err
	}
	return key, pem.EncodeToMemory(&pem.Block{Type: "EC PRIVATE KEY", Bytes: der}), nil
}

// writeSecret replaces the file at path atomically with one that only the user can read.
func writeSecret(path string, data []byte) error {
	f, err := os.CreateTemp(filepath.Dir(path), ".tmp-*")
	if err != nil {
		return err
	}
	_, err = f.Write(data)
	err = errors.Join(err, f.Chmod(0o600), f.Close())
	if err == nil {
		err = os.Rename(f.Name(), path)
	}
	if err != nil {
		return errors.Join(err, os.Remove(f.Name()))
	}
	return nil
}
