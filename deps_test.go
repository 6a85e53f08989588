package gitopskit_test

import (
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	"os/exec"
	"path"
	"strconv"
	"strings"
	"testing"
)

// policy says what each package may import, and how much it may weigh. It is a decision, not a record: a line changes
// only together with a paragraph in DESIGN.md, never to make a build pass.
//
// A line names a package and lists what it may import besides the standard library and internal: packages of this
// module by their directory, others by a prefix of their path. "!prefix" is what it must not reach even indirectly,
// "<=n" is the number of third-party packages it may link, itself and this module not counted.
const policy = `
source                  : github.com/opencontainers/go-digest <=1
source/sourcetest       : source github.com/opencontainers/go-digest <=1
source/git              : source github.com/opencontainers/go-digest github.com/go-git github.com/pjbgf/sha1cd github.com/Masterminds/semver golang.org/x/crypto !k8s.io <=20
source/share            : source github.com/opencontainers/go-digest <=1
source/store            : source github.com/opencontainers/go-digest <=1
source/archive          : source github.com/opencontainers/go-digest <=1
source/bucket           : source github.com/opencontainers/go-digest github.com/minio/minio-go !k8s.io <=50
source/verify           : source github.com/ProtonMail/go-crypto github.com/hiddeco/sshsig golang.org/x/crypto !k8s.io !github.com/go-git <=80
source/oci              : source github.com/google/go-containerregistry github.com/Masterminds/semver github.com/opencontainers/go-digest !k8s.io !helm.sh !github.com/sigstore <=55
source/verify/cosign    : source source/oci github.com/google/go-containerregistry !k8s.io !helm.sh !github.com/sigstore <=55
source/chart            : source github.com/Masterminds/semver github.com/opencontainers/go-digest helm.sh/helm/v3/pkg/chart helm.sh/helm/v3/pkg/ignore sigs.k8s.io/yaml !k8s.io <=10
source/helmrepo         : source source/chart source/oci github.com/google/go-containerregistry/pkg/authn github.com/Masterminds/semver github.com/opencontainers/go-digest sigs.k8s.io/yaml !k8s.io !helm.sh/helm/v3/pkg/repo <=60
kustomize               : sigs.k8s.io/kustomize sigs.k8s.io/yaml go.yaml.in/yaml k8s.io/apimachinery !k8s.io/client-go !k8s.io/api !sigs.k8s.io/controller-runtime !helm.sh !github.com/go-git <=210
kustomize/sops          : github.com/getsops/sops google.golang.org/grpc k8s.io/apimachinery !k8s.io/client-go <=870
helm                    : helm.sh/helm/v3/pkg/chart helm.sh/helm/v3/pkg/chartutil helm.sh/helm/v3/pkg/engine helm.sh/helm/v3/pkg/ignore helm.sh/helm/v3/pkg/releaseutil helm.sh/helm/v3/pkg/strvals github.com/santhosh-tekuri/jsonschema github.com/opencontainers/go-digest k8s.io/apimachinery sigs.k8s.io/yaml go.yaml.in/yaml !helm.sh/helm/v3/pkg/action !helm.sh/helm/v3/pkg/repo !k8s.io/client-go/informers !k8s.io/kubectl !sigs.k8s.io/controller-runtime !github.com/go-git <=310
helm/release            : helm helm.sh/helm/v3/pkg/chart helm.sh/helm/v3/pkg/release helm.sh/helm/v3/pkg/time github.com/opencontainers/go-digest k8s.io/apimachinery k8s.io/client-go/dynamic k8s.io/client-go/metadata !helm.sh/helm/v3/pkg/action !helm.sh/helm/v3/pkg/kube !k8s.io/client-go/informers !k8s.io/kubectl !sigs.k8s.io/controller-runtime !github.com/go-git <=315
ssa                     : k8s.io/apimachinery k8s.io/client-go/dynamic k8s.io/client-go/rest k8s.io/client-go/discovery k8s.io/client-go/restmapper github.com/fluxcd/cli-utils/pkg/kstatus/status sigs.k8s.io/structured-merge-diff sigs.k8s.io/yaml !sigs.k8s.io/controller-runtime !k8s.io/kubectl !helm.sh !github.com/go-git <=160
helm/release/fluxrelease: helm helm/release github.com/fluxcd/helm-controller/api github.com/opencontainers/go-digest k8s.io/apimachinery !helm.sh/helm/v3/pkg/action !k8s.io/client-go/informers !k8s.io/kubectl !github.com/go-git <=330
ssa/health              : ssa k8s.io/apimachinery github.com/google/cel-go !k8s.io/apiserver !k8s.io/apiextensions-apiserver !google.golang.org/grpc !sigs.k8s.io/controller-runtime !k8s.io/kubectl !helm.sh <=220
ssa/proof               : k8s.io/apimachinery k8s.io/client-go/openapi k8s.io/kube-openapi/pkg/validation/spec sigs.k8s.io/structured-merge-diff !k8s.io/apiextensions-apiserver !k8s.io/client-go/discovery !sigs.k8s.io/controller-runtime !k8s.io/kubectl !helm.sh <=190
ssa/schema              : ssa go.yaml.in/yaml/v3 k8s.io/apiextensions-apiserver k8s.io/apimachinery k8s.io/apiserver/pkg/apis/cel k8s.io/apiserver/pkg/cel k8s.io/kube-openapi/pkg/validation/spec sigs.k8s.io/yaml !sigs.k8s.io/controller-runtime !k8s.io/kubectl !helm.sh !github.com/go-git !go.etcd.io <=490
ssa/offline             : ssa ssa/schema k8s.io/api k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1 k8s.io/apimachinery k8s.io/client-go/dynamic k8s.io/client-go/kubernetes/scheme sigs.k8s.io/structured-merge-diff gopkg.in/evanphx/json-patch.v4 sigs.k8s.io/yaml !sigs.k8s.io/controller-runtime !k8s.io/kubectl !k8s.io/kubernetes !helm.sh !github.com/go-git <=540
image                   : github.com/google/go-containerregistry github.com/Masterminds/semver !k8s.io !helm.sh !github.com/go-git <=25
image/update            : image go.yaml.in/yaml !k8s.io !sigs.k8s.io !github.com/go-git <=26
image/writeback         : image/update github.com/Masterminds/sprig !k8s.io !sigs.k8s.io !github.com/go-git <=40
notify                  : <=0
notify/receiver         : <=0
notify/notifytest       : notify <=0
runtime                 : <=0
runtime/boltstore       : runtime go.etcd.io/bbolt !k8s.io <=6
runtime/window          : github.com/robfig/cron !k8s.io <=2
runtime/status          : k8s.io/apimachinery !k8s.io/client-go <=70
runtime/kube            : runtime runtime/status github.com/go-logr/logr k8s.io/api k8s.io/apimachinery k8s.io/client-go sigs.k8s.io/controller-runtime !k8s.io/kubectl !helm.sh <=580
runtime/kube/flags      : runtime runtime/kube k8s.io/apimachinery k8s.io/client-go sigs.k8s.io/controller-runtime !k8s.io/kubectl !helm.sh <=600
runtime/depend          : k8s.io/apimachinery !k8s.io/client-go !k8s.io/apiserver !google.golang.org/grpc <=160
runtime/tenancy         : go.yaml.in/yaml/v3 k8s.io/apimachinery k8s.io/client-go !sigs.k8s.io/controller-runtime <=265
runtime/secrets         : runtime/auth/github github.com/google/go-containerregistry/pkg/authn go.yaml.in/yaml/v3 !k8s.io <=15
runtime/chaos           : <=0
runtime/auth            : <=0
runtime/auth/github     : runtime/auth <=0
runtime/observe         : runtime github.com/prometheus/client_golang github.com/prometheus/client_model !go.opentelemetry.io !k8s.io <=45
runtime/observe/trace   : runtime go.opentelemetry.io/otel !go.opentelemetry.io/otel/sdk !github.com/prometheus !k8s.io <=25
runtime/testenv         : k8s.io/apimachinery k8s.io/client-go !sigs.k8s.io/controller-runtime !k8s.io/kubernetes <=160
runtime/testenv/prepare : runtime/testenv <=160
`

