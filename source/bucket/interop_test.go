//go:build interop

package bucket_test

import (
	"errors"
	"net"
	"net/http"
	"os/exec"
	"strings"
	"testing"

	"github.com/minio/minio-go/v7"
	"github.com/minio/minio-go/v7/pkg/credentials"

	"github.com/gitopskit/gitopskit/source"
	"github.com/gitopskit/gitopskit/source/bucket"
	"github.com/gitopskit/gitopskit/source/sourcetest"
)

// TestInteropVersity reads a bucket of another implementation of S3.
func TestInteropVersity(t *testing.T) {
	program, err := exec.LookPath("versitygw")
	if err != nil {
		t.Fatalf("%v: go install github.com/versity/versitygw/cmd/versitygw@v1.8.0", err)
	}
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	addr := listener.Addr().String()
	listener.Close()
	var log strings.Builder
	cmd := exec.Command(program, "--access", access, "--secret", secret, "--port", addr, "posix", t.TempDir())
	cmd.Stdout, cmd.Stderr = &log, &log
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
		if t.Failed() {
			t.Logf("versitygw said:\n%s", &log)
		}
	})
	transport := &http.Transport{}
	t.Cleanup(transport.CloseIdleConnections)
	c, err := minio.New(addr, &minio.Options{Creds: credentials.NewStaticV4(access, secret, ""), Transport: transport, Region: "us-east-1"})
	if err != nil {
		t.Fatal(err)
	}
	if err := c.MakeBucket(t.Context(), "deploy", minio.MakeBucketOptions{}); err != nil { // it waits for the server
		t.Fatal(err)
	}
	put := func(key, data string) {
		t.Helper()
		if _, err := c.PutObject(t.Context(), "deploy", key, strings.NewReader(data), int64(len(data)), minio.PutObjectOptions{}); err != nil {
			t.Fatal(err)
		}
	}
	for key, data := range map[string]string{"app.yaml": "kind: List\n", "a/b": "1", "a/ü x+y": "2", "notes.md": "", ".sourceignore": "*.md\n"} {
		put(key, data)
	}
	s3 := func(secret string) *bucket.S3 {
		s3, err := bucket.NewS3(addr, "deploy", &bucket.S3Options{AccessKey: access, SecretKey: secret, PlainHTTP: true})
		if err != nil {
			t.Fatal(err)
		}
		return s3
	}
	src, err := bucket.New("deploy", s3(secret), nil)
	if err != nil {
		t.Fatal(err)
	}
	if err := sourcetest.TestSource(t.Context(), src, "app.yaml", "a/b", "a/ü x+y"); err != nil {
		t.Error(err)
	}
	rev, err := src.Resolve(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	// The listing is older than the object: its condition must fail.
	stale := bucket.Object{Key: "a/b", ETag: "c4ca4238a0b923820dcc509a6f75849b", Size: 1}
	put("a/b", "3")
	if r, err := s3(secret).Get(t.Context(), stale); !errors.Is(err, source.ErrNotFound) {
		if r != nil {
			r.Close()
		}
		t.Errorf("a stale ETag: %v", err)
	}
	if _, err := src.Fetch(t.Context(), rev); !errors.Is(err, source.ErrNotFound) {
		t.Errorf("a stale revision: %v", err)
	}
	wrong, err := bucket.New("deploy", s3("wrong"), nil)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := wrong.Resolve(t.Context()); !errors.Is(err, source.ErrUnauthorized) {
		t.Errorf("wrong secret: %v", err)
	}
}
