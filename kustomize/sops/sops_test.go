package sops_test

import (
	"encoding/base64"
	"errors"
	"fmt"
	"io/fs"
	"strings"
	"sync"
	"testing"
	"testing/fstest"
	"time"

	"filippo.io/age"
	library "github.com/getsops/sops/v3"
	"github.com/getsops/sops/v3/aes"
	sopsage "github.com/getsops/sops/v3/age"
	"github.com/getsops/sops/v3/config"
	"github.com/getsops/sops/v3/keyservice"
	"github.com/getsops/sops/v3/stores/dotenv"
	"github.com/getsops/sops/v3/stores/ini"
	"github.com/getsops/sops/v3/stores/json"
	"github.com/getsops/sops/v3/stores/yaml"
	"github.com/google/go-cmp/cmp"
	"go.uber.org/goleak"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

	"github.com/gitopskit/gitopskit/kustomize"
	"github.com/gitopskit/gitopskit/kustomize/sops"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// canary is in every plain text and must be in no error.
const canary = "s3cr3t-canary"

// identity makes an age key and the keys that hold it.
func identity(t testing.TB) (recipient string, keys *sops.Keys) {
	t.Helper()
	id, err := age.GenerateX25519Identity()
	if err != nil {
		t.Fatal(err)
	}
	keys, err = sops.ParseKeys(map[string][]byte{"main.agekey": []byte("# made for a test\n" + id.String() + "\n"), "note": []byte("ignored")})
	if err != nil {
		t.Fatal(err)
	}
	return id.Recipient().String(), keys
}

// encrypt does what `sops encrypt --age recipient` does.
func encrypt(t testing.TB, recipient, kind, plain string, change func(*library.Metadata)) []byte {
	t.Helper()
	conf := config.NewStoresConfig()
	store := map[string]library.Store{
		"yaml": yaml.NewStore(&conf.YAML), "json": json.NewStore(&conf.JSON), "env": dotenv.NewStore(&conf.Dotenv),
		"ini": ini.NewStore(&conf.INI), "binary": json.NewBinaryStore(&conf.JSONBinary),
	}[kind]
	branches, err := store.LoadPlainFile([]byte(plain))
	if err != nil {
		t.Fatal(err)
	}
	masters, err := sopsage.MasterKeysFromRecipients(recipient)
	if err != nil {
		t.Fatal(err)
	}
	var group library.KeyGroup
	for _, m := range masters {
		group = append(group, m)
	}
	tree := library.Tree{Branches: branches, Metadata: library.Metadata{
		KeyGroups: []library.KeyGroup{group}, Version: "3.13.3", LastModified: time.Now().UTC(), UnencryptedSuffix: "_unencrypted",
	}}
	if change != nil {
		change(&tree.Metadata)
	}
	key, errs := tree.GenerateDataKeyWithKeyServices([]keyservice.KeyServiceClient{keyservice.NewLocalClient()})
	if len(errs) > 0 {
		t.Fatal(errs)
	}
	cipher := aes.NewCipher()
	mac, err := tree.Encrypt(key, cipher)
	if err != nil {
		t.Fatal(err)
	}
	if tree.Metadata.MessageAuthenticationCode, err = cipher.Encrypt(mac, key, tree.Metadata.LastModified.Format(time.RFC3339)); err != nil {
		t.Fatal(err)
	}
	out, err := store.EmitEncryptedFile(tree)
	if err != nil {
		t.Fatal(err)
	}
	return out
}

func secretFields(m *library.Metadata) {
	m.UnencryptedSuffix, m.EncryptedRegex = "", "^(data|stringData)$"
}

func TestFormats(t *testing.T) {
	recipient, keys := identity(t)
	for name, c := range map[string]struct{ kind, plain string }{
		"a.yaml":            {"yaml", "a: " + canary + "\nb:\n    - 1\n    - true\n"},
		"two.yml":           {"yaml", "a: " + canary + "\n---\nb: 2\n"},
		"a.json":            {"json", "{\n\t\"a\": \"" + canary + "\",\n\t\"n\": 1.5\n}"},
		"a.env":             {"env", "A=" + canary + "\nB=2\n"},
		"settings.ini":      {"ini", "[main]\npassword = " + canary + "\n"},
		"cert.pem":          {"binary", "-----BEGIN\x00" + canary + "\nbytes\xff"},
		"plain":             {"env", "A=" + canary + "\n"},
		".dockerconfigjson": {"json", "{\n\t\"auths\": {\n\t\t\"example.org\": \"" + canary + "\"\n\t}\n}"},
	} {
		t.Run(name, func(t *testing.T) {
			data := encrypt(t, recipient, c.kind, c.plain, nil)
			if strings.Contains(string(data), canary) {
				t.Fatal("the test does not encrypt")
			}
			if !sops.Encrypted(data) || sops.Encrypted([]byte(c.plain)) {
				t.Errorf("Encrypted: %v, of the plain text: %v", sops.Encrypted(data), sops.Encrypted([]byte(c.plain)))
			}
			got, err := keys.Decrypt(name, data)
			if err != nil {
				t.Fatal(err)
			}
			if strings.TrimRight(string(got), "\n") != strings.TrimRight(c.plain, "\n") {
				t.Errorf("%q, want %q", got, c.plain)
			}
		})
	}
}

func TestRefuses(t *testing.T) {
	recipient, keys := identity(t)
	other, _ := identity(t)
	manifest := "kind: Secret\nnote: clear\nstringData:\n    a: " + canary + "\n"
	good := string(encrypt(t, recipient, "yaml", manifest, secretFields))
	encrypted := good[strings.Index(good, "a: ENC[")+3:]
	encrypted = encrypted[:strings.IndexByte(encrypted, '\n')]
	for name, c := range map[string]struct {
		data string
		want error
		says string
	}{
		"changed in the clear": {strings.Replace(good, "note: clear", "note: Clear", 1), sops.ErrDamaged, "message authentication code"},
		"changed cipher text":  {strings.Replace(good, encrypted, strings.Replace(encrypted, "data:", "data:AAAA", 1), 1), sops.ErrDamaged, ""},
		"not cipher text":      {strings.Replace(good, encrypted, canary, 1), sops.ErrDamaged, ""},
		"field removed":        {strings.Replace(good, "note: clear\n", "", 1), sops.ErrDamaged, ""},
		"another key":          {string(encrypt(t, other, "yaml", manifest, nil)), sops.ErrNoKey, other},
		"no yaml":              {good + "\n\t: [", sops.ErrDamaged, "structure"},
		"no keys":              {"a: ENC[AES256_GCM,data:x,iv:x,tag:x,type:str]\nsops:\n    mac: x\n    lastmodified: \"2026-01-01T00:00:00Z\"\n    version: 3.9.0\n", sops.ErrDamaged, "structure"},
		"large":                {good + "# " + strings.Repeat("x", sops.MaxFileBytes), sops.ErrLimit, "allowed are"},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := keys.Decrypt("apps/secret.yaml", []byte(c.data))
			if !errors.Is(err, c.want) || !strings.Contains(fmt.Sprint(err), c.says) || !strings.HasPrefix(fmt.Sprint(err), "sops: apps/secret.yaml: ") {
				t.Errorf("%v; want %v that says %q", err, c.want, c.says)
			}
			if strings.Contains(fmt.Sprint(err), canary) || strings.Contains(fmt.Sprint(err), "ENC[") {
				t.Errorf("the error repeats the file: %v", err)
			}
		})
	}
	if _, err := new(sops.Keys).Decrypt("a.yaml", []byte(good)); !errors.Is(err, sops.ErrNoKey) {
		t.Errorf("zero keys: %v", err)
	}
}

