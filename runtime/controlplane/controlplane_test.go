package controlplane_test

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/gitopskit/gitopskit/runtime/controlplane"
	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"
)

// Two at once, from one process, independent of each other; after the stop there is no process and no file.
func TestStartStop(t *testing.T) {
	t.Setenv("TMPDIR", t.TempDir())
	type result struct {
		c   *controlplane.ControlPlane
		err error
	}
	results := make(chan result, 2)
	for range 2 {
		go func() {
			c, err := controlplane.Start(t.Context(), nil)
			results <- result{c, err}
		}()
	}
	var cs []*controlplane.ControlPlane
	for range 2 {
		r := <-results
		if r.err != nil {
			t.Fatal(r.err)
		}
		cs = append(cs, r.c)
	}
	a, b := cs[0], cs[1]
	if a.URL() == b.URL() || a.Dir() == b.Dir() {
		t.Errorf("two control planes share %s or %s", a.URL(), a.Dir())
	}
	if err := createNamespace(t.Context(), clientOf(t, a), "only-in-a"); err != nil {
		t.Fatal(err)
	}
	if _, err := clientOf(t, b).CoreV1().Namespaces().Get(t.Context(), "only-in-a", metav1.GetOptions{}); !apierrors.IsNotFound(err) {
		t.Errorf("namespace of a in b: %v, want not found", err)
	}
	for _, c := range cs {
		if err := errors.Join(c.Err(), c.Stop(), c.Stop(), c.Err()); err != nil {
			t.Error(err)
		}
		if err := gone(c.Processes()...); err != nil {
			t.Error(err)
		}
		<-c.Done()
	}
	if got := files(t, os.Getenv("TMPDIR")); len(got) != 1 {
		t.Errorf("left behind: %v", got)
	}
}

func TestVersion(t *testing.T) {
	gomod, err := os.ReadFile("go.mod")
	if err != nil {
		t.Fatal(err)
	}
	if want := "k8s.io/kubernetes " + controlplane.KubernetesVersion() + "\n"; !strings.Contains(string(gomod), want) {
		t.Errorf("go.mod does not require %q", want)
	}
	cs, _ := client(t)
	info, err := cs.Discovery().ServerVersion()
	if err != nil {
		t.Fatal(err)
	}
	if info.GitVersion != controlplane.KubernetesVersion() || info.Major+"."+info.Minor != "1.36" {
		t.Errorf("server reports %s (%s.%s), want %s", info.GitVersion, info.Major, info.Minor, controlplane.KubernetesVersion())
	}
}

func TestAuthorization(t *testing.T) {
	cs, ns := client(t)
	c, _ := full()
	t.Run("anonymous", func(t *testing.T) {
		anonymous, err := kubernetes.NewForConfig(rest.AnonymousClientConfig(c.Config()))
		if err != nil {
			t.Fatal(err)
		}
		if _, err := anonymous.CoreV1().Namespaces().List(t.Context(), noOptions); !apierrors.IsForbidden(err) {
			t.Errorf("anonymous list: %v, want forbidden", err)
		}
	})
	t.Run("service account", func(t *testing.T) {
		token, err := cs.CoreV1().ServiceAccounts(ns).CreateToken(t.Context(), "default", tokenRequest(), metav1.CreateOptions{})
		if err != nil {
			t.Fatal(err)
		}
		config := rest.AnonymousClientConfig(c.Config())
		config.BearerToken = token.Status.Token
		account, err := kubernetes.NewForConfig(config)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := account.CoreV1().Secrets(ns).List(t.Context(), noOptions); !apierrors.IsForbidden(err) {
			t.Errorf("unprivileged list: %v, want forbidden", err)
		}
		if err := allowConfigMaps(t.Context(), cs, ns); err != nil {
			t.Fatal(err)
		}
		eventually(t, 5*time.Second, func(ctx context.Context) error {
			_, err := account.CoreV1().ConfigMaps(ns).List(ctx, noOptions)
			return err
		})
	})
	t.Run("unknown authority", func(t *testing.T) {
		res, err := http.Get(c.URL() + "/version")
		if err == nil {
			res.Body.Close()
		}
		if err == nil || !strings.Contains(err.Error(), "certificate") {
			t.Errorf("request without the authority's certificate: %v, want a certificate error", err)
		}
	})
}

func TestSecretsAreOnlyForTheUser(t *testing.T) {
	c, err := full()
	if err != nil {
		t.Fatal(err)
	}
	for path, mode := range files(t, c.Dir()) {
		if strings.HasPrefix(path, "/etcd/") {
			continue // below a directory nobody else can enter
		}
		if mode.IsDir() && mode.Perm() != 0o700 || mode.IsRegular() && mode.Perm() != 0o600 {
			t.Errorf("%s has mode %v", path, mode)
		}
	}
	kubeconfig, err := os.ReadFile(c.Kubeconfig())
	if err != nil {
		t.Fatal(err)
	}
	if bytes.Contains(kubeconfig, []byte("insecure")) || !bytes.Equal(kubeconfig, c.KubeconfigYAML()) {
		t.Error("kubeconfig is insecure or not what KubeconfigYAML returns")
	}
	config, err := clientcmd.RESTConfigFromKubeConfig(kubeconfig)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(c.Config().TLSClientConfig, config.TLSClientConfig); diff != "" {
		t.Errorf("Config and kubeconfig differ: %s", diff)
	}
}

