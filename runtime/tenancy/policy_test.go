package tenancy_test

import (
	"context"
	"errors"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	rt "github.com/gitopskit/gitopskit/runtime"
	"github.com/gitopskit/gitopskit/runtime/tenancy"
)

// refFields are the fields of Flux's kinds that may name another namespace; those with an ACL lead to kinds that say who
// may refer to them. All other references stay in the namespace by their form.
var refFields = []struct {
	field, kind string
	acl         bool
}{
	{"Kustomization.spec.sourceRef", "GitRepository", false},
	{"Kustomization.spec.dependsOn", "Kustomization", false},
	{"HelmRelease.spec.chart.spec.sourceRef", "HelmRepository", false},
	{"HelmRelease.spec.chartRef", "OCIRepository", false},
	{"HelmRelease.spec.dependsOn", "HelmRelease", false},
	{"ImagePolicy.spec.imageRepositoryRef", "ImageRepository", true},
	{"ImageUpdateAutomation.spec.sourceRef", "GitRepository", false},
	{"Alert.spec.eventSources", "Bucket", false},
	{"Receiver.spec.resources", "HelmChart", false},
	{"ArtifactGenerator.spec.sources", "GitRepository", false},
}

// TestDecisions is the whole table: every field, the own and another namespace, every state of the other side's access
// list, with the flag and without.
func TestDecisions(t *testing.T) {
	selectors := func(s ...map[string]string) *tenancy.AccessFrom {
		return &tenancy.AccessFrom{NamespaceSelectors: s}
	}
	team, env := map[string]string{"team": "a"}, map[string]string{"env": "prod"}
	for _, c := range []struct {
		name string
		from *tenancy.AccessFrom
		acl  string // what a field with an access list decides, own then other namespace: without the flag, with it
	}{
		{"missing", nil, "yes yes no no"},
		{"no selectors", selectors(), "yes yes no no"},
		{"matches", selectors(team), "yes yes yes no"},
		{"does not match", selectors(map[string]string{"team": "b"}), "yes yes no no"},
		{"label missing", selectors(map[string]string{"tier": ""}), "yes yes no no"},
		{"all namespaces", selectors(map[string]string{}), "yes yes yes no"},
		{"one of two", selectors(map[string]string{"team": "b"}, team), "yes yes yes no"},
		{"both labels", selectors(map[string]string{"team": "a", "env": "prod"}), "yes yes yes no"},
		{"one label of two", selectors(map[string]string{"team": "a", "env": "dev"}), "yes yes no no"},
		{"neither of two", selectors(map[string]string{"team": "b"}, map[string]string{"env": "dev"}), "yes yes no no"},
		{"other label", selectors(env), "yes yes yes no"},
	} {
		for _, f := range refFields {
			want := strings.Fields("yes yes yes no")
			if f.acl {
				want = strings.Fields(c.acl)
			}
			var got []string
			for _, namespace := range []string{"own", "other"} {
				for _, flag := range []bool{false, true} {
					p := tenancy.Policy{NoCrossNamespaceRefs: flag}
					got = append(got, decide(t, p, f.kind, f.acl, namespace, c.from))
				}
			}
			if !slices.Equal(got, want) {
				t.Errorf("%s, access list: %s: got %q, want %q", f.field, c.name, got, want)
			}
		}
	}
}

func decide(t *testing.T, p tenancy.Policy, kind string, acl bool, namespace string, from *tenancy.AccessFrom) string {
	t.Helper()
	labels := func(_ context.Context, name string) (map[string]string, error) {
		if name != "own" || namespace == "own" {
			t.Errorf("asked for the labels of %s", name)
		}
		return map[string]string{"team": "a", "env": "prod", "kubernetes.io/metadata.name": "own"}, nil
	}
	check := func(refNamespace string) error {
		if acl {
			return p.Access(t.Context(), "own", kind, refNamespace, "app", from, labels)
		}
		return p.Ref("own", kind, refNamespace, "app")
	}
	err := check(namespace)
	if namespace == "own" {
		if empty := check(""); (empty == nil) != (err == nil) {
			t.Errorf("the own namespace by name: %v, by default: %v", err, empty)
		}
	}
	if err == nil {
		return "yes"
	}
	var denied *tenancy.DeniedError
	if !errors.As(err, &denied) || !errors.Is(err, tenancy.ErrDenied) || !rt.IsTerminal(err) ||
		!strings.Contains(err.Error(), kind+" other/app") || !strings.Contains(err.Error(), "namespace own") {
		t.Errorf("the error does not say what is denied: %v", err)
	}
	return "no"
}

