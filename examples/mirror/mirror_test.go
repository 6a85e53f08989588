package main

import (
	"context"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/gitopskit/gitopskit/internal/gitserver"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// Every commit that the program meets ends up in the directory, also when it is started again, and it ends when it is told to.
func TestMirror(t *testing.T) {
	srv, err := gitserver.New(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	web := httptest.NewServer(srv)
	defer web.Close()
	dir := t.TempDir()
	var heads []string
	for _, text := range []string{"first", "", "second"} { // the second time there is nothing new
		if text != "" {
			head, err := srv.Commit("demo.git", "main", text, map[string]string{"deploy/app.yaml": "kind: " + text + "\n"})
			if err != nil {
				t.Fatal(err)
			}
			heads = append(heads, head)
		}
		old := time.Now().Add(-time.Hour)
		for _, name := range archives(t, dir, heads[len(heads)-1], time.Time{}) {
			if err := os.Chtimes(name, old, old); err != nil {
				t.Fatal(err)
			}
		}
		ctx, stop := context.WithCancel(t.Context())
		ended := make(chan error, 1)
		go func() { ended <- mirror(ctx, web.URL+"/demo.git", dir) }()
		for deadline := time.Now().Add(20 * time.Second); len(archives(t, dir, heads[len(heads)-1], old.Add(time.Minute))) == 0; <-time.After(10 * time.Millisecond) {
			if time.Now().After(deadline) {
				t.Fatalf("%q is not there", text)
			}
		}
		stop()
		if err := <-ended; err != nil {
			t.Error(err)
		}
	}
	for _, head := range heads {
		if n := len(archives(t, dir, head, time.Time{})); n != 1 {
			t.Errorf("%d archives of %s", n, head)
		}
	}
	if err := mirror(t.Context(), "ftp://nowhere", dir); err == nil {
		t.Error("a URL that cannot be is taken")
	}
}

// archives are those of a commit that were published since.
func archives(t *testing.T, dir, commit string, since time.Time) []string {
	t.Helper()
	found, err := filepath.Glob(filepath.Join(dir, "commit", "mirror", commit, "*.tar.gz"))
	if err != nil {
		t.Fatal(err)
	}
	return slices.DeleteFunc(found, func(name string) bool {
		info, err := os.Stat(name)
		return err != nil || info.ModTime().Before(since)
	})
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