// A directory keeps the cluster, its authority and its port, and is refused while a control plane uses it.
func TestDurable(t *testing.T) {
	opts := &controlplane.Options{Dir: filepath.Join(t.TempDir(), strings.Repeat("a-long-name/", 12))}
	first, err := controlplane.Start(t.Context(), opts)
	if err != nil {
		t.Fatal(err)
	}
	defer first.Stop() //nolint:errcheck // it is stopped below; this is for a test that failed before
	if err := createNamespace(t.Context(), clientOf(t, first), "kept"); err != nil {
		t.Fatal(err)
	}
	config := first.Config()

	_, err = controlplane.Start(t.Context(), opts)
	if !errors.Is(err, controlplane.ErrDirInUse) || !strings.Contains(err.Error(), fmt.Sprint("process ", os.Getpid())) {
		t.Errorf("second start: %v, want one that names this process", err)
	}
	if err := first.Stop(); err != nil {
		t.Fatal(err)
	}
	second := start(t, opts)
	old, err := kubernetes.NewForConfig(config)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := old.CoreV1().Namespaces().Get(t.Context(), "kept", metav1.GetOptions{}); err != nil {
		t.Errorf("with the configuration from before the restart: %v", err)
	}
	if first.URL() != second.URL() {
		t.Errorf("URL changed from %s to %s", first.URL(), second.URL())
	}
}

// A server killed half-way is reported with the end of its log, its controllers end too, and its data survives.
func TestServerKilled(t *testing.T) {
	opts := &controlplane.Options{Dir: t.TempDir(), Controllers: []string{controlplane.Namespace}}
	c := start(t, opts)
	if err := createNamespace(t.Context(), clientOf(t, c), "kept"); err != nil {
		t.Fatal(err)
	}
	if err := syscall.Kill(c.Processes()[0], syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	select {
	case <-c.Done():
	case <-time.After(15 * time.Second):
		t.Fatal("the end of the server was not noticed")
	}
	var typed *controlplane.Error
	if err := c.Err(); !errors.Is(err, controlplane.ErrExited) || !errors.As(err, &typed) || !strings.Contains(err.Error(), "killed") {
		t.Errorf("Err() = %v", err)
	}
	if err := errors.Join(gone(c.Processes()...), c.Stop()); err != nil {
		t.Error(err)
	}
	again := start(t, opts)
	if _, err := clientOf(t, again).CoreV1().Namespaces().Get(t.Context(), "kept", metav1.GetOptions{}); err != nil {
		t.Error(err)
	}
}

// When the parent is killed, nothing can tell the children but the end of their input.
func TestParentKilled(t *testing.T) {
	t.Run("temporary", func(t *testing.T) {
		t.Setenv("TMPDIR", t.TempDir())
		_, pids := killedVictim(t, "")
		eventually(t, 10*time.Second, func(context.Context) error { return gone(pids...) })
		if got := files(t, os.Getenv("TMPDIR")); len(got) != 1 {
			t.Errorf("left behind: %v", got)
		}
	})
	t.Run("durable", func(t *testing.T) {
		dir := t.TempDir()
		killedVictim(t, dir)
		start(t, &controlplane.Options{Dir: dir}) // waits for the orphans to stop, takes over, and finds the data whole
	})
}

// When parent and children are killed, the next start removes what they left.
func TestAllKilled(t *testing.T) {
	t.Setenv("TMPDIR", t.TempDir())
	c, err := controlplane.Start(t.Context(), nil)
	if err != nil {
		t.Fatal(err)
	}
	abandoned := filepath.Join(os.Getenv("TMPDIR"), "gitopskit-controlplane-abandoned")
	foreign := filepath.Join(os.Getenv("TMPDIR"), "gitopskit-controlplane-foreign")
	if err := errors.Join(os.Mkdir(abandoned, 0o700), os.Mkdir(foreign, 0o700), os.WriteFile(filepath.Join(abandoned, "lock"), []byte("1\n"), 0o600)); err != nil {
		t.Fatal(err)
	}
	start(t, nil)
	if _, err := os.Stat(abandoned); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("abandoned directory: %v, want it removed", err)
	}
	for _, dir := range []string{c.Dir(), foreign} {
		if _, err := os.Stat(dir); err != nil {
			t.Errorf("directory in use: %v", err)
		}
	}
	if err := c.Stop(); err != nil {
		t.Error(err)
	}
}