// TestLabelsUnknown: as long as the labels cannot be read, nothing is allowed, and nothing is final.
func TestLabelsUnknown(t *testing.T) {
	broken := errors.New("etcd is unwell")
	err := tenancy.Policy{}.Access(t.Context(), "own", "ImageRepository", "other", "app", &tenancy.AccessFrom{NamespaceSelectors: []map[string]string{{}}},
		func(context.Context, string) (map[string]string, error) { return nil, broken })
	if !errors.Is(err, broken) || errors.Is(err, tenancy.ErrDenied) || rt.IsTerminal(err) {
		t.Error(err)
	}
}

// TestIdentity: whom an object is applied as; never the controller by accident.
func TestIdentity(t *testing.T) {
	account := func(name string) tenancy.Identity { return tenancy.Identity{Namespace: "ns", ServiceAccount: name} }
	self := tenancy.Identity{Self: true}
	for name, c := range map[string]struct {
		policy tenancy.Policy
		own    string
		want   tenancy.Identity
		err    error
	}{
		"open":               {want: self},
		"open, named":        {own: "high", want: account("high")},
		"default":            {policy: tenancy.Policy{DefaultServiceAccount: "low"}, want: account("low")},
		"default, named":     {policy: tenancy.Policy{DefaultServiceAccount: "low"}, own: "high", want: account("high")},
		"lockdown":           {policy: tenancy.Policy{Lockdown: true}, err: tenancy.ErrDenied},
		"lockdown, named":    {policy: tenancy.Policy{Lockdown: true}, own: "high", want: account("high")},
		"lockdown, default":  {policy: tenancy.Policy{Lockdown: true, DefaultServiceAccount: "low"}, want: account("low")},
		"of another":         {own: "kube-system:admin", err: tenancy.ErrNoIdentity},
		"of another, path":   {own: "kube-system/admin", err: tenancy.ErrNoIdentity},
		"full name":          {own: "system:serviceaccount:kube-system:admin", err: tenancy.ErrNoIdentity},
		"shell":              {own: "$(id)", err: tenancy.ErrNoIdentity},
		"line break":         {own: "a\nImpersonate-Group: system:masters", err: tenancy.ErrNoIdentity},
		"blank":              {own: " ", err: tenancy.ErrNoIdentity},
		"bad default":        {policy: tenancy.Policy{DefaultServiceAccount: "a/b"}, err: tenancy.ErrNoIdentity},
		"bad, with lockdown": {policy: tenancy.Policy{Lockdown: true, DefaultServiceAccount: "low"}, own: "a:b", err: tenancy.ErrNoIdentity},
	} {
		got, err := c.policy.Identity("ns", c.own)
		if !errors.Is(err, c.err) || c.err != nil && !rt.IsTerminal(err) {
			t.Errorf("%s: %v, want %v", name, err, c.err)
		}
		if diff := cmp.Diff(c.want, got); diff != "" {
			t.Errorf("%s: %s", name, diff)
		}
	}
}

// TestRemote: with a kubeconfig it is the own cluster never, and its user only where nobody else is named.
func TestRemote(t *testing.T) {
	file := []byte("kubeconfig")
	locked := tenancy.Policy{Lockdown: true}
	got, err := locked.Remote("ns", "", file)
	if want := (tenancy.Identity{Self: true, Kubeconfig: file}); err != nil || !cmp.Equal(got, want) {
		t.Error(got, err)
	}
	got, err = locked.Remote("ns", "app", file)
	if want := (tenancy.Identity{Namespace: "ns", ServiceAccount: "app", Kubeconfig: file}); err != nil || !cmp.Equal(got, want) {
		t.Error(got, err)
	}
	for _, empty := range [][]byte{nil, {}} {
		if got, err := locked.Remote("ns", "app", empty); !errors.Is(err, tenancy.ErrNoIdentity) || !cmp.Equal(got, tenancy.Identity{}) {
			t.Error(got, err)
		}
	}
	if _, err := locked.Remote("ns", "a:b", file); !errors.Is(err, tenancy.ErrNoIdentity) {
		t.Error(err)
	}
}

