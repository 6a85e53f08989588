package secrets_test

import (
	"errors"
	"fmt"
	"io"
	"maps"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-containerregistry/pkg/name"

	"github.com/gitopskit/gitopskit/runtime/secrets"
)

// data makes a Secret of pairs.
func data(pairs ...string) map[string][]byte {
	out := map[string][]byte{}
	for i := 0; i < len(pairs); i += 2 {
		out[pairs[i]] = []byte(pairs[i+1])
	}
	return out
}

// forms is every function, as one that returns what is to be printed.
var forms = map[string]func(map[string][]byte) (any, error){
	"BasicAuth": func(d map[string][]byte) (any, error) { u, _, err := secrets.BasicAuth(d); return len(u), err },
	"Bearer":    func(d map[string][]byte) (any, error) { s, err := secrets.Bearer(d); return len(s), err },
	"Token":     func(d map[string][]byte) (any, error) { s, err := secrets.Token(d); return len(s), err },
	"HTTP":      func(d map[string][]byte) (any, error) { return secrets.HTTP(d) },
	"SSH":       func(d map[string][]byte) (any, error) { _, err := secrets.SSH(d); return nil, err },
	"Proxy":     func(d map[string][]byte) (any, error) { _, err := secrets.Proxy(d); return nil, err },
	"GitHubApp": func(d map[string][]byte) (any, error) { _, err := secrets.GitHubApp(d); return nil, err },
	"Kubeconfig": func(d map[string][]byte) (any, error) {
		_, err := secrets.Kubeconfig(d, "")
		return nil, err
	},
	"TLS":       func(d map[string][]byte) (any, error) { _, err := secrets.TLS(d); return nil, err },
	"Keychain":  func(d map[string][]byte) (any, error) { _, err := secrets.Keychain(d); return nil, err },
	"AccessKey": func(d map[string][]byte) (any, error) { _, _, _, err := secrets.AccessKey(d); return nil, err },
	"ServiceAccountKey": func(d map[string][]byte) (any, error) {
		_, err := secrets.ServiceAccountKey(d)
		return nil, err
	},
	"Azure":      func(d map[string][]byte) (any, error) { return secrets.Azure(d) },
	"Decryption": func(d map[string][]byte) (any, error) { return secrets.Decryption(d) },
	"GitKeys": func(d map[string][]byte) (any, error) {
		p, s, err := secrets.GitKeys(d)
		return [][]secrets.Key{p, s}, err
	},
	"CosignKeys":   func(d map[string][]byte) (any, error) { return secrets.CosignKeys(d) },
	"Notation":     func(d map[string][]byte) (any, error) { _, err := secrets.Notation(d); return nil, err },
	"TrustedRoot":  func(d map[string][]byte) (any, error) { _, err := secrets.TrustedRoot(d); return nil, err },
	"Signing":      func(d map[string][]byte) (any, error) { return secrets.Signing(d) },
	"Notification": func(d map[string][]byte) (any, error) { return secrets.Notification(d) },
	"Receiver":     func(d map[string][]byte) (any, error) { return secrets.Receiver(d) },
}

// entries are all names that a function reads.
var entries = strings.Fields(`username password bearerToken token identity known_hosts address githubAppID githubAppInstallationID
	githubAppInstallationOwner githubAppBaseURL githubAppPrivateKey value value.yaml ca.crt tls.crt tls.key caFile certFile keyFile
	.dockerconfigjson .dockercfg accesskey secretkey sessiontoken serviceaccount tenantId clientId clientSecret clientCertificate
	clientCertificatePassword clientCertificateSendChain accountKey sasKey authorityHost a.asc a.agekey sops.vault-token sops.aws-kms
	sops.azure-kv sops.gcp-kms a.sshpub a.pub trustpolicy.json a.crt a.pem trusted_root.json git.asc passphrase proxy headers email audience`)