func TestParseKeys(t *testing.T) {
	for name, c := range map[string]struct {
		data map[string][]byte
		want error
	}{
		"empty":   {nil, sops.ErrInvalid},
		"none":    {map[string][]byte{"age.key": []byte("x")}, sops.ErrInvalid},
		"garbage": {map[string][]byte{"a.agekey": []byte("AGE-SECRET-KEY-1" + canary)}, sops.ErrInvalid},
		"plugin":  {map[string][]byte{"a.agekey": []byte("# a key\nAGE-PLUGIN-YUBIKEY-1QQPSYQSZQQQQQQQQQQ")}, sops.ErrUnsupported},
		"pgp":     {map[string][]byte{"a.asc": []byte("x")}, sops.ErrUnsupported},
		"vault":   {map[string][]byte{"sops.vault-token": []byte("x")}, sops.ErrUnsupported},
		"aws":     {map[string][]byte{"sops.aws-kms": []byte("x")}, sops.ErrUnsupported},
	} {
		if _, err := sops.ParseKeys(c.data); !errors.Is(err, c.want) || strings.Contains(err.Error(), canary) {
			t.Errorf("%s: %v; want %v without the key", name, err, c.want)
		}
	}
}

// TestBuild decrypts manifests, generator files, env files and patches while
// kustomize reads them.
func TestBuild(t *testing.T) {
	recipient, keys := identity(t)
	file := func(data []byte) *fstest.MapFile { return &fstest.MapFile{Data: data} }
	tree := fstest.MapFS{
		"apps/kustomization.yaml": file([]byte(`
resources: [secret.yaml, kept.yaml]
patches: [{path: patch.yaml}]
generatorOptions: {disableNameSuffixHash: true}
secretGenerator:
  - name: files
    files: [token.txt]
  - name: envs
    envs: [main.env]
`)),
		"apps/secret.yaml": file(encrypt(t, recipient, "yaml", "apiVersion: v1\nkind: Secret\nmetadata:\n    name: whole\nstringData:\n    a: "+canary+"\n", secretFields)),
		"apps/kept.yaml":   file(encrypt(t, recipient, "yaml", "apiVersion: v1\nkind: Secret\nmetadata:\n    name: kept\n    annotations:\n        "+sops.DecryptAnnotation+": Disabled\nstringData:\n    a: "+canary+"\n", secretFields)),
		"apps/patch.yaml":  file(encrypt(t, recipient, "yaml", "apiVersion: v1\nkind: Secret\nmetadata:\n    name: whole\nstringData:\n    b: "+canary+"\n", secretFields)),
		"apps/token.txt":   file(encrypt(t, recipient, "binary", canary, nil)),
		"apps/main.env":    file(encrypt(t, recipient, "env", "TOKEN="+canary+"\n", nil)),
	}
	objects, err := kustomize.Build(t.Context(), keys.FS(tree), "apps", nil)
	if err != nil {
		t.Fatal(err)
	}
	if err := keys.Objects(objects); err != nil {
		t.Fatal(err)
	}
	got := map[string]map[string]any{}
	for _, o := range objects {
		got[o.GetName()], _, _ = unstructured.NestedMap(o.Object, "stringData")
		data, _, _ := unstructured.NestedMap(o.Object, "data")
		for k, v := range data {
			raw, _ := base64.StdEncoding.DecodeString(v.(string))
			got[o.GetName()] = map[string]any{k: string(raw)}
		}
	}
	kept := got["kept"]
	delete(got, "kept")
	if !strings.HasPrefix(fmt.Sprint(kept["a"]), "ENC[") {
		t.Errorf("the annotation did not keep %v", kept)
	}
	want := map[string]map[string]any{"whole": {"a": canary, "b": canary}, "files": {"token.txt": canary}, "envs": {"TOKEN": canary}}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error("-want +got\n", diff)
	}
	if err := fstest.TestFS(keys.FS(tree), "apps/secret.yaml"); err != nil {
		t.Error(err)
	}
}

