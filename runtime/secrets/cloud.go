package secrets

import (
	"encoding/json"
	"fmt"
	"net/url"
)

// AccessKey returns the entries accesskey and secretkey of a bucket, and sessiontoken, which may be missing.
func AccessKey(data map[string][]byte) (id, secret, session string, err error) {
	t, err := texts(data, "accesskey", "secretkey", "sessiontoken?")
	if err != nil {
		return "", "", "", err
	}
	return t[0], t[1], t[2], nil
}

// ServiceAccountKey returns the entry serviceaccount: the JSON key file of a Google service account, as it is. It is
// checked to be one that needs nothing else: no program, no file, no other place to fetch credentials from.
func ServiceAccountKey(data map[string][]byte) ([]byte, error) {
	const name = "serviceaccount"
	content, err := entry(data, name)
	if err != nil {
		return nil, err
	}
	var file struct {
		Type  string `json:"type"`
		Email string `json:"client_email"`
		Key   string `json:"private_key"`
	}
	if json.Unmarshal(content, &file) != nil {
		return nil, &Error{name, fmt.Errorf("%w: it is no JSON of a key file", ErrInvalid)}
	}
	if file.Type != "service_account" || file.Email == "" || file.Key == "" {
		return nil, &Error{name, fmt.Errorf("%w: it is not of the type service_account with client_email and private_key", ErrInvalid)}
	}
	return content, nil
}

// AzureKind is a way to log in to Azure.
type AzureKind string

// The ways to log in to Azure, in the order in which a Secret that has several means them.
const (
	AzureClientSecret      AzureKind = "client secret"
	AzureClientCertificate AzureKind = "client certificate"
	AzureManagedIdentity   AzureKind = "managed identity"
	AzureSharedKey         AzureKind = "shared key"
	AzureSAS               AzureKind = "shared access signature"
)

// AzureCredential is how to log in to Azure. Which fields count is told by Kind.
type AzureCredential struct {
	Kind                 AzureKind
	TenantID, ClientID   string
	ClientSecret         string
	ClientCertificate    []byte // PEM or PKCS #12
	CertificatePassword  []byte
	SendCertificateChain bool
	AccountKey, SAS      string
	// Authority is where to log in; nil is the public cloud's.
	Authority *url.URL
}

// String shows the kind and nothing else.
func (c AzureCredential) String() string { return "azure credential: " + string(c.Kind) }

// GoString shows what String does.
func (c AzureCredential) GoString() string { return "secrets.AzureCredential{" + string(c.Kind) + "}" }

// Azure returns the first of these that is there: tenantId, clientId and clientSecret; tenantId, clientId and
// clientCertificate, with clientCertificatePassword and clientCertificateSendChain; clientId; accountKey; sasKey. To
// the first three belongs authorityHost, an HTTPS URL.
func Azure(data map[string][]byte) (*AzureCredential, error) {
	c := &AzureCredential{}
	t, err := texts(data, "tenantId?", "clientId?", "clientSecret?", "accountKey?", "sasKey?", "authorityHost?", "clientCertificateSendChain?")
	if err != nil {
		return nil, err
	}
	c.TenantID, c.ClientID = t[0], t[1]
	switch {
	case Has(data, "tenantId", "clientId", "clientSecret"):
		c.Kind, c.ClientSecret = AzureClientSecret, t[2]
	case Has(data, "tenantId", "clientId", "clientCertificate"):
		c.Kind, c.SendCertificateChain = AzureClientCertificate, t[6] == "1" || t[6] == "true"
		if c.ClientCertificate, err = entry(data, "clientCertificate"); err == nil {
			c.CertificatePassword, err = optional(data, "clientCertificatePassword")
		}
		if err != nil {
			return nil, err
		}
	case Has(data, "tenantId"):
		return nil, &Error{"clientSecret or clientCertificate", fmt.Errorf("%w: tenantId and clientId need one of them, and each other", ErrMissing)}
	case Has(data, "clientId"):
		c.Kind = AzureManagedIdentity
	case Has(data, "accountKey"):
		return &AzureCredential{Kind: AzureSharedKey, AccountKey: t[3]}, nil
	case Has(data, "sasKey"):
		return &AzureCredential{Kind: AzureSAS, SAS: t[4]}, nil
	default:
		return nil, &Error{"clientId, accountKey or sasKey", ErrMissing}
	}
	if t[5] != "" {
		if c.Authority, err = url.Parse(t[5]); err != nil || c.Authority.Scheme != "https" || c.Authority.Host == "" || c.Authority.User != nil {
			return nil, &Error{"authorityHost", fmt.Errorf("%w: it is no HTTPS URL", ErrInvalid)}
		}
	}
	return c, nil
}