// TestCanary: whatever stands in whatever entry, no error shows it, and nothing that is returned shows it when it is
// printed.
func TestCanary(t *testing.T) {
	contents := []string{
		"canary", "canary\n", "canary\x00", "canary:canary", " canary", "http://canary:canary@canary:%zz", "canary://canary", "{\"canary\": canary",
		`{"auths": {"canary:canary@host": {"auth": "canary"}}}`, `{"auths": "canary"}`, "canary: [canary", "canary: {canary: canary}", "ca nary: canary", "a: &canary [canary]\nb: *canary",
		"-----BEGIN CERTIFICATE-----\nY2FuYXJ5\n-----END CERTIFICATE-----\ncanary", "-----BEGIN canary-----\ncanary", strings.Repeat("canary", 2000), strings.Repeat("canary", 200_000),
	}
	tried, failed := 0, 0
	for _, content := range contents {
		full := map[string][]byte{}
		for _, e := range entries {
			full[e] = []byte(content)
		}
		var all []map[string][]byte
		all = append(all, full)
		for _, e := range entries {
			alone, without := data(e, content), maps.Clone(full)
			delete(without, e)
			all = append(all, alone, without)
		}
		for _, d := range all {
			for form, f := range forms {
				got, err := f(d)
				tried++
				if err != nil {
					failed++
					var of *secrets.Error
					if !errors.As(err, &of) || !errors.Is(err, secrets.ErrInvalid) && !errors.Is(err, secrets.ErrMissing) || len(err.Error()) > 500 {
						t.Errorf("%s: %v", form, err)
					}
				}
				if form == "HTTP" && err == nil { // it shows the user name
					got = nil
				}
				if s := fmt.Sprintf("%v %+v %#v %s", got, got, got, errorText(err)); strings.Contains(s, "canary") || strings.Contains(s, "Y2FuYXJ5") {
					t.Errorf("%s of %.60q: %.300s", form, content, s)
				}
			}
		}
	}
	if failed == 0 || failed == tried {
		t.Errorf("%d of %d failed", failed, tried)
	}
}

func errorText(err error) string {
	if err == nil {
		return ""
	}
	return err.Error()
}

// TestBounds: an entry is 1 MiB at most, one that becomes a header 8 KiB, and one line.
func TestBounds(t *testing.T) {
	big, long := strings.Repeat("x", 1<<20+1), strings.Repeat("x", 8<<10+1)
	for form, c := range map[string]struct {
		data  map[string][]byte
		entry string
	}{
		"BasicAuth":         {data("username", "u", "password", big), "password"},
		"Bearer":            {data("bearerToken", long), "bearerToken"},
		"Token":             {data("token", "line\n"), "token"},
		"SSH":               {data("identity", big, "known_hosts", "k"), "identity"},
		"Proxy":             {data("address", "http://"+strings.Repeat("x", 2048)), "address"},
		"GitHubApp":         {data("githubAppID", "1", "githubAppInstallationID", "2", "githubAppPrivateKey", big), "githubAppPrivateKey"},
		"Kubeconfig":        {data("value.yaml", big), "value.yaml"},
		"TLS":               {data("caFile", big), "caFile"},
		"Keychain":          {data(".dockercfg", big), ".dockercfg"},
		"AccessKey":         {data("accesskey", "a\tb", "secretkey", "s"), "accesskey"},
		"ServiceAccountKey": {data("serviceaccount", big), "serviceaccount"},
		"Azure":             {data("accountKey", long), "accountKey"},
		"Decryption":        {data("x.agekey", big), "x.agekey"},
		"GitKeys":           {data("x.sshpub", big), "x.sshpub"},
		"CosignKeys":        {data("x.pub", big), "x.pub"},
		"Notation":          {data("trustpolicy.json", "{}", "x.pem", big), "x.pem"},
		"TrustedRoot":       {data("trusted_root.json", big), "trusted_root.json"},
		"Signing":           {data("git.asc", big), "git.asc"},
		"Notification":      {data("headers", strings.Repeat("a: b\n", 20_000)), "headers"},
		"Receiver":          {data("token", big), "token"},
	} {
		_, err := forms[form](c.data)
		check(t, form, err, secrets.ErrInvalid, c.entry)
	}
}

func TestHTTP(t *testing.T) {
	for name, c := range map[string]struct {
		data  map[string][]byte
		want  secrets.Login
		err   error
		entry string
	}{
		"none":     {data: data("other", "x")},
		"basic":    {data: data("username", "u", "password", "p:\n"), want: secrets.Login{Username: "u", Password: "p:\n"}},
		"bearer":   {data: data("bearerToken", "t"), want: secrets.Login{Bearer: "t"}},
		"both":     {data: data("username", "u", "password", "p", "bearerToken", "t"), err: secrets.ErrInvalid, entry: "username or bearerToken"},
		"half":     {data: data("password", "p"), err: secrets.ErrMissing, entry: "username"},
		"colon":    {data: data("username", "canary:x", "password", "p"), err: secrets.ErrInvalid, entry: "username"},
		"blank":    {data: data("bearerToken", " canary"), err: secrets.ErrInvalid, entry: "bearerToken"},
		"injected": {data: data("username", "canary\r\nX: y", "password", "p"), err: secrets.ErrInvalid, entry: "username"},
	} {
		got, err := secrets.HTTP(c.data)
		if c.err != nil {
			check(t, name, err, c.err, c.entry)
		} else if err != nil || got != c.want {
			t.Errorf("%s: %+v, %v", name, got, err)
		}
	}
}

