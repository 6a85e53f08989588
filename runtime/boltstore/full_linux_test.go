package boltstore_test

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"runtime"
	"syscall"
	"testing"

	"go.uber.org/goleak"

	rt "github.com/gitopskit/gitopskit/runtime"
)

func TestMain(m *testing.M) {
	if path := os.Getenv("BOLTSTORE_TEST_FULL"); path != "" {
		os.Exit(fillDisk(path))
	}
	if name := os.Getenv("BOLTSTORE_TEST_LOOP"); name != "" {
		os.Exit(troubled(name, os.Getenv("BOLTSTORE_TEST_PATH")))
	}
	goleak.VerifyTestMain(m)
}

// TestFullDisk lets a process of its own run into a limit of the system for the size of files.
func TestFullDisk(t *testing.T) {
	path := filepath.Join(t.TempDir(), "states.db")
	cmd := exec.CommandContext(t.Context(), os.Args[0])
	cmd.Env = append(os.Environ(), "BOLTSTORE_TEST_FULL="+path)
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	if got, errs := load(t, open(t, path)); len(got) < 101 || errs != nil {
		t.Errorf("%d states, %v", len(got), errs)
	}
}

// fillDisk saves until nothing more fits, and then something small.
func fillDisk(path string) int {
	fail := func(a ...any) int { fmt.Println(a...); return 1 }
	signal.Ignore(syscall.SIGXFSZ)
	limit := syscall.Rlimit{Cur: 512 << 10, Max: 512 << 10}
	if err := syscall.Setrlimit(syscall.RLIMIT_FSIZE, &limit); err != nil {
		return fail(err)
	}
	s := &store{Path: path}
	full := 0
	for i := range 200 {
		var batch []rt.Saved[string]
		for j := range 100 {
			batch = append(batch, rt.Saved[string]{Key: fmt.Sprint(i, "/", j), State: state(j)})
		}
		if err := s.Save(context.Background(), batch); err != nil {
			full++
		}
	}
	if full == 0 {
		return fail("the disk never was full")
	}
	if err := s.Save(context.Background(), []rt.Saved[string]{{Key: "0/0", State: state(7)}, {Key: "last", State: state(7)}}); err != nil {
		return fail("a full disk is never left:", err)
	}
	return 0
}

// TestForbiddenFile is about a file that the process may not open. It gives up the rights of root for one thread.
func TestForbiddenFile(t *testing.T) {
	path := filepath.Join(t.TempDir(), "states.db")
	s := open(t, path)
	fill(t, s, 3)
	if err := errors.Join(s.Close(), os.Chmod(path, 0)); err != nil {
		t.Fatal(err)
	}
	done := make(chan []error)
	go func() {
		runtime.LockOSThread() // and never unlocked: the thread ends with the goroutine
		if os.Geteuid() == 0 {
			if _, _, errno := syscall.RawSyscall(syscall.SYS_SETFSUID, 65534, 0, 0); errno != 0 {
				t.Error(errno)
			}
		}
		_, errs := load(t, s)
		done <- errs
	}()
	if errs := <-done; len(errs) != 1 || !errors.Is(errs[0], fs.ErrPermission) {
		t.Errorf("got %v", errs)
	}
	if err := os.Chmod(path, 0o600); err != nil {
		t.Fatal(err)
	}
	if got, errs := load(t, s); len(got) != 3 || errs != nil {
		t.Errorf("got %v, %v", got, errs)
	}
}