// families are the packages that solve one domain each. None of them may need another, and the loop needs none.
var families = []string{"source", "kustomize", "helm", "ssa", "image", "notify"}

const module = "github.com/gitopskit/gitopskit/"

// TestDependencies holds every package to the policy. It reads every source file itself, not only through the go
// command: a test result is cached until a file changes that the test itself opened.
func TestDependencies(t *testing.T) {
	rules := map[string][]string{}
	for line := range strings.Lines(strings.TrimSpace(policy)) {
		name, rest, _ := strings.Cut(line, ":")
		rules[strings.TrimSpace(name)] = strings.Fields(rest)
	}
	present := map[string]bool{}
	root := os.DirFS(".")
	for _, file := range []string{"go.mod", "go.sum"} {
		if _, err := fs.ReadFile(root, file); err != nil {
			t.Fatal(err)
		}
	}
	for _, name := range sources(t, root) {
		dir := path.Dir(name)
		src, err := fs.ReadFile(root, name)
		if err != nil {
			t.Fatal(err)
		}
		top, _, _ := strings.Cut(dir, "/")
		if strings.HasSuffix(name, "_test.go") || top == "." || top == "examples" || top == "internal" {
			continue
		}
		present[dir] = true
		checkImports(t, name, dir, src, rules)
	}
	for dir, rule := range rules {
		if !present[dir] {
			t.Errorf("the policy names %s, which is not there", dir)
			continue
		}
		checkWeight(t, dir, rule)
	}
}

