package main

import (
	"context"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/gitopskit/gitopskit/internal/gitserver"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// Every commit that the program meets ends up in the directory, and it ends when it is told to.
func TestMirror(t *testing.T) {
	srv, err := gitserver.New(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	head, err := srv.Commit("demo.git", "main", "first", map[string]string{"deploy/app.yaml": "kind: List\n"})
	if err != nil {
		t.Fatal(err)
	}
	web := httptest.NewServer(srv)
	defer web.Close()
	dir := t.TempDir()
	ctx, stop := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- mirror(ctx, web.URL+"/demo.git", dir) }()
	for deadline := time.Now().Add(20 * time.Second); ; <-time.After(10 * time.Millisecond) {
		data, err := os.ReadFile(filepath.Join(dir, head, "deploy", "app.yaml"))
		if err == nil && string(data) == "kind: List\n" {
			break
		}
		if time.Now().After(deadline) {
			t.Fatal(err)
		}
	}
	stop()
	if err := <-ended; err != nil {
		t.Error(err)
	}
	if err := mirror(t.Context(), "ftp://nowhere", dir); err == nil {
		t.Error("a URL that cannot be is taken")
	}
}

// The program is as short as the documentation says.
func TestShort(t *testing.T) {
	src, err := os.ReadFile("main.go")
	if err != nil {
		t.Fatal(err)
	}
	_, body, _ := strings.Cut(string(src), "\n)\n")
	lines := 0
	for line := range strings.Lines(body) {
		if line = strings.TrimSpace(line); line != "" && !strings.HasPrefix(line, "//") {
			lines++
		}
	}
	if lines >= 30 {
		t.Errorf("%d lines besides the imports", lines)
	}
}
