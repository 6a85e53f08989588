package tenancy_test

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"k8s.io/client-go/rest"

	"github.com/gitopskit/gitopskit/runtime/tenancy"
)

// unused is a connection that no request goes over.
func unused() *rest.Config { return &rest.Config{Host: "https://own.invalid"} }

// kubeconfig has one context, with more fields for its cluster and its user.
func kubeconfig(server, cluster, user string) []byte {
	return fmt.Appendf(nil, `
apiVersion: v1
kind: Config
current-context: main
contexts: [{name: main, context: {cluster: main, user: main}}]
clusters: [{name: main, cluster: {server: %q, %s}}]
users: [{name: main, user: {%s}}]
`, server, cluster, user)
}

const nowhere = "https://127.0.0.1:1"

// TestConfigRefuses is the corpus of attacks. Programs would leave a mark, and files are pipes, which nobody could open
// without waiting for ever.
func TestConfigRefuses(t *testing.T) {
	dir := t.TempDir()
	mark, pipe := filepath.Join(dir, "mark"), filepath.Join(dir, "pipe")
	if err := syscall.Mkfifo(pipe, 0o600); err != nil {
		t.Fatal(err)
	}
	exec := fmt.Sprintf(`exec: {apiVersion: client.authentication.k8s.io/v1, command: touch, args: [%q], interactiveMode: Never}`, mark)
	token := "token: canary"
	for name, c := range map[string]struct {
		file []byte
		want string
		err  error
	}{
		"exec":               {kubeconfig(nowhere, "", exec), `user "main": exec`, tenancy.ErrNotAllowed},
		"provider":           {kubeconfig(nowhere, "", `auth-provider: {name: oidc}`), "auth-provider", tenancy.ErrNotAllowed},
		"token file":         {kubeconfig(nowhere, "", `tokenFile: `+pipe), "tokenFile", tenancy.ErrNotAllowed},
		"token and file":     {kubeconfig(nowhere, "", token+`, tokenFile: `+pipe), "tokenFile", tenancy.ErrNotAllowed},
		"certificate":        {kubeconfig(nowhere, "", `client-certificate: `+pipe), "client-certificate", tenancy.ErrNotAllowed},
		"key":                {kubeconfig(nowhere, "", `client-key: `+pipe), "client-key", tenancy.ErrNotAllowed},
		"authority":          {kubeconfig(nowhere, `certificate-authority: `+pipe, token), "certificate-authority", tenancy.ErrNotAllowed},
		"insecure":           {kubeconfig(nowhere, `insecure-skip-tls-verify: true`, token), "insecure-skip-tls-verify", tenancy.ErrNotAllowed},
		"plain":              {kubeconfig("http://127.0.0.1:1", "", token), "server without https", tenancy.ErrNotAllowed},
		"unix":               {kubeconfig("unix:///var/run/docker.sock", "", token), "server", tenancy.ErrKubeconfig},
		"no server":          {kubeconfig("", "", token), "server: invalid: it is missing", tenancy.ErrKubeconfig},
		"user in server":     {kubeconfig("https://canary:canary@127.0.0.1:1", "", token), "credentials in a URL", tenancy.ErrNotAllowed},
		"garbage server":     {kubeconfig("https://%zz", "", token), "server", tenancy.ErrKubeconfig},
		"proxy file":         {kubeconfig(nowhere, `proxy-url: "file:///etc/passwd"`, token), "proxy-url", tenancy.ErrNotAllowed},
		"proxy gopher":       {kubeconfig(nowhere, `proxy-url: "gopher://canary@127.0.0.1"`, token), "proxy-url", tenancy.ErrNotAllowed},
		"proxy without host": {kubeconfig(nowhere, `proxy-url: "http://"`, token), "proxy-url", tenancy.ErrKubeconfig},
		"proxy garbage":      {kubeconfig(nowhere, `proxy-url: "http://canary:%zz@x"`, token), "proxy-url", tenancy.ErrKubeconfig},
		"bad authority":      {kubeconfig(nowhere, `certificate-authority-data: Y2FuYXJ5`, token), "certificates", tenancy.ErrKubeconfig},
		"bad base64":         {kubeconfig(nowhere, `certificate-authority-data: "canary!"`, token), "no YAML of kind Config", tenancy.ErrKubeconfig},
		"bad pair":           {kubeconfig(nowhere, "", `client-certificate-data: Y2FuYXJ5, client-key-data: Y2FuYXJ5`), "certificates", tenancy.ErrKubeconfig},
		"two ways to log in": {kubeconfig(nowhere, "", exec+", "+token), "exec", tenancy.ErrNotAllowed},
		"ten megabytes":      {append(kubeconfig(nowhere, "", token), make([]byte, 10<<20)...), "more than 1048576", tenancy.ErrKubeconfig},
		"bomb":               {bomb(), "YAML aliases", tenancy.ErrNotAllowed},
		"deep":               {[]byte(strings.Repeat("[", 20_000)), "no YAML", tenancy.ErrKubeconfig},
		"merge key":          {[]byte("a: &a {token: canary}\nusers: [{name: main, user: {<<: *a}}]"), "YAML aliases", tenancy.ErrNotAllowed},
		"garbage":            {[]byte("canary: ["), "no YAML", tenancy.ErrKubeconfig},
		"other kind":         {[]byte("apiVersion: v1\nkind: Secret\n"), "kind Config", tenancy.ErrKubeconfig},
		"list":               {[]byte("[canary]"), "kind Config", tenancy.ErrKubeconfig},
		"empty":              {nil, "empty", tenancy.ErrKubeconfig},
		"blank":              {[]byte(" \n"), "empty", tenancy.ErrKubeconfig},
		"no context":         {[]byte("apiVersion: v1\nkind: Config\ncurrent-context: x\n"), "contexts: invalid: there are none", tenancy.ErrKubeconfig},
		"no current":         {[]byte(strings.Replace(string(kubeconfig(nowhere, "", token)), "current-context: main", "", 1)), "current-context: invalid: it is missing", tenancy.ErrKubeconfig},
		"other current":      {[]byte(strings.Replace(string(kubeconfig(nowhere, "", token)), "current-context: main", "current-context: x", 1)), `there is no context "x"`, tenancy.ErrKubeconfig},
		"no cluster":         {[]byte(strings.Replace(string(kubeconfig(nowhere, "", token)), "context: {cluster: main", "context: {cluster: x", 1)), `there is no cluster "x"`, tenancy.ErrKubeconfig},
		"no user":            {[]byte(strings.Replace(string(kubeconfig(nowhere, "", token)), "user: main}}", "user: x}}", 1)), `there is no user "x"`, tenancy.ErrKubeconfig},
	} {
		_, err := tenancy.Config(c.file, nil)
		var of *tenancy.KubeconfigError
		if !errors.Is(err, c.err) || !errors.As(err, &of) || !strings.Contains(err.Error(), c.want) || strings.Contains(err.Error(), "canary") {
			t.Errorf("%s: %v; want %v and %q", name, err, c.err, c.want)
		}
		if _, err := (&tenancy.Clients{Base: unused()}).For(tenancy.Identity{Self: true, Kubeconfig: append([]byte{}, c.file...)}); err == nil {
			t.Errorf("%s: there is a connection", name)
		}
	}
	if _, err := os.Stat(mark); err == nil {
		t.Error("a program has run")
	}
}