func TestProxy(t *testing.T) {
	for address, want := range map[string]string{
		"http://p:3128": "http://u:p%3A@p:3128", "https://p": "https://u:p%3A@p", "socks5://x:y@p:1080": "socks5://u:p%3A@p:1080",
	} {
		u, err := secrets.Proxy(data("address", address, "username", "u", "password", "p:"))
		if err != nil || u.String() != want {
			t.Errorf("%s: %v, %v", address, u, err)
		}
	}
	if u, err := secrets.Proxy(data("address", "http://x:y@p")); err != nil || u.String() != "http://x:y@p" {
		t.Error(u, err)
	}
	for name, c := range map[string]struct {
		data  map[string][]byte
		err   error
		entry string
	}{
		"none":     {data(), secrets.ErrMissing, "address"},
		"file":     {data("address", "file:///canary"), secrets.ErrInvalid, "address"},
		"scheme":   {data("address", "gopher://canary"), secrets.ErrInvalid, "address"},
		"host":     {data("address", "canary"), secrets.ErrInvalid, "address"},
		"garbage":  {data("address", "http://canary:%zz@x"), secrets.ErrInvalid, "address"},
		"password": {data("address", "http://p", "password", "canary"), secrets.ErrMissing, "username"},
	} {
		_, err := secrets.Proxy(c.data)
		check(t, name, err, c.err, c.entry)
	}
}

func TestGitHubApp(t *testing.T) {
	base := []string{"githubAppID", "1", "githubAppPrivateKey", "canary", "githubAppBaseURL", "https://git.example.com"}
	app, err := secrets.GitHubApp(data(append(base, "githubAppInstallationID", "42")...))
	if err != nil || app.ID != "1" || app.InstallationID != 42 || app.BaseURL != "https://git.example.com" || string(app.PrivateKey) != "canary" {
		t.Error(app, err)
	}
	app, err = secrets.GitHubApp(data(append(base, "githubAppInstallationOwner", "acme")...))
	if err != nil || app.InstallationOwner != "acme" || app.InstallationID != 0 {
		t.Error(app, err)
	}
	const either = "githubAppInstallationID or githubAppInstallationOwner"
	for name, c := range map[string]struct {
		more  []string
		err   error
		entry string
	}{
		"neither":  {nil, secrets.ErrMissing, either},
		"both":     {[]string{"githubAppInstallationID", "1", "githubAppInstallationOwner", "acme"}, secrets.ErrInvalid, either},
		"text":     {[]string{"githubAppInstallationID", "canary"}, secrets.ErrInvalid, "githubAppInstallationID"},
		"negative": {[]string{"githubAppInstallationID", "-1"}, secrets.ErrInvalid, "githubAppInstallationID"},
		"no key":   {[]string{"githubAppInstallationID", "1", "githubAppPrivateKey", ""}, secrets.ErrMissing, "githubAppPrivateKey"},
		"no id":    {[]string{"githubAppInstallationID", "1", "githubAppID", ""}, secrets.ErrMissing, "githubAppID"},
	} {
		_, err := secrets.GitHubApp(data(append(slices.Clone(base), c.more...)...))
		check(t, name, err, c.err, c.entry)
	}
}

func TestKubeconfig(t *testing.T) {
	for name, c := range map[string]struct {
		data map[string][]byte
		key  string
		want string
	}{
		"value":       {data("value", "a", "value.yaml", "b"), "", "a"},
		"value.yaml":  {data("value.yaml", "b"), "", "b"},
		"named":       {data("value", "a", "prod", "c"), "prod", "c"},
		"empty value": {data("value", "", "value.yaml", "b"), "", "b"},
	} {
		if got, err := secrets.Kubeconfig(c.data, c.key); err != nil || string(got) != c.want {
			t.Errorf("%s: %s, %v", name, got, err)
		}
	}
	_, err := secrets.Kubeconfig(data("other", "x"), "")
	check(t, "none", err, secrets.ErrMissing, "value")
	_, err = secrets.Kubeconfig(data("value", "x"), "prod")
	check(t, "other", err, secrets.ErrMissing, "prod")
}

