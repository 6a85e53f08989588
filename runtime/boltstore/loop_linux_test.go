package boltstore_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	rt "github.com/gitopskit/gitopskit/runtime"
)

// loopKeys is how many keys a process of [troubled] has; each has an interval that does not come.
const loopKeys = 3000

// TestLoopWithoutStore has the loop of a process of its own work with a file that it may not open, a directory in which
// it may create nothing, and a disk that is full: all keys have their passes, a warning is logged, and the process goes
// on. A full disk loses nothing that was saved before.
func TestLoopWithoutStore(t *testing.T) {
	for name, c := range map[string]struct {
		prepare func(path string) error
		passes  int
		warns   []string
	}{
		"forbidden file":      {func(path string) error { return os.Chmod(path, 0) }, loopKeys, []string{"cannot restore", "cannot save"}},
		"forbidden directory": {func(path string) error { return errors.Join(os.Remove(path), os.Chmod(filepath.Dir(path), 0)) }, loopKeys, []string{"cannot restore", "cannot save"}},
		"full disk":           {func(string) error { return nil }, loopKeys - 2, []string{"cannot save"}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			dir := filepath.Join(t.TempDir(), "states")
			if err := os.Mkdir(dir, 0o777); err != nil {
				t.Fatal(err)
			}
			path := filepath.Join(dir, "states.db")
			s := open(t, path)
			want := map[string]rt.State{}
			for i := range 2 { // they are not due
				k := fmt.Sprint("key", i)
				want[k] = rt.State{Outcome: rt.OutcomeOK, Ready: true, Passes: 1, Started: time.Now(), Finished: time.Now(), LastSuccess: time.Now(), Due: time.Now().Add(time.Hour), Interval: time.Hour}
				if err := s.Save(t.Context(), []rt.Saved[string]{{Key: k, State: want[k]}}); err != nil {
					t.Fatal(err)
				}
			}
			if err := errors.Join(s.Close(), os.Chmod(path, 0o666), os.Chmod(dir, 0o777), c.prepare(path)); err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() { _ = os.Chmod(dir, 0o700) })
			cmd := exec.CommandContext(t.Context(), os.Args[0])
			cmd.Env = append(os.Environ(), "BOLTSTORE_TEST_LOOP="+name, "BOLTSTORE_TEST_PATH="+path)
			out, err := cmd.CombinedOutput()
			if err != nil {
				t.Fatalf("%v\n%s", err, out)
			}
			passes, log, _ := strings.Cut(string(out), "\n")
			if passes != fmt.Sprintf("%d keys have had a pass", c.passes) {
				t.Errorf("%s; want %d", passes, c.passes)
			}
			for _, warn := range c.warns {
				if n := strings.Count(log, "level=WARN msg=\""+warn); n == 0 || n > 20 {
					t.Errorf("%d warnings that it %s:\n%s", n, warn, log)
				}
			}
			if name != "full disk" {
				return
			}
			got, errs := load(t, open(t, path))
			if len(errs) > 0 {
				t.Errorf("after a full disk: %v", errs)
			}
			for k := range want {
				if got[k].Passes != 1 {
					t.Errorf("after a full disk %s is %+v", k, got[k])
				}
			}
		})
	}
}

// troubled is the process: it runs a loop until every key has had its pass, once more after that, and stops it.
func troubled(name, path string) int {
	fail := func(a ...any) int { fmt.Println(a...); return 1 }
	if name == "full disk" {
		signal.Ignore(syscall.SIGXFSZ)
		limit := syscall.Rlimit{Cur: 64 << 10, Max: 64 << 10}
		if err := syscall.Setrlimit(syscall.RLIMIT_FSIZE, &limit); err != nil {
			return fail(err)
		}
	} else if os.Geteuid() == 0 {
		const nobody = 65534
		if err := errors.Join(syscall.Setgid(nobody), syscall.Setuid(nobody)); err != nil {
			return fail(err)
		}
	}
	var log bytes.Buffer
	passes := make(chan string, 2*loopKeys)
	s := &store{Path: path, Timeout: time.Second}
	l, err := rt.New(rt.Func[string](func(_ context.Context, p rt.Pass[string]) rt.Result { passes <- p.Key; return rt.OK() }),
		&rt.Options[string]{Store: s, Log: slog.New(slog.NewTextHandler(&log, nil))})
	if err != nil {
		return fail(err)
	}
	for i := range loopKeys {
		if err := l.Set(fmt.Sprint("key", i), rt.Spec[string]{Interval: time.Hour}); err != nil {
			return fail(err)
		}
	}
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	ended := make(chan error, 1)
	go func() { ended <- l.Run(ctx) }()
	seen := map[string]bool{}
	want := loopKeys
	if name == "full disk" {
		want -= 2 // that are known and not due
	}
	for limit := time.After(time.Minute); len(seen) < want; {
		select {
		case k := <-passes:
			seen[k] = true
		case <-limit:
			return fail(len(seen), "keys have had a pass, and no more")
		}
	}
	if _, err := l.Trigger(fmt.Sprint("key", loopKeys-1), nil).Wait(ctx); err != nil {
		return fail("a trigger afterwards:", err)
	}
	cancel()
	if err := errors.Join(<-ended, s.Close()); err != nil {
		return fail(err)
	}
	fmt.Printf("%d keys have had a pass\n%s", len(seen), log.String())
	return 0
}