// killedVictim starts a process with a control plane, kills the process, and returns directory and children.
func killedVictim(t *testing.T, dir string) (string, []int) {
	t.Helper()
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), "CONTROLPLANE_TEST_VICTIM="+dir)
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
	line, err := bufio.NewReader(stdout).ReadString('\n')
	var server, controllers int
	if _, scanErr := fmt.Sscanf(line, "%s [%d %d]", &dir, &server, &controllers); scanErr != nil {
		t.Errorf("victim says %q: %v", line, errors.Join(err, scanErr))
	}
	if err := cmd.Process.Kill(); err != nil {
		t.Error(err)
	}
	_ = cmd.Wait() // it was killed
	return dir, []int{server, controllers}
}

func TestPortInUse(t *testing.T) {
	taken, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer taken.Close()
	port := taken.Addr().(*net.TCPAddr).Port
	t.Setenv("TMPDIR", t.TempDir())
	_, err = controlplane.Start(t.Context(), &controlplane.Options{Port: port})
	if !errors.Is(err, controlplane.ErrPortInUse) || !strings.Contains(err.Error(), fmt.Sprint("on port ", port)) {
		t.Errorf("got %v", err)
	}
	if got := files(t, os.Getenv("TMPDIR")); len(got) != 1 {
		t.Errorf("left behind: %v", got)
	}
}

// A port that was ours to choose and is taken now is replaced by another.
func TestFormerPortInUse(t *testing.T) {
	taken, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer taken.Close()
	dir := t.TempDir()
	port := fmt.Sprint(taken.Addr().(*net.TCPAddr).Port)
	if err := os.WriteFile(filepath.Join(dir, "port"), []byte(port), 0o600); err != nil {
		t.Fatal(err)
	}
	if c := start(t, &controlplane.Options{Dir: dir, Unsynced: true}); strings.HasSuffix(c.URL(), ":"+port) {
		t.Errorf("URL is %s", c.URL())
	}
}

func TestBadDirectory(t *testing.T) {
	file := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	tests := []struct {
		name, dir string
		want      error
		say       string
	}{
		{"below a file", filepath.Join(file, "sub"), syscall.ENOTDIR, "a part of the path is a file"},
		{"is a file", file, syscall.ENOTDIR, "a part of the path is a file"},
		{"not writable", "/proc/gitopskit", fs.ErrNotExist, "in directory /proc/gitopskit"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			_, err := controlplane.Start(t.Context(), &controlplane.Options{Dir: tt.dir})
			if !errors.Is(err, tt.want) || !strings.Contains(err.Error(), tt.say) {
				t.Errorf("got %v, want %v and %q", err, tt.want, tt.say)
			}
		})
	}
}

func TestDamagedData(t *testing.T) {
	dir := t.TempDir()
	if err := start(t, &controlplane.Options{Dir: dir, Unsynced: true}).Stop(); err != nil {
		t.Fatal(err)
	}
	db := filepath.Join(dir, "etcd", "member", "snap", "db")
	if err := os.WriteFile(db, bytes.Repeat([]byte("damage"), 4096), 0o600); err != nil {
		t.Fatal(err)
	}
	_, err := controlplane.Start(t.Context(), &controlplane.Options{Dir: dir})
	if err == nil || !strings.Contains(err.Error(), "may be damaged") || !strings.Contains(err.Error(), dir) {
		t.Errorf("got %v", err)
	}
}

func TestStartIsBounded(t *testing.T) {
	t.Setenv("TMPDIR", t.TempDir())
	_, err := controlplane.Start(t.Context(), &controlplane.Options{ReadyTimeout: 50 * time.Millisecond})
	if !errors.Is(err, controlplane.ErrNotReady) {
		t.Errorf("with a short timeout: %v", err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := controlplane.Start(ctx, nil); !errors.Is(err, context.Canceled) {
		t.Errorf("with a cancelled context: %v", err)
	}
	if got := files(t, os.Getenv("TMPDIR")); len(got) != 1 {
		t.Errorf("left behind: %v", got)
	}
}

func TestInvalidOptions(t *testing.T) {
	_, err := controlplane.Start(t.Context(), &controlplane.Options{
		Port: 70000, SimulatedNodes: -1, ReadyTimeout: -1, Controllers: []string{"cronjob"},
	})
	if !errors.Is(err, controlplane.ErrInvalidOptions) {
		t.Fatalf("got %v", err)
	}
	for _, part := range []string{"Port 70000", "SimulatedNodes -1", "ReadyTimeout", `"cronjob"`} {
		if !strings.Contains(err.Error(), part) {
			t.Errorf("%v does not mention %s", err, part)
		}
	}
}

func TestBadExecutable(t *testing.T) {
	t.Setenv("TMPDIR", t.TempDir())
	_, err := controlplane.Start(t.Context(), &controlplane.Options{Executable: "/nonexistent/program"})
	if !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("got %v", err)
	}
	_, err = controlplane.Start(t.Context(), &controlplane.Options{Executable: "/bin/false"})
	if !errors.Is(err, controlplane.ErrExited) {
		t.Errorf("a program that ends at once: %v", err)
	}
}

func createNamespace(ctx context.Context, cs kubernetes.Interface, name string) error {
	_, err := cs.CoreV1().Namespaces().Create(ctx, &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: name}}, metav1.CreateOptions{})
	return err
}
