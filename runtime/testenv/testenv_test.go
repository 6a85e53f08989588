package testenv_test

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/gitopskit/gitopskit/runtime/testenv"
	"go.uber.org/goleak"
	"k8s.io/client-go/rest"
)

func TestMain(m *testing.M) {
	if os.Getenv("TESTENV_VICTIM") != "" {
		os.Exit(victim())
	}
	goleak.VerifyTestMain(m, goleak.IgnoreAnyFunction(testenv.Goroutine))
}

// victim launches a server and waits to be killed.
func victim() int {
	s, err := testenv.Launch(context.Background(), nil)
	if err != nil {
		fmt.Println(err)
		return 1
	}
	fmt.Println(s.Processes())
	_, _ = io.Copy(io.Discard, os.Stdin)
	return 0
}

// request makes a request as the administrator and returns the status code.
func request(t *testing.T, config *rest.Config, method, path, body string) int {
	t.Helper()
	tlsConfig, err := rest.TLSConfigFor(config)
	if err != nil {
		t.Fatal(err)
	}
	transport := &http.Transport{TLSClientConfig: tlsConfig}
	defer transport.CloseIdleConnections()
	req, err := http.NewRequestWithContext(t.Context(), method, config.Host+path, strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Content-Type", "application/json")
	resp, err := transport.RoundTrip(req)
	if err != nil {
		t.Fatal(err)
	}
	if err := resp.Body.Close(); err != nil {
		t.Fatal(err)
	}
	return resp.StatusCode
}

// eventually waits until the condition holds.
func eventually(t *testing.T, what string, condition func() bool) {
	t.Helper()
	deadline := time.After(20 * time.Second)
	ticker := time.NewTicker(50 * time.Millisecond)
	defer ticker.Stop()
	for !condition() {
		select {
		case <-deadline:
			t.Fatalf("waited in vain: %s", what)
		case <-ticker.C:
		}
	}
}

// gone says whether none of the processes runs any more.
func gone(pids []int) bool {
	for _, pid := range pids {
		stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
		if _, state, _ := strings.Cut(string(stat), ") "); err == nil && !strings.HasPrefix(state, "Z") {
			return false
		}
		if err != nil && syscall.Kill(pid, 0) == nil && !errors.Is(err, os.ErrNotExist) {
			return false
		}
	}
	return true
}

// leftIn lists the entries of a directory.
func leftIn(t *testing.T, dir string) []string {
	t.Helper()
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, e := range entries {
		names = append(names, e.Name())
	}
	return names
}

const pod = `{"metadata":{"name":"p"},"spec":{"containers":[{"name":"c","image":"example.invalid/c"}]}}`

// Tests share a server and have a namespace each, in which pods can be created at once; it goes away after the test.
func TestStart(t *testing.T) {
	var first, second *testenv.Env
	t.Run("First/Test", func(t *testing.T) {
		first = testenv.Start(t)
		if code := request(t, first.Config(), http.MethodPost, "/api/v1/namespaces/"+first.Namespace+"/pods", pod); code != http.StatusCreated {
			t.Errorf("create a pod: status %d", code)
		}
	})
	t.Run("second", func(t *testing.T) {
		second = testenv.Start(t)
		if code := request(t, second.Config(), http.MethodGet, "/api/v1/namespaces/"+second.Namespace+"/pods/p", ""); code != http.StatusNotFound {
			t.Errorf("pod of another test: status %d", code)
		}
	})
	if first.Server != second.Server || first.Namespace == second.Namespace {
		t.Errorf("servers %p and %p, namespaces %s and %s", first.Server, second.Server, first.Namespace, second.Namespace)
	}
	eventually(t, "namespaces are deleted", func() bool {
		return request(t, first.Config(), http.MethodGet, "/api/v1/namespaces/"+first.Namespace, "") == http.StatusNotFound &&
			request(t, first.Config(), http.MethodGet, "/api/v1/namespaces/"+second.Namespace, "") == http.StatusNotFound
	})
	if code := request(t, first.Config(), http.MethodGet, "/api/v1/nodes/simulated-1", ""); code != http.StatusOK {
		t.Errorf("simulated node: status %d", code)
	}
	if first.Server.Version() == "" || first.Kubeconfig() == "" || first.Server.URL() != first.Config().Host {
		t.Errorf("server says %+v", first.Server)
	}
}

// A server of its own is empty, ends with the test, and reports its own end.
func TestStartServer(t *testing.T) {
	t.Setenv("TMPDIR", t.TempDir())
	var e *testenv.Env
	t.Run("own", func(t *testing.T) {
		e = testenv.StartServer(t, nil)
		if code := request(t, e.Config(), http.MethodGet, "/api/v1/nodes/simulated-0", ""); code != http.StatusNotFound {
			t.Errorf("simulated node: status %d", code)
		}
		if code := request(t, e.Config(), http.MethodPost, "/api/v1/namespaces/"+e.Namespace+"/pods", pod); code != http.StatusCreated {
			t.Errorf("create a pod: status %d", code)
		}
	})
	if !gone(e.Server.Processes()) {
		t.Errorf("processes %v still run", e.Server.Processes())
	}
	if left := leftIn(t, os.Getenv("TMPDIR")); len(left) > 0 {
		t.Errorf("left behind: %v", left)
	}
	if err := errors.Join(e.Server.Err(), e.Server.Stop()); err != nil {
		t.Error(err)
	}
}

// A server that ends by itself says so, and why.
func TestServerKilled(t *testing.T) {
	s, err := testenv.Launch(t.Context(), nil)
	if err != nil {
		t.Fatal(err)
	}
	if err := syscall.Kill(s.Processes()[1], syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	<-s.Done()
	if err := s.Err(); !errors.Is(err, testenv.ErrExited) || !strings.Contains(err.Error(), "killed") {
		t.Errorf("Err() = %v", err)
	}
	if err := s.Stop(); err != nil {
		t.Error(err)
	}
}

func TestParentKilled(t *testing.T) {
	t.Setenv("TMPDIR", t.TempDir())
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), "TESTENV_VICTIM=1")
	stdin, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	defer stdin.Close() //nolint:errcheck // its end is what counts
	stdout, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	line, readErr := bufio.NewReader(stdout).ReadString('\n')
	pids := make([]int, 2)
	if _, err := fmt.Sscanf(line, "[%d %d]", &pids[0], &pids[1]); err != nil {
		t.Errorf("victim says %q: %v, %v", line, err, readErr)
	}
	if err := cmd.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	_ = cmd.Wait() // it was killed
	eventually(t, "processes end", func() bool { return gone(pids) })
	eventually(t, "files are removed", func() bool { return len(leftIn(t, os.Getenv("TMPDIR"))) == 0 })
}

