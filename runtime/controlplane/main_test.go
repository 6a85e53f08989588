package controlplane_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/gitopskit/gitopskit/runtime/controlplane"
	"go.uber.org/goleak"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"
)

// The test binary is its own control plane, and its own victim: see TestParentKilled.
func TestMain(m *testing.M) {
	controlplane.Reexec()
	controlplane.Multicall()
	if dir, ok := os.LookupEnv("CONTROLPLANE_TEST_VICTIM"); ok {
		os.Exit(victim(dir))
	}
	code := m.Run()
	if fullStarted {
		c, err := full()
		if err == nil {
			err = c.Stop()
		}
		if err = errors.Join(err, goleak.Find()); err != nil {
			fmt.Println(err)
			code = 1
		}
	}
	os.Exit(code)
}

// victim starts a control plane, says where it is, and waits to be killed.
func victim(dir string) int {
	c, err := controlplane.Start(context.Background(), &controlplane.Options{Dir: dir, Controllers: []string{controlplane.Namespace}})
	if err != nil {
		fmt.Println(err)
		return 1
	}
	fmt.Println(c.Dir(), c.Processes())
	_, _ = io.Copy(io.Discard, os.Stdin)
	return 0
}

// full is one control plane with everything, for the tests that only use it.
var full = sync.OnceValues(func() (*controlplane.ControlPlane, error) {
	fullStarted = true
	return controlplane.Start(context.Background(), &controlplane.Options{SimulatedNodes: 3})
})

var fullStarted bool

// client returns a client of the shared control plane and a new namespace of it.
func client(t *testing.T) (kubernetes.Interface, string) {
	t.Helper()
	c, err := full()
	if err != nil {
		t.Fatal(err)
	}
	cs := clientOf(t, c)
	ns := strings.ToLower(t.Name())
	if err := createNamespace(t.Context(), cs, ns); err != nil {
		t.Fatal(err)
	}
	eventually(t, 10*time.Second, func(ctx context.Context) error { // a controller makes it, and pods need it
		_, err := cs.CoreV1().ServiceAccounts(ns).Get(ctx, "default", metav1.GetOptions{})
		return err
	})
	return cs, ns
}

func clientOf(t *testing.T, c *controlplane.ControlPlane) kubernetes.Interface {
	t.Helper()
	cs, err := kubernetes.NewForConfig(c.Config())
	if err != nil {
		t.Fatal(err)
	}
	return cs
}

// start starts a control plane that the test stops.
func start(t *testing.T, opts *controlplane.Options) *controlplane.ControlPlane {
	t.Helper()
	c, err := controlplane.Start(t.Context(), opts)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := c.Stop(); err != nil {
			t.Error(err)
		}
	})
	return c
}

// eventually waits until the condition holds; what it returns last says why it does not.
func eventually(t *testing.T, limit time.Duration, condition func(ctx context.Context) error) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), limit)
	defer cancel()
	ticker := time.NewTicker(25 * time.Millisecond)
	defer ticker.Stop()
	for {
		err := condition(ctx)
		if err == nil {
			return
		}
		select {
		case <-ctx.Done():
			t.Fatalf("after %v: %v", limit, err)
		case <-ticker.C:
		}
	}
}

// gone fails while one of the processes exists.
func gone(pids ...int) error {
	for _, pid := range pids {
		if err := syscall.Kill(pid, 0); err == nil && !zombie(pid) {
			return fmt.Errorf("process %d is alive", pid)
		}
	}
	return nil
}

// zombie says whether the process has ended but not been reaped, as happens to the children of a killed parent where
// nobody adopts them.
func zombie(pid int) bool {
	stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return false
	}
	_, after, _ := strings.Cut(string(stat), ") ")
	return strings.HasPrefix(after, "Z")
}

// files lists what is below a directory.
func files(t *testing.T, dir string) map[string]fs.FileMode {
	t.Helper()
	out := map[string]fs.FileMode{}
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		info, err := d.Info()
		if err == nil {
			out[strings.TrimPrefix(path, dir)] = info.Mode()
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return out
}

var noOptions = metav1.ListOptions{}