// TestDomainsStandAlone keeps the families apart in what they reach, not only in what they import: a detour through
// internal would bind them just as well.
func TestDomainsStandAlone(t *testing.T) {
	root := os.DirFS(".")
	dirs := map[string]bool{}
	for _, name := range sources(t, root) {
		if _, err := fs.ReadFile(root, name); err != nil { // for the test cache
			t.Fatal(err)
		}
		if !strings.HasSuffix(name, "_test.go") {
			dirs[path.Dir(name)] = true
		}
	}
	for dir := range dirs {
		own := family(dir)
		if own == "" && dir != "runtime" {
			continue
		}
		for _, dep := range deps(t, dir) {
			reached, ours := strings.CutPrefix(dep, module)
			if other := family(reached); ours && other != "" && other != own {
				t.Errorf("%s must not reach %s", dir, reached)
			}
		}
	}
}

// TestNoReplace keeps every module usable by others: a replace directive holds only in the main module.
func TestNoReplace(t *testing.T) {
	root := os.DirFS(".")
	modules := 0
	walk(t, root, func(name string) {
		if path.Base(name) != "go.mod" {
			return
		}
		modules++
		data, err := fs.ReadFile(root, name)
		if err != nil {
			t.Fatal(err)
		}
		for line := range strings.Lines(string(data)) {
			if fields := strings.Fields(line); len(fields) > 0 && (fields[0] == "replace" || strings.HasPrefix(fields[0], "replace(")) {
				t.Errorf("%s: %s", name, strings.TrimSpace(line))
			}
		}
	})
	if modules < 3 {
		t.Errorf("found %d modules, want the root, runtime/controlplane and tools at least", modules)
	}
}

func checkImports(t *testing.T, name, dir string, src []byte, rules map[string][]string) {
	t.Helper()
	rule, ok := rules[dir]
	if !ok {
		t.Errorf("%s has no line in the policy", dir)
		return
	}
	file, err := parser.ParseFile(token.NewFileSet(), name, src, parser.ImportsOnly)
	if err != nil {
		t.Fatal(err)
	}
	for _, spec := range file.Imports {
		imp, err := strconv.Unquote(spec.Path.Value)
		if err != nil {
			t.Fatal(err)
		}
		if !allowed(imp, rule) {
			t.Errorf("%s must not import %s", name, imp)
		}
	}
}

func checkWeight(t *testing.T, dir string, rule []string) {
	t.Helper()
	linked := 0
	for _, dep := range deps(t, dir) {
		if strings.HasPrefix(dep, module) || !thirdParty(dep) {
			continue
		}
		linked++
		for _, r := range rule {
			if banned, ok := strings.CutPrefix(r, "!"); ok && under(dep, banned) {
				t.Errorf("%s must not reach %s", dir, dep)
			}
		}
	}
	for _, r := range rule {
		bound, ok := strings.CutPrefix(r, "<=")
		if !ok {
			continue
		}
		n, err := strconv.Atoi(bound)
		if err != nil {
			t.Fatal(err)
		}
		if linked > n {
			t.Errorf("%s links %d third-party packages, its bound is %d", dir, linked, n)
		}
		t.Logf("%s links %d of %d third-party packages", dir, linked, n)
	}
}

// deps lists what a package links, itself included.
func deps(t *testing.T, dir string) []string {
	t.Helper()
	out, err := exec.CommandContext(t.Context(), "go", "list", "-deps", "./"+dir).Output()
	if err != nil {
		t.Fatalf("go list -deps ./%s: %v", dir, err)
	}
	return strings.Fields(string(out))
}

func allowed(imp string, rule []string) bool {
	own, ours := strings.CutPrefix(imp, module)
	if !thirdParty(imp) || ours && strings.HasPrefix(own, "internal/") {
		return true
	}
	for _, r := range rule {
		if ours && own == r || !ours && under(imp, r) {
			return true
		}
	}
	return false
}

// thirdParty reports whether an import path is outside the standard library.
func thirdParty(imp string) bool {
	first, _, _ := strings.Cut(imp, "/")
	return strings.Contains(first, ".")
}

func under(imp, prefix string) bool { return imp == prefix || strings.HasPrefix(imp, prefix+"/") }

// family is the domain that a directory belongs to, or nothing.
func family(dir string) string {
	for _, f := range families {
		if under(dir, f) {
			return f
		}
	}
	return ""
}

// sources lists the Go files of the root module.
func sources(t *testing.T, root fs.FS) []string {
	t.Helper()
	var nested, names []string
	walk(t, root, func(name string) {
		switch {
		case path.Base(name) == "go.mod" && name != "go.mod":
			nested = append(nested, path.Dir(name))
		case strings.HasSuffix(name, ".go"):
			names = append(names, name)
		}
	})
	own := names[:0]
	for _, name := range names {
		inside := true
		for _, dir := range nested {
			inside = inside && !under(name, dir)
		}
		if inside {
			own = append(own, name)
		}
	}
	return own
}

// walk calls visit with every file of the repository but test data and what begins with a dot.
func walk(t *testing.T, root fs.FS, visit func(name string)) {
	t.Helper()
	err := fs.WalkDir(root, ".", func(name string, entry fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if base := path.Base(name); entry.IsDir() && name != "." && (base == "testdata" || base[0] == '.' || base == "bin" || base == "dist") {
			return fs.SkipDir
		}
		if !entry.IsDir() {
			visit(name)
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
}
