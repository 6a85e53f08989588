package kinds

import (
	"context"
	"fmt"
	"net/url"
	"strings"

	notificationv1beta3 "github.com/fluxcd/notification-controller/api/v1beta3"

	"github.com/gitopskit/gitopskit/notify"
	"github.com/gitopskit/gitopskit/runtime/kube"
	"github.com/gitopskit/gitopskit/runtime/secrets"
)

// closer is a sender that holds connections.
type closer interface {
	notify.Sender
	Close() error
}

// providerUnsupported are the fields that cannot be honoured yet.
func providerUnsupported() []string {
	return []string{"spec.serviceAccountName", "spec.commitStatusExpr", "spec.proxy"}
}

// sender is what a Provider describes, and whether it wants events for the
// status of commits only, or all but those.
func (e *Env) sender(ctx context.Context, p *notificationv1beta3.Provider) (s closer, match func(notify.Event) bool, err error) {
	if err := kube.Unsupported(p, providerUnsupported()...); err != nil {
		return nil, nil, err
	}
	data, err := e.secret(ctx, p.Namespace, p.Spec.SecretRef)
	if err != nil {
		return nil, nil, err
	}
	http, err := e.senderHTTP(ctx, p, data)
	if err != nil {
		return nil, nil, err
	}
	address, token := or(string(data["address"]), p.Spec.Address), string(data["token"])
	if err := e.plain(address, false); err != nil {
		return nil, nil, in("address", err)
	}
	people := func(ev notify.Event) bool { return !ev.OnlyForCommitStatus() }
	status := &notify.CommitStatusOptions{HTTPOptions: *http, Instance: instance(p)}
	switch p.Spec.Type {
	case notificationv1beta3.GenericProvider:
		s, err = notify.NewWebhook(address, http)
	case notificationv1beta3.GenericHMACProvider:
		s, err = notify.NewSignedWebhook(address, []byte(token), http)
	case notificationv1beta3.SlackProvider:
		s, err = notify.NewSlack(address, &notify.SlackOptions{HTTPOptions: *http, Token: token, Channel: p.Spec.Channel, Username: p.Spec.Username})
		match = people
	case notificationv1beta3.MSTeamsProvider:
		s, err = notify.NewMSTeams(address, http)
		match = people
	case notificationv1beta3.DiscordProvider:
		s, err = notify.NewDiscord(address, &notify.DiscordOptions{HTTPOptions: *http, Username: p.Spec.Username})
		match = people
	case notificationv1beta3.AlertManagerProvider:
		s, err = notify.NewAlertmanager(address, &notify.AlertmanagerOptions{HTTPOptions: *http, Token: token, Username: string(data["username"]), Password: string(data["password"])})
		match = people
	case notificationv1beta3.GitHubProvider:
		s, err = notify.NewGitHubStatus(address, token, status)
		match = notify.Event.ForCommitStatus
	case notificationv1beta3.GitLabProvider:
		s, err = notify.NewGitLabStatus(address, token, status)
		match = notify.Event.ForCommitStatus
	case notificationv1beta3.GiteaProvider:
		s, err = notify.NewGiteaStatus(address, token, status)
		match = notify.Event.ForCommitStatus
	default:
		err = &kube.UnsupportedError{Fields: []string{"spec.type: " + p.Spec.Type}}
	}
	return s, match, err
}

// instance tells apart the clusters that report about a commit: the first
// block of the provider's UID, as with Flux.
func instance(p *notificationv1beta3.Provider) string {
	first, _, _ := strings.Cut(string(p.UID), "-")
	return first
}

// senderHTTP reads how an endpoint is reached.
func (e *Env) senderHTTP(ctx context.Context, p *notificationv1beta3.Provider, data map[string][]byte) (*notify.HTTPOptions, error) {
	out := &notify.HTTPOptions{Timeout: p.GetTimeout(), Headers: headers(data["headers"])}
	certs, err := e.secret(ctx, p.Namespace, p.Spec.CertSecretRef)
	if err != nil {
		return nil, err
	}
	if out.TLS, err = secrets.TLS(certs); err != nil {
		return nil, in("Secret "+p.Namespace+"/"+p.Spec.CertSecretRef.Name, err)
	}
	proxy, err := e.secret(ctx, p.Namespace, p.Spec.ProxySecretRef)
	if err != nil || proxy == nil {
		return out, err
	}
	if out.Proxy, err = url.Parse(string(proxy["address"])); err != nil || out.Proxy.Host == "" {
		return nil, fmt.Errorf("Secret %s/%s: entry address is no URL of a proxy", p.Namespace, p.Spec.ProxySecretRef.Name)
	}
	if user := string(proxy["username"]); user != "" {
		out.Proxy.User = url.UserPassword(user, string(proxy["password"]))
	}
	return out, nil
}

// headers reads "Name: value" lines.
func headers(text []byte) map[string]string {
	out := map[string]string{}
	for line := range strings.Lines(string(text)) {
		if name, value, ok := strings.Cut(strings.TrimSpace(line), ":"); ok {
			out[strings.TrimSpace(name)] = strings.TrimSpace(value)
		}
	}
	return out
}