// bomb is a file of some hundred bytes that would be gigabytes.
func bomb() []byte {
	var b strings.Builder
	b.WriteString("a0: &a0 [x,x,x,x,x,x,x,x,x,x]\n")
	for i := 1; i < 10; i++ {
		fmt.Fprintf(&b, "a%d: &a%d [%s]\n", i, i, strings.Repeat(fmt.Sprintf("*a%d,", i-1), 10))
	}
	return []byte(b.String())
}

// TestConfigAllows: what is harmless passes, what is not passes when it is allowed, and contexts that are not the
// current one do not count.
func TestConfigAllows(t *testing.T) {
	exec := `exec: {apiVersion: client.authentication.k8s.io/v1, command: "false", interactiveMode: Never}`
	var asked []string
	for name, c := range map[string]struct {
		file   []byte
		policy *tenancy.KubeconfigPolicy
		holds  func(*rest.Config) bool
	}{
		"token":  {kubeconfig(nowhere, "", "token: t"), nil, func(c *rest.Config) bool { return c.BearerToken == "t" && c.Host == nowhere }},
		"basic":  {kubeconfig(nowhere, "", "username: u, password: p"), nil, func(c *rest.Config) bool { return c.Username == "u" && c.Password == "p" }},
		"proxy":  {kubeconfig(nowhere, `proxy-url: "socks5://u:p@proxy.invalid:1080", tls-server-name: x`, ""), nil, func(c *rest.Config) bool { return c.Proxy != nil && c.ServerName == "x" }},
		"exec":   {kubeconfig(nowhere, "", exec), &tenancy.KubeconfigPolicy{Exec: true}, func(c *rest.Config) bool { return c.ExecProvider != nil }},
		"tls":    {kubeconfig(nowhere, "insecure-skip-tls-verify: true", ""), &tenancy.KubeconfigPolicy{InsecureTLS: true}, func(c *rest.Config) bool { return c.Insecure }},
		"plain":  {kubeconfig("http://127.0.0.1:1", "", ""), &tenancy.KubeconfigPolicy{PlainHTTP: true}, func(c *rest.Config) bool { return c.Host == "http://127.0.0.1:1" }},
		"host":   {kubeconfig(nowhere, `proxy-url: "http://proxy.invalid"`, ""), &tenancy.KubeconfigPolicy{Host: func(h string) bool { asked = append(asked, h); return true }}, func(*rest.Config) bool { return len(asked) == 2 }},
		"others": {[]byte(strings.Replace(string(kubeconfig(nowhere, "", "token: t")), "users: [", "users: [{name: other, user: {"+exec+"}}, ", 1)), nil, func(c *rest.Config) bool { return c.ExecProvider == nil && c.BearerToken == "t" }},
		"json":   {[]byte(`{"kind":"Config","apiVersion":"v1","current-context":"a","contexts":[{"name":"a","context":{"cluster":"a","user":"a"}}],"clusters":[{"name":"a","cluster":{"server":"https://a.invalid"}}],"users":[{"name":"a","user":{"token":"t"}}]}`), nil, func(c *rest.Config) bool { return c.BearerToken == "t" }},
	} {
		config, err := tenancy.Config(c.file, c.policy)
		if err != nil || !c.holds(config) {
			t.Errorf("%s: %v", name, err)
		}
	}
	for _, host := range []string{"127.0.0.1:1", "proxy.invalid"} {
		_, err := tenancy.Config(kubeconfig(nowhere, `proxy-url: "http://proxy.invalid"`, ""), &tenancy.KubeconfigPolicy{Host: func(h string) bool { return h != host }})
		if !errors.Is(err, tenancy.ErrNotAllowed) || !strings.Contains(err.Error(), host) {
			t.Errorf("%s: %v", host, err)
		}
	}
	if _, err := tenancy.Config(kubeconfig(nowhere, "", ""), &tenancy.KubeconfigPolicy{MaxBytes: 10}); err == nil {
		t.Error("the bound does not count")
	}
}

func FuzzConfig(f *testing.F) {
	f.Add([]byte("apiVersion: v1\nkind: Config\nclusters: [{name: a, cluster: {server: x}}]\nusers: [{name: a, user: {exec: {command: sh}}}]\n"))
	f.Add(kubeconfig(nowhere, "", "token: t"))
	f.Add(kubeconfig(nowhere, `proxy-url: "file:///x"`, "tokenFile: /etc/passwd"))
	f.Fuzz(func(t *testing.T, data []byte) {
		config, err := tenancy.Config(data, nil)
		if err != nil {
			var of *tenancy.KubeconfigError
			if !errors.As(err, &of) {
				t.Error(err)
			}
			return
		}
		if config.ExecProvider != nil || config.AuthProvider != nil || config.Insecure || config.CAFile != "" || config.CertFile != "" || config.KeyFile != "" || config.BearerTokenFile != "" || !strings.HasPrefix(config.Host, "https://") {
			t.Errorf("let through: %+v", config)
		}
	})
}