func TestBadBinary(t *testing.T) {
	plain := filepath.Join(t.TempDir(), "plain")
	if err := os.WriteFile(plain, nil, 0o644); err != nil {
		t.Fatal(err)
	}
	script := func(name, text string) string {
		path := filepath.Join(t.TempDir(), name)
		if err := os.WriteFile(path, []byte("#!/bin/sh\n"+text), 0o755); err != nil {
			t.Fatal(err)
		}
		return path
	}
	tests := []struct {
		name, path string
		want       error
		say        string
	}{
		{"missing", "/nonexistent/controlplane", testenv.ErrNoBinary, "no such file"},
		{"directory", t.TempDir(), testenv.ErrNoBinary, "is a directory"},
		{"not executable", plain, testenv.ErrNoBinary, "is not executable"},
		{"ends at once", script("a", "echo some reason >&2; exit 3\n"), testenv.ErrExited, "some reason"},
		{"says something else", script("b", "echo hello; cat >/dev/null\n"), nil, "understand what it printed"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Setenv(testenv.EnvBinary, tt.path)
			_, err := testenv.Launch(t.Context(), nil)
			if err == nil || tt.want != nil && !errors.Is(err, tt.want) || !strings.Contains(err.Error(), tt.say) {
				t.Errorf("got %v, want %v and %q", err, tt.want, tt.say)
			}
		})
	}
}

