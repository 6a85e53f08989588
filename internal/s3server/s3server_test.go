package s3server_test

import (
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/minio/minio-go/v7"
	"github.com/minio/minio-go/v7/pkg/credentials"
	"go.uber.org/goleak"

	"github.com/gitopskit/gitopskit/internal/s3server"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// The signatures of another implementation are accepted, and those that it makes with another key are not.
func TestSignatures(t *testing.T) {
	srv := s3server.New("key", "secret")
	if err := srv.Put("deploy", "a b/ü+c", "1"); err != nil {
		t.Fatal(err)
	}
	web := httptest.NewServer(srv)
	defer web.Close()
	for secret, want := range map[string]string{"secret": "", "other": "SignatureDoesNotMatch"} {
		transport := &http.Transport{}
		defer transport.CloseIdleConnections()
		c, err := minio.New(strings.TrimPrefix(web.URL, "http://"), &minio.Options{Creds: credentials.NewStaticV4("key", secret, ""), Transport: transport, Region: "eu", MaxRetries: 1})
		if err != nil {
			t.Fatal(err)
		}
		r, _, _, err := minio.Core{Client: c}.GetObject(t.Context(), "deploy", "a b/ü+c", minio.GetObjectOptions{})
		if got := minio.ToErrorResponse(err).Code; err != nil && got != want || err == nil && want != "" {
			t.Errorf("%s: %v", secret, err)
		}
		if err == nil {
			if data, err := io.ReadAll(r); err != nil || string(data) != "1" {
				t.Errorf("%q, %v", data, err)
			}
			r.Close()
		}
	}
	if diff := cmp.Diff([]string{"GET /deploy/a b/ü+c", "GET /deploy/a b/ü+c"}, srv.Requests()); diff != "" {
		t.Error(diff)
	}
	res, err := http.Get(web.URL + "/deploy?list-type=2")
	if err != nil {
		t.Fatal(err)
	}
	res.Body.Close()
	http.DefaultClient.CloseIdleConnections()
	if res.StatusCode != http.StatusForbidden {
		t.Errorf("unsigned: %s", res.Status)
	}
	if err := srv.Delete("deploy", "a b/ü+c"); err != nil {
		t.Error(err)
	}
}
