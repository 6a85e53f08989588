package receiver_test

import (
	"crypto/hmac"
	"crypto/sha1"
	"crypto/sha256"
	"crypto/sha512"
	"encoding/hex"
	"hash"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"

	"github.com/gitopskit/gitopskit/notify/receiver"
)

const (
	token = "token-canary-0123456789"
	sha   = "4f2a9c1b4f2a9c1b4f2a9c1b4f2a9c1b4f2a9c1b"
	zeros = "0000000000000000000000000000000000000000"
)

func sign(algorithm, body string) string {
	h := map[string]func() hash.Hash{"sha1": sha1.New, "sha256": sha256.New, "sha512": sha512.New, "md5": sha256.New}[algorithm]
	mac := hmac.New(h, []byte(token))
	mac.Write([]byte(body))
	return algorithm + "=" + hex.EncodeToString(mac.Sum(nil))
}

// sample is what a vendor sends.
type sample struct {
	name   string
	typ    receiver.Type
	header map[string]string // SIGN:algorithm is replaced by the signature
	body   string
	want   receiver.Hook // without Type and Body
}

func samples() []sample {
	gitHubPush := `{"ref":"refs/heads/main","before":"` + zeros + `","after":"` + sha + `","created":true,"deleted":false,"forced":false,"compare":"https://github.com/acme/shop/commit/4f2a","commits":[{"id":"` + sha + `","message":"Scale to 3","added":[],"removed":[],"modified":["web.yaml"]}],"head_commit":{"id":"` + sha + `"},"repository":{"id":1,"name":"shop","full_name":"acme/shop","private":true},"pusher":{"name":"dev"}}`
	return []sample{
		{"generic", receiver.Generic, nil, `anything`, receiver.Hook{}},
		{"generic, empty", receiver.Generic, nil, ``, receiver.Hook{}},
		{"generic-hmac sha256", receiver.GenericHMAC, map[string]string{"X-Signature": "SIGN:sha256"}, `{"a":1}`, receiver.Hook{}},
		{"generic-hmac sha1", receiver.GenericHMAC, map[string]string{"X-Signature": "SIGN:sha1"}, `x`, receiver.Hook{}},
		{"generic-hmac sha512", receiver.GenericHMAC, map[string]string{"X-Signature": "SIGN:sha512"}, ``, receiver.Hook{}},
		{
			"github push", receiver.GitHub,
			map[string]string{"X-GitHub-Event": "push", "X-GitHub-Delivery": "72d3162e-cc78-11e3", "X-Hub-Signature-256": "SIGN:sha256", "X-Hub-Signature": "sha1=00", "Content-Type": "application/json"},
			gitHubPush, receiver.Hook{Event: "push", Delivery: "72d3162e-cc78-11e3", Repository: "acme/shop", Ref: "refs/heads/main", Commit: sha},
		},
		{
			"github form", receiver.GitHub,
			map[string]string{"X-GitHub-Event": "push", "X-Hub-Signature-256": "SIGN:sha256", "Content-Type": "application/x-www-form-urlencoded"},
			"payload=" + url.QueryEscape(gitHubPush), receiver.Hook{Event: "push", Repository: "acme/shop", Ref: "refs/heads/main", Commit: sha},
		},
		{
			"github deletion, sha1", receiver.GitHub,
			map[string]string{"X-GitHub-Event": "push", "X-Hub-Signature": "SIGN:sha1", "Content-Type": "application/json; charset=utf-8"},
			`{"ref":"refs/tags/v1","after":"` + zeros + `","deleted":true,"repository":{"full_name":"acme/shop"}}`,
			receiver.Hook{Event: "push", Repository: "acme/shop", Ref: "refs/tags/v1"},
		},
		{
			"github ping", receiver.GitHub,
			map[string]string{"X-GitHub-Event": "ping", "X-Hub-Signature-256": "SIGN:sha256", "Content-Type": "application/json"},
			`{"zen":"Keep it logically awesome.","hook_id":1,"hook":{"type":"Repository","events":["push"]},"repository":{"full_name":"acme/shop"}}`,
			receiver.Hook{Event: "ping", Repository: "acme/shop"},
		},
		{
			"github package", receiver.GitHub,
			map[string]string{"X-GitHub-Event": "registry_package", "X-Hub-Signature-256": "SIGN:sha256", "Content-Type": "application/json"},
			`{"action":"published","registry_package":{"name":"web","package_type":"CONTAINER","package_version":{"version":"sha256:ab","container_metadata":{"tag":{"name":"1.2.3","digest":"sha256:ab"}}}},"repository":{"full_name":"acme/shop"}}`,
			receiver.Hook{Event: "registry_package", Repository: "acme/shop", Tag: "1.2.3", Digest: "sha256:ab"},
		},
		{
			"gitlab push", receiver.GitLab,
			map[string]string{"X-Gitlab-Event": "Push Hook", "X-Gitlab-Token": token, "X-Gitlab-Event-UUID": "13792a34", "Idempotency-Key": "f5e57d3a"},
			`{"object_kind":"push","ref":"refs/heads/main","checkout_sha":"` + sha + `","user_name":"Dev","project":{"id":15,"path_with_namespace":"acme/apps/shop"},"total_commits_count":1}`,
			receiver.Hook{Event: "Push Hook", Delivery: "f5e57d3a", Repository: "acme/apps/shop", Ref: "refs/heads/main", Commit: sha},
		},
		{
			"gitlab deletion, old version", receiver.GitLab,
			map[string]string{"X-Gitlab-Event": "Tag Push Hook", "X-Gitlab-Token": token, "X-Gitlab-Event-UUID": "13792a34"},
			`{"ref":"refs/tags/v1","checkout_sha":null,"project":{"path_with_namespace":"acme/shop"}}`,
			receiver.Hook{Event: "Tag Push Hook", Delivery: "13792a34", Repository: "acme/shop", Ref: "refs/tags/v1"},
		},
		{
			"bitbucket server", receiver.Bitbucket,
			map[string]string{"X-Event-Key": "repo:refs_changed", "X-Request-Id": "r1", "X-Hub-Signature": "SIGN:sha256"},
			`{"eventKey":"repo:refs_changed","repository":{"slug":"shop","project":{"key":"ACME"}},"changes":[{"ref":{"id":"refs/heads/main","displayId":"main","type":"BRANCH"},"refId":"refs/heads/main","fromHash":"` + zeros + `","toHash":"` + sha + `","type":"ADD"}]}`,
			receiver.Hook{Event: "repo:refs_changed", Delivery: "r1", Repository: "ACME/shop", Ref: "refs/heads/main", Commit: sha},
		},
		{
			"bitbucket cloud", receiver.Bitbucket,
			map[string]string{"X-Event-Key": "repo:push", "X-Request-UUID": "r2", "X-Hub-Signature": "SIGN:sha256"},
			`{"push":{"changes":[{"old":null,"new":{"type":"tag","name":"v1","target":{"type":"commit","hash":"` + sha + `"}},"created":true}]},"repository":{"full_name":"acme/shop"}}`,
			receiver.Hook{Event: "repo:push", Delivery: "r2", Repository: "acme/shop", Ref: "refs/tags/v1", Commit: sha},
		},
		{
			"bitbucket cloud, deletion", receiver.Bitbucket, map[string]string{"X-Event-Key": "repo:push", "X-Hub-Signature": "SIGN:sha256"},
			`{"push":{"changes":[{"new":null}]},"repository":{"full_name":"acme/shop"}}`, receiver.Hook{Event: "repo:push", Repository: "acme/shop"},
		},
		{
			"harbor", receiver.Harbor, map[string]string{"Authorization": token},
			`{"type":"PUSH_ARTIFACT","occur_at":1680501893,"operator":"harbor","event_data":{"resources":[{"digest":"sha256:ab","tag":"1.2.3","resource_url":"harbor.example.org/shop/web:1.2.3"}],"repository":{"date_created":1,"name":"web","namespace":"shop","repo_full_name":"shop/web","repo_type":"private"}}}`,
			receiver.Hook{Event: "PUSH_ARTIFACT", Repository: "shop/web", Tag: "1.2.3", Digest: "sha256:ab"},
		},
		{
			"harbor, CloudEvents", receiver.Harbor, map[string]string{"Authorization": token, "Content-Type": "application/cloudevents+json"},
			`{"specversion":"1.0","id":"e1","source":"/projects/1/webhook/policies/1","type":"harbor.artifact.pushed","datacontenttype":"application/json","data":{"resources":[{"digest":"sha256:ab","tag":"1.2.3"}],"repository":{"repo_full_name":"shop/web"}}}`,
			receiver.Hook{Event: "harbor.artifact.pushed", Delivery: "e1", Repository: "shop/web", Tag: "1.2.3", Digest: "sha256:ab"},
		},
		{
			"dockerhub", receiver.DockerHub, nil,
			`{"callback_url":"https://registry.hub.docker.com/u/acme/web/hook/1/","push_data":{"pushed_at":1417566161,"pusher":"dev","tag":"1.2.3"},"repository":{"name":"web","namespace":"acme","owner":"acme","repo_name":"acme/web","repo_url":"https://registry.hub.docker.com/u/acme/web/","status":"Active"}}`,
			receiver.Hook{Repository: "acme/web", Tag: "1.2.3"},
		},
	}
}

// request makes the call of a sample.
func (s sample) request() *http.Request {
	r := httptest.NewRequest(http.MethodPost, "/hook/x?query=1", strings.NewReader(s.body))
	for name, value := range s.header {
		if algorithm, ok := strings.CutPrefix(value, "SIGN:"); ok {
			value = sign(algorithm, s.body)
		}
		r.Header.Set(name, value)
	}
	return r
}