// TestOtherIdentities: keys and kubeconfigs are fetched as somebody of their own.
func TestOtherIdentities(t *testing.T) {
	p := tenancy.Policy{DefaultServiceAccount: "apply", DefaultDecryptionServiceAccount: "decrypt", DefaultKubeconfigServiceAccount: "remote", ObjectLevelIdentity: true, Lockdown: true}
	if err := p.Validate(); err != nil {
		t.Error(err)
	}
	var got []string
	for _, f := range []func(string, string) (tenancy.Identity, error){p.Identity, p.Decryption, p.ForKubeconfig} {
		for _, own := range []string{"", "mine"} {
			id, err := f("ns", own)
			if err != nil {
				t.Error(err)
			}
			got = append(got, strings.TrimPrefix(id.String(), "system:serviceaccount:ns:"))
		}
	}
	if diff := cmp.Diff(strings.Fields("apply mine decrypt mine remote mine"), got); diff != "" {
		t.Error(diff)
	}
	p.ObjectLevelIdentity = false
	if _, err := p.Decryption("ns", "mine"); !errors.Is(err, tenancy.ErrDenied) {
		t.Error(err)
	}
	p = tenancy.Policy{Lockdown: true}
	if _, err := p.ForKubeconfig("ns", ""); !errors.Is(err, tenancy.ErrDenied) {
		t.Error(err)
	}
}

// TestValidate: what cannot be, and what contradicts itself, everything at once.
func TestValidate(t *testing.T) {
	for _, ok := range []tenancy.Policy{{}, {DefaultServiceAccount: "a"}, {Lockdown: true}, {ObjectLevelIdentity: true, DefaultDecryptionServiceAccount: "a"}} {
		if err := ok.Validate(); err != nil {
			t.Error(err)
		}
	}
	err := tenancy.Policy{DefaultServiceAccount: "a:b", DefaultDecryptionServiceAccount: "c", DefaultKubeconfigServiceAccount: "d/e"}.Validate()
	for _, want := range []string{`DefaultServiceAccount: "a:b"`, "DefaultDecryptionServiceAccount is set without ObjectLevelIdentity", `DefaultKubeconfigServiceAccount: "d/e"`, "DefaultKubeconfigServiceAccount is set without"} {
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%v does not say %q", err, want)
		}
	}
}

// TestNobody: an identity that is none, or half of one, or two, gets no connection.
func TestNobody(t *testing.T) {
	clients := &tenancy.Clients{Base: unused()}
	for name, id := range map[string]tenancy.Identity{
		"zero":              {},
		"no namespace":      {ServiceAccount: "a"},
		"no name":           {Namespace: "a"},
		"bad namespace":     {Namespace: "a:b", ServiceAccount: "c"},
		"bad name":          {Namespace: "a", ServiceAccount: "b:c"},
		"groups only":       {Groups: []string{"system:masters"}},
		"blank user":        {User: " "},
		"empty group":       {User: "jane", Groups: []string{""}},
		"header":            {User: "jane\r\nImpersonate-Group: system:masters"},
		"self and account":  {Self: true, Namespace: "a", ServiceAccount: "b"},
		"self and user":     {Self: true, User: "jane"},
		"account and user":  {Namespace: "a", ServiceAccount: "b", User: "jane"},
		"empty kubeconfig":  {Self: true, Kubeconfig: []byte{}},
		"account in no kc":  {Namespace: "a", ServiceAccount: "b", Kubeconfig: []byte{}},
		"nobody, elsewhere": {Kubeconfig: []byte("kind: Config")},
	} {
		cluster, err := clients.For(id)
		var of *tenancy.IdentityError
		if cluster != nil || !errors.As(err, &of) || !errors.Is(err, tenancy.ErrNoIdentity) || !rt.IsTerminal(err) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if n := clients.Len(); n != 0 {
		t.Errorf("%d connections", n)
	}
	if _, err := (&tenancy.Clients{}).For(tenancy.Identity{Self: true}); err == nil {
		t.Error("a connection to nowhere")
	}
	sortStrings := cmpopts.SortSlices(strings.Compare)
	names := []string{tenancy.Identity{}.String(), tenancy.Identity{Self: true}.String(), tenancy.Identity{User: "jane"}.String()}
	if diff := cmp.Diff([]string{"jane", "nobody", "self"}, names, sortStrings); diff != "" {
		t.Error(diff)
	}
}