// The programs named by KUBEBUILDER_ASSETS do; ours is both of them under their names.
func TestAssets(t *testing.T) {
	binary, err := testenv.Prepare(t.Context(), os.Stderr)
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	t.Setenv("TMPDIR", t.TempDir())
	t.Setenv(testenv.EnvBinary, "")
	t.Setenv(testenv.EnvAssets, dir)
	if _, err := testenv.Launch(t.Context(), nil); !errors.Is(err, testenv.ErrNoBinary) || !strings.Contains(err.Error(), "kube-apiserver") {
		t.Errorf("without programs: %v", err)
	}
	for _, name := range []string{"etcd", "kube-apiserver"} {
		if err := os.Symlink(binary, filepath.Join(dir, name)); err != nil {
			t.Fatal(err)
		}
	}
	var e *testenv.Env
	t.Run("start", func(t *testing.T) {
		e = testenv.StartServer(t, nil)
		if code := request(t, e.Config(), http.MethodPost, "/api/v1/namespaces/"+e.Namespace+"/pods", pod); code != http.StatusCreated {
			t.Errorf("create a pod: status %d", code)
		}
		if !strings.HasPrefix(e.Server.Version(), "v1.") {
			t.Errorf("version %q", e.Server.Version())
		}
	})
	if left := leftIn(t, os.Getenv("TMPDIR")); !gone(e.Server.Processes()) || len(left) > 0 {
		t.Errorf("left behind: %v of %v", left, e.Server.Processes())
	}
}

func TestLaunchIsBounded(t *testing.T) {
	ctx, cancel := context.WithCancelCause(t.Context())
	reason := errors.New("changed my mind")
	cancel(reason)
	if _, err := testenv.Launch(ctx, nil); !errors.Is(err, reason) {
		t.Errorf("got %v, want %v", err, reason)
	}
}

// TestAuditLog: every request that may write is in the file when it is answered, and nothing else, with the built control
// plane and with programs of a directory.
func TestAuditLog(t *testing.T) {
	binary, err := testenv.Prepare(t.Context(), os.Stderr)
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	for _, name := range []string{"etcd", "kube-apiserver"} {
		if err := os.Symlink(binary, filepath.Join(dir, name)); err != nil {
			t.Fatal(err)
		}
	}
	for name, assets := range map[string]string{"built": "", "assets": dir} {
		t.Run(name, func(t *testing.T) {
			if t.Setenv(testenv.EnvAssets, assets); assets != "" {
				t.Setenv(testenv.EnvBinary, "")
			}
			file := filepath.Join(t.TempDir(), "audit.log")
			e := testenv.StartServer(t, &testenv.Options{AuditLog: file})
			request(t, e.Config(), http.MethodGet, "/api/v1/namespaces/"+e.Namespace+"/pods", "")
			request(t, e.Config(), http.MethodPost, "/api/v1/namespaces/"+e.Namespace+"/pods?dryRun=All", pod)
			request(t, e.Config(), http.MethodPost, "/api/v1/namespaces/"+e.Namespace+"/pods", pod)
			all, err := testenv.ReadAudit(file)
			if err != nil {
				t.Fatal(err)
			}
			got := slices.DeleteFunc(all, func(w testenv.Write) bool { return w.Namespace != e.Namespace || w.Resource != "pods" })
			made := testenv.Write{Verb: "create", User: "admin", Agent: "Go-http-client/1.1", Resource: "pods", Namespace: e.Namespace, Name: "p", Code: http.StatusCreated}
			tried := made
			tried.DryRun = true
			want := []testenv.Write{tried, made}
			if !slices.Equal(got, want) {
				t.Errorf("got %+v, want %+v", got, want)
			}
		})
	}
	if _, err := testenv.ReadAudit(filepath.Join(t.TempDir(), "none")); !errors.Is(err, os.ErrNotExist) || !strings.Contains(err.Error(), "none") {
		t.Error(err)
	}
	broken := filepath.Join(t.TempDir(), "broken")
	if err := os.WriteFile(broken, []byte("{}\nno JSON\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := testenv.ReadAudit(broken); err == nil || !strings.Contains(err.Error(), "broken, line 2") {
		t.Error(err)
	}
}