func TestBuildWithAnotherKey(t *testing.T) {
	recipient, _ := identity(t)
	_, keys := identity(t)
	tree := fstest.MapFS{"a.yaml": {Data: encrypt(t, recipient, "yaml", "apiVersion: v1\nkind: Secret\nmetadata:\n    name: a\n", nil)}}
	_, err := kustomize.Build(t.Context(), keys.FS(tree), ".", nil)
	if !errors.Is(err, sops.ErrNoKey) || !strings.Contains(err.Error(), "a.yaml") || !strings.Contains(err.Error(), recipient) {
		t.Errorf("%v; want one that names the file and the recipient", err)
	}
}

func TestObjects(t *testing.T) {
	recipient, keys := identity(t)
	encode := func(kind, plain string) string {
		return base64.StdEncoding.EncodeToString(encrypt(t, recipient, kind, plain, nil))
	}
	secret := func() *unstructured.Unstructured {
		return &unstructured.Unstructured{Object: map[string]any{
			"apiVersion": "v1", "kind": "Secret", "metadata": map[string]any{"name": "a", "namespace": "apps"},
			"data": map[string]any{"a.yaml": encode("yaml", "k: "+canary+"\n"), "plain": base64.StdEncoding.EncodeToString([]byte("sops: no")), "odd": "%"},
		}}
	}
	in := secret()
	if err := keys.Objects([]*unstructured.Unstructured{in}); err != nil {
		t.Fatal(err)
	}
	got, _, _ := unstructured.NestedString(in.Object, "data", "a.yaml")
	if raw, _ := base64.StdEncoding.DecodeString(got); string(raw) != "k: "+canary+"\n" {
		t.Errorf("%q", raw)
	}

	var none *sops.Keys
	if err := none.Objects([]*unstructured.Unstructured{secret()}); !errors.Is(err, sops.ErrEncrypted) || !strings.Contains(err.Error(), "Secret apps/a: data.a.yaml") {
		t.Errorf("without keys: %v", err)
	}
	whole := &unstructured.Unstructured{Object: map[string]any{
		"apiVersion": "v1", "kind": "ConfigMap", "metadata": map[string]any{"name": "b"}, "sops": map[string]any{"mac": "x"},
	}}
	for _, k := range []*sops.Keys{none, keys} {
		if err := k.Objects([]*unstructured.Unstructured{whole}); !errors.Is(err, sops.ErrEncrypted) || !strings.Contains(err.Error(), "ConfigMap b") {
			t.Errorf("encrypted object: %v", err)
		}
	}
	whole.SetAnnotations(map[string]string{sops.DecryptAnnotation: "disabled"})
	if err := none.Objects([]*unstructured.Unstructured{whole}); err != nil {
		t.Errorf("opted out: %v", err)
	}
}

func TestConcurrentReads(t *testing.T) {
	recipient, keys := identity(t)
	tree := keys.FS(fstest.MapFS{"a.yaml": {Data: encrypt(t, recipient, "yaml", "a: "+canary+"\n", nil)}})
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			if data, err := fs.ReadFile(tree, "a.yaml"); err != nil || string(data) != "a: "+canary+"\n" {
				t.Errorf("%q, %v", data, err)
			}
		})
	}
	wg.Wait()
}

func FuzzDecrypt(f *testing.F) {
	recipient, keys := identity(f)
	for _, kind := range []string{"yaml", "json", "env", "ini", "binary"} {
		plain := map[string]string{"json": `{"a":"b"}`, "env": "A=b\n", "ini": "[a]\nb=c\n"}[kind]
		if plain == "" {
			plain = "a: b\n"
		}
		f.Add("a."+kind, encrypt(f, recipient, kind, plain, nil))
	}
	f.Fuzz(func(t *testing.T, name string, data []byte) {
		sops.Encrypted(data)
		if _, err := keys.Decrypt(name, data); err != nil {
			var of *sops.Error
			if !errors.As(err, &of) {
				t.Errorf("%v is no Error", err)
			}
		}
	})
}