func TestAzure(t *testing.T) {
	full := []string{"tenantId", "t", "clientId", "c", "clientSecret", "s", "clientCertificate", "x", "clientCertificatePassword", "p", "clientCertificateSendChain", "1", "accountKey", "a", "sasKey", "?sig=x"}
	var got []secrets.AzureKind
	for _, gone := range []string{"", "clientSecret", "tenantId clientCertificate", "clientId", "accountKey"} {
		for _, g := range strings.Fields(gone) {
			i := slices.Index(full, g)
			full = slices.Delete(full, i, i+2)
		}
		c, err := secrets.Azure(data(append(slices.Clone(full), "authorityHost", "https://login.example.com")...))
		if err != nil {
			t.Fatal(err)
		}
		got = append(got, c.Kind)
		if c.Kind == secrets.AzureClientCertificate && (string(c.ClientCertificate) != "x" || string(c.CertificatePassword) != "p" || !c.SendCertificateChain || c.Authority.Host != "login.example.com") {
			t.Errorf("%+v", *c)
		}
	}
	want := []secrets.AzureKind{secrets.AzureClientSecret, secrets.AzureClientCertificate, secrets.AzureManagedIdentity, secrets.AzureSharedKey, secrets.AzureSAS}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
	_, err := secrets.Azure(data())
	check(t, "none", err, secrets.ErrMissing, "clientId, accountKey or sasKey")
	_, err = secrets.Azure(data("tenantId", "t", "clientId", "canary"))
	check(t, "half", err, secrets.ErrMissing, "clientSecret or clientCertificate")
	_, err = secrets.Azure(data("clientId", "c", "authorityHost", "http://canary"))
	check(t, "authority", err, secrets.ErrInvalid, "authorityHost")
}

func TestServiceAccountKey(t *testing.T) {
	const good = `{"type": "service_account", "client_email": "a@b", "private_key": "canary"}`
	if got, err := secrets.ServiceAccountKey(data("serviceaccount", good)); err != nil || string(got) != good {
		t.Error(err)
	}
	for _, bad := range []string{"canary", "{}", `{"type": "external_account", "credential_source": {"executable": {"command": "canary"}}}`, `{"type": "authorized_user", "client_email": "a", "private_key": "canary"}`} {
		_, err := secrets.ServiceAccountKey(data("serviceaccount", bad))
		check(t, bad, err, secrets.ErrInvalid, "serviceaccount")
	}
}

func names(keys []secrets.Key) (out []string) {
	for _, k := range keys {
		out = append(out, k.Name+"="+string(k.Content))
	}
	return out
}

func TestKeys(t *testing.T) {
	d := data("b.agekey", "2", "a.agekey", "1", "x.asc", "3", "sops.vault-token", "hvs\n", "sops.aws-kms", "4", "sops.azure-kv", "5", "sops.gcp-kms", "6", "y.pub", "7", "z.sshpub", "8", "empty.pub", "")
	k, err := secrets.Decryption(d)
	if err != nil || !slices.Equal(names(k.Age), []string{"a.agekey=1", "b.agekey=2"}) || !slices.Equal(names(k.PGP), []string{"x.asc=3"}) ||
		k.VaultToken != "hvs" || string(k.AWS)+string(k.Azure)+string(k.GCP) != "456" || k.String() != "keys [x.asc a.agekey b.agekey]" {
		t.Errorf("%+v, %v", k, err)
	}
	pgp, ssh, err := secrets.GitKeys(data("a.asc", "1", "b", "2", "c.sshpub", "3"))
	if err != nil || !slices.Equal(names(pgp), []string{"a.asc=1", "b=2"}) || !slices.Equal(names(ssh), []string{"c.sshpub=3"}) {
		t.Error(pgp, ssh, err)
	}
	if keys, err := secrets.CosignKeys(d); err != nil || !slices.Equal(names(keys), []string{"y.pub=7"}) {
		t.Error(keys, err)
	}
	n, err := secrets.Notation(data("trustpolicy.json", "{}", "a.crt", "1", "b.pem", "2", "c.key", "3"))
	if err != nil || string(n.Policy) != "{}" || !slices.Equal(names(n.Certificates), []string{"a.crt=1", "b.pem=2"}) {
		t.Error(n, err)
	}
	if root, err := secrets.TrustedRoot(data("trusted_root.json", "{}")); err != nil || string(root) != "{}" {
		t.Error(err)
	}
	for name, c := range map[string]struct {
		form  string
		data  map[string][]byte
		err   error
		entry string
	}{
		"sops":        {"Decryption", data("a.key", "canary"), secrets.ErrMissing, "*.agekey, *.asc or sops.*"},
		"git":         {"GitKeys", data("a.sshpub", ""), secrets.ErrMissing, "*.asc or *.sshpub"},
		"cosign":      {"CosignKeys", data("a.key", "canary"), secrets.ErrMissing, "*.pub"},
		"policy":      {"Notation", data("a.crt", "1"), secrets.ErrMissing, "trustpolicy.json"},
		"policy form": {"Notation", data("trustpolicy.json", "canary", "a.crt", "1"), secrets.ErrInvalid, "trustpolicy.json"},
		"notation":    {"Notation", data("trustpolicy.json", "{}"), secrets.ErrMissing, "*.crt or *.pem"},
		"root":        {"TrustedRoot", data("trusted_root.json", "canary"), secrets.ErrInvalid, "trusted_root.json"},
		"signing":     {"Signing", data("passphrase", "canary"), secrets.ErrMissing, "git.asc"},
	} {
		_, err := forms[c.form](c.data)
		check(t, name, err, c.err, c.entry)
	}
}

func TestSigning(t *testing.T) {
	k, err := secrets.Signing(data("git.asc", "a", "passphrase", "b", "identity", "c", "password", "d"))
	if err != nil || k.SSH || string(k.Private)+string(k.Passphrase) != "ab" {
		t.Error(k, err)
	}
	k, err = secrets.Signing(data("identity", "c", "password", "d", "passphrase", "b"))
	if err != nil || !k.SSH || string(k.Private)+string(k.Passphrase) != "cd" {
		t.Error(k, err)
	}
}

func TestNotification(t *testing.T) {
	d, err := secrets.Notification(data("address", "https://hooks.example.com/x", "token", "t", "username", "u", "password", "p\n", "proxy", "http://p:1", "headers", "X-One: a\nx-two: \"b: c\"\nThree: 3\n"))
	if err != nil {
		t.Fatal(err)
	}
	want := http.Header{"X-One": {"a"}, "X-Two": {"b: c"}, "Three": {"3"}}
	if diff := cmp.Diff(want, d.Headers); diff != "" || d.Address != "https://hooks.example.com/x" || d.Token != "t" || d.Username != "u" || d.Password != "p\n" || d.Proxy.Host != "p:1" {
		t.Error(diff, *d)
	}
	if d, err := secrets.Notification(data()); err != nil || d.Headers != nil || d.Proxy != nil {
		t.Error(err)
	}
	for _, headers := range []string{"canary", "[canary]", "a: [canary]", "a: {canary: b}", "? [canary]\n: b", "ca nary: x", "\"a\\nb\": x", "a: \"canary\\r\\nb: c\"", "a: &x canary\nb: *x", "a: b\n\tcanary"} {
		_, err := secrets.Notification(data("headers", headers))
		check(t, headers, err, secrets.ErrInvalid, "headers")
	}
	_, err = secrets.Notification(data("proxy", "canary"))
	check(t, "proxy", err, secrets.ErrInvalid, "proxy")
	_, err = secrets.Notification(data("address", strings.Repeat("x", 2049)))
	check(t, "address", err, secrets.ErrInvalid, "address")
}

func TestReceiver(t *testing.T) {
	h, err := secrets.Receiver(data("token", "0123456789abcdef", "email", "e", "audience", "a"))
	if err != nil || h.Weak() || string(h.Token) != "0123456789abcdef" || h.Email+h.Audience != "ea" {
		t.Error(err)
	}
	if h, err := secrets.Receiver(data("token", "short")); err != nil || !h.Weak() {
		t.Error(err)
	}
	_, err = secrets.Receiver(data("token", ""))
	check(t, "empty", err, secrets.ErrMissing, "token")
	_, err = secrets.Receiver(data("token", " \n"))
	check(t, "blank", err, secrets.ErrInvalid, "token")
}

func TestLegacy(t *testing.T) {
	got := secrets.Legacy(data("caFile", "x", "tls.crt", "y", "keyFile", "", ".dockercfg", "{}"))
	if diff := cmp.Diff(map[string]string{"caFile": "ca.crt", ".dockercfg": ".dockerconfigjson"}, got); diff != "" {
		t.Error(diff)
	}
}

func TestDockercfg(t *testing.T) {
	k, err := secrets.Keychain(data(".dockercfg", `{"registry.example.org": {"username": "u", "password": "p"}}`))
	if err != nil {
		t.Fatal(err)
	}
	r, err := name.NewRepository("registry.example.org/app")
	if err != nil {
		t.Fatal(err)
	}
	a, err := k.Resolve(r)
	if err != nil {
		t.Fatal(err)
	}
	if got, err := a.Authorization(); err != nil || got.Username != "u" || got.Password != "p" {
		t.Error(got, err)
	}
}

// TestHostTransport: a certificate that is bound to one host is shown to no other.
func TestHostTransport(t *testing.T) {
	say := func(s string) http.RoundTripper {
		return roundTripper(func(r *http.Request) (*http.Response, error) {
			return &http.Response{StatusCode: 200, Header: http.Header{}, Body: io.NopCloser(strings.NewReader(s)), Request: r}, nil
		})
	}
	for _, c := range []struct{ host, url, want string }{
		{"example.com", "https://example.com/x", "bound"}, {"example.com", "https://EXAMPLE.com.:443/x", "bound"}, {"example.com:443", "https://example.com", "bound"},
		{"example.com:8443", "https://example.com:8443", "bound"}, {"example.com:8443", "https://example.com", "other"}, {"example.com", "http://example.com", "other"},
		{"example.com", "https://example.com.evil.invalid", "other"}, {"example.com", "https://sub.example.com", "other"}, {"example.com", "http://example.com:443", "other"},
	} {
		rt := &secrets.HostTransport{Host: c.host, Bound: say("bound"), Other: say("other")}
		resp, err := rt.RoundTrip(httptest.NewRequestWithContext(t.Context(), "GET", c.url, nil))
		if err != nil {
			t.Fatal(err)
		}
		got, err := io.ReadAll(resp.Body)
		resp.Body.Close()
		if err != nil || string(got) != c.want {
			t.Errorf("%s for %s: %s, %v", c.url, c.host, got, err)
		}
		rt.CloseIdleConnections()
	}
}

type roundTripper func(*http.Request) (*http.Response, error)

func (f roundTripper) RoundTrip(r *http.Request) (*http.Response, error) { return f(r) }

// TestMutualTLS: what TLS returns works against a real server, which wants the certificate, and nothing else does.
func TestMutualTLS(t *testing.T) {
	certificate, key := pair(t)
	server, ca := mutual(t, certificate)
	ask := func(d map[string][]byte, opts *secrets.TLSOptions) error {
		config, err := secrets.TLSWith(d, opts)
		if err != nil {
			t.Fatal(err)
		}
		transport := &http.Transport{TLSClientConfig: config}
		defer transport.CloseIdleConnections()
		r, err := http.NewRequestWithContext(t.Context(), "GET", server, nil)
		if err != nil {
			t.Fatal(err)
		}
		resp, err := transport.RoundTrip(r)
		if err != nil {
			return err
		}
		_, err = io.Copy(io.Discard, resp.Body)
		resp.Body.Close()
		return err
	}
	good := map[string][]byte{"ca.crt": ca, "tls.crt": certificate, "tls.key": key}
	if err := ask(good, nil); err != nil {
		t.Error(err)
	}
	if err := ask(good, &secrets.TLSOptions{SystemRoots: true}); err != nil {
		t.Error(err)
	}
	if err := ask(good, &secrets.TLSOptions{ServerName: "other.invalid"}); err == nil {
		t.Error("the certificate is for another name")
	}
	if err := ask(map[string][]byte{"ca.crt": ca}, nil); err == nil {
		t.Error("without a certificate")
	}
	if err := ask(map[string][]byte{"ca.crt": certificate, "tls.crt": certificate, "tls.key": key}, nil); err == nil {
		t.Error("another authority")
	}
}

// FuzzForms: no content of no entry breaks a function or gets into an error.
func FuzzForms(f *testing.F) {
	f.Add("headers", []byte("X-A: b"), "token", []byte("t"))
	f.Add("address", []byte("http://p"), "password", []byte("x"))
	f.Add(".dockerconfigjson", []byte(`{"auths":{"a":{"auth":"eA=="}}}`), "tls.crt", []byte("-----BEGIN"))
	f.Fuzz(func(t *testing.T, name1 string, content1 []byte, name2 string, content2 []byte) {
		d := map[string][]byte{name1: append([]byte("canary"), content1...), name2: content2}
		for form, f := range forms {
			if _, err := f(d); err != nil && strings.Contains(err.Error(), "canary") && !strings.Contains(name1+name2, "canary") {
				t.Errorf("%s: %v", form, err)
			}
		}
	})
}
