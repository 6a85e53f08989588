package boltstore_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	"go.etcd.io/bbolt"
	bolterrors "go.etcd.io/bbolt/errors"

	rt "github.com/gitopskit/gitopskit/runtime"
	"github.com/gitopskit/gitopskit/runtime/boltstore"
)

type store = boltstore.Store[string]

func open(t testing.TB, path string) *store {
	t.Helper()
	s := &store{Path: path}
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	})
	return s
}

// load returns what can be read, and the errors.
func load(t testing.TB, s *store) (map[string]rt.State, []error) {
	t.Helper()
	states, errs := map[string]rt.State{}, []error(nil)
	for r, err := range s.Load(t.Context()) {
		if err != nil {
			errs = append(errs, err)
			continue
		}
		states[r.Key] = r.State
	}
	return states, errs
}

func state(n int) rt.State {
	at := time.Date(2026, 1, 2, 3, 4, 5, n, time.UTC)
	return rt.State{
		Phase: rt.PhaseQueued, Outcome: rt.OutcomeFailed, Ready: true, Version: "v", Revision: "r", Token: "t", Message: fmt.Sprint("m", n),
		Failures: 1, Passes: n, Started: at, Finished: at.Add(1), LastSuccess: at.Add(2), Due: at.Add(time.Hour),
	}
}

func fill(t testing.TB, s *store, n int) map[string]rt.State {
	t.Helper()
	want := map[string]rt.State{}
	var batch []rt.Saved[string]
	for i := range n {
		k := fmt.Sprint("key", i)
		want[k] = state(i)
		batch = append(batch, rt.Saved[string]{Key: k, State: state(i)})
	}
	if err := s.Save(t.Context(), batch); err != nil {
		t.Fatal(err)
	}
	return want
}

func TestRoundTrip(t *testing.T) {
	path := filepath.Join(t.TempDir(), "states.db")
	s := open(t, path)
	want := fill(t, s, 1000)
	odd := []rt.Saved[string]{{Key: "", State: state(1)}, {Key: strings.Repeat("k", 40_000), State: state(1)}, {Key: "large", State: rt.State{Revision: strings.Repeat("r", 2<<20)}}}
	if err := s.Save(t.Context(), odd); err != nil {
		t.Fatal(err)
	}
	want[""] = state(1)
	if err := s.Delete(t.Context(), []string{"key7", "unknown"}); err != nil {
		t.Fatal(err)
	}
	delete(want, "key7")
	if err := errors.Join(s.Close(), s.Close()); err != nil {
		t.Fatal(err)
	}
	got, errs := load(t, s)
	if diff := cmp.Diff(want, got); diff != "" || errs != nil {
		t.Errorf("%v (-want +got):\n%s", errs, diff)
	}
	if info, err := os.Stat(path); err != nil || info.Mode() != 0o600 {
		t.Errorf("mode %v, %v", info.Mode(), err)
	}
}

// Times that no calendar has, and text that is not UTF-8, do not keep a state from being saved.
func TestOddStates(t *testing.T) {
	s := open(t, filepath.Join(t.TempDir(), "states.db"))
	odd := rt.State{Message: "\xff" + strings.Repeat("é", 1<<20), Due: time.Unix(1<<60, 0), Finished: time.Unix(-1<<60, 0)}
	if err := s.Save(t.Context(), []rt.Saved[string]{{Key: "\xff\x00", State: odd}}); err != nil {
		t.Fatal(err)
	}
	got, errs := load(t, s)
	if _, ok := got["\xff\x00"]; !ok || errs != nil {
		t.Errorf("got %v, %v", got, errs)
	}
}

func TestDamagedRecordCostsOneKey(t *testing.T) {
	path := filepath.Join(t.TempDir(), "states.db")
	s := open(t, path)
	want := fill(t, s, 100)
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	change(t, path, func(b *bbolt.Bucket) error {
		flipped := bytes.Clone(b.Get([]byte("/key3")))
		flipped[10] ^= 1
		moved := bytes.Clone(b.Get([]byte("/key4"))) // a good record of another key
		return errors.Join(b.Put([]byte("/key3"), flipped), b.Put([]byte("/key5"), moved), b.Put([]byte("/key6"), []byte("x")))
	})
	got, errs := load(t, s)
	for _, k := range []string{"key3", "key5", "key6"} {
		delete(want, k)
		about := func(err error) bool {
			var e *boltstore.Error
			return errors.As(err, &e) && e.Op == "load" && e.Key == k && e.Path == path && errors.Is(err, boltstore.ErrDamaged)
		}
		if !slices.ContainsFunc(errs, about) {
			t.Errorf("no error about %s: %v", k, errs)
		}
	}
	if diff := cmp.Diff(want, got); diff != "" || len(errs) != 3 {
		t.Errorf("%v (-want +got):\n%s", errs, diff)
	}
	if again, errs := load(t, s); len(again) != 97 || errs != nil {
		t.Errorf("the damaged records are still there: %v", errs)
	}
}

func change(t testing.TB, path string, f func(*bbolt.Bucket) error) {
	t.Helper()
	db, err := bbolt.Open(path, 0o600, nil)
	if err != nil {
		t.Fatal(err)
	}
	err = db.Update(func(tx *bbolt.Tx) error { return f(tx.Bucket([]byte("states.v1"))) })
	if err := errors.Join(err, db.Close()); err != nil {
		t.Fatal(err)
	}
}

// A file that was cut short at any place, or that something else was written over, is replaced; nothing is read that
// was not written, and the store works afterwards.
func TestDamagedFileIsReplaced(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "states.db")
	s := open(t, path)
	want := fill(t, s, 500)
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	good, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	random := rand.New(rand.NewPCG(1, 2))
	replaced := 0
	for i := range 120 {
		bad := bytes.Clone(good)
		switch {
		case i < 40:
			bad = bad[:len(bad)*i/40]
		case i < 80:
			at := random.IntN(len(bad) - 4096)
			for j := range 1 + random.IntN(4000) {
				bad[at+j] = byte(random.Uint32())
			}
		case i < 119:
			bad[random.IntN(len(bad))] ^= 1 << random.IntN(8)
		default:
			bad = []byte("not a database")
		}
		if err := os.WriteFile(path, bad, 0o600); err != nil {
			t.Fatal(err)
		}
		_ = os.Remove(path + ".damaged") // perhaps it is not there
		got, errs := load(t, s)
		for k, state := range got {
			if !cmp.Equal(state, want[k]) {
				t.Fatalf("case %d: %s is %+v, want %+v", i, k, state, want[k])
			}
		}
		if len(got) < len(want) && errs == nil && len(bad) > 0 {
			t.Errorf("case %d: %d states and no error", i, len(got))
		}
		if _, err := os.Stat(path + ".damaged"); err == nil {
			replaced++
		}
		if err := s.Save(t.Context(), []rt.Saved[string]{{Key: "new", State: state(1)}}); err != nil && !errors.Is(err, boltstore.ErrDamaged) {
			t.Errorf("case %d: %v", i, err)
		}
		if err := s.Save(t.Context(), []rt.Saved[string]{{Key: "new", State: state(1)}}); err != nil {
			t.Errorf("case %d: again: %v", i, err)
		}
		if err := s.Close(); err != nil {
			t.Errorf("case %d: %v", i, err)
		}
	}
	if replaced < 30 {
		t.Errorf("%d files were replaced", replaced)
	}
}

func TestFilesThatCannotBeOpened(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "sub", "states.db")
	s := open(t, path)
	s.Timeout = time.Millisecond
	try := func(want error) {
		t.Helper()
		_, errs := load(t, s)
		err := s.Save(t.Context(), []rt.Saved[string]{{Key: "a"}})
		var e *boltstore.Error
		if len(errs) != 1 || !errors.As(errs[0], &e) || e.Op != "open" || want != nil && (!errors.Is(errs[0], want) || !errors.Is(err, want)) || err == nil {
			t.Errorf("got %v, %v, want %v", errs, err, want)
		}
	}
	try(fs.ErrNotExist)
	if err := os.MkdirAll(path, 0o700); err != nil {
		t.Fatal(err)
	}
	try(nil) // a directory
	if err := os.Remove(path); err != nil {
		t.Fatal(err)
	}
	other := open(t, path)
	fill(t, other, 3)
	try(bolterrors.ErrTimeout)
	if err := other.Close(); err != nil {
		t.Fatal(err)
	}
	if got, errs := load(t, s); len(got) != 3 || errs != nil {
		t.Errorf("got %v, %v", got, errs)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := s.Save(ctx, []rt.Saved[string]{{Key: "b"}}); !errors.Is(err, context.Canceled) {
		t.Errorf("got %v", err)
	}
	if _, err := os.Stat(path + ".damaged"); err == nil {
		t.Error("a good file was moved aside")
	}
}

func TestMaxSize(t *testing.T) {
	s := open(t, filepath.Join(t.TempDir(), "states.db"))
	s.MaxSize = 256 << 10
	want := fill(t, s, 100)
	var many []rt.Saved[string]
	for i := range 10_000 {
		many = append(many, rt.Saved[string]{Key: fmt.Sprint("many", i), State: state(i)})
	}
	if err := s.Save(t.Context(), many); err == nil {
		t.Error("the file grows beyond MaxSize")
	}
	if err := s.Save(t.Context(), many[:1]); err != nil {
		t.Error(err)
	}
	want["many0"] = state(0)
	if got, errs := load(t, s); !cmp.Equal(got, want) || errs != nil {
		t.Errorf("got %d states, %v", len(got), errs)
	}
}

// process runs a loop with the file for a time of the clock that a test has.
func process(t *testing.T, path string, d time.Duration, version func(int) string) (passes []string, log string) {
	t.Helper()
	var out bytes.Buffer
	s := &store{Path: path, Timeout: time.Millisecond}
	l, err := rt.New(rt.Func[string](func(_ context.Context, p rt.Pass[string]) rt.Result {
		passes = append(passes, p.Key+" "+p.Why.String())
		return rt.OK()
	}), &rt.Options[string]{Store: s, Workers: 1, Log: slog.New(slog.NewTextHandler(&out, nil))})
	if err != nil {
		t.Fatal(err)
	}
	for i := range 5000 {
		if err := l.Set(fmt.Sprint("key", i), rt.Spec[string]{Interval: 10 * time.Hour, Version: version(i)}); err != nil {
			t.Fatal(err)
		}
	}
	ctx, cancel := context.WithTimeout(t.Context(), d)
	defer cancel()
	if err := errors.Join(l.Run(ctx), s.Close()); err != nil {
		t.Error(err)
	}
	slices.Sort(passes)
	return passes, out.String()
}

// A restart with a good file makes no passes but for what has changed; with a damaged record one more; with a file
// that cannot be used all, and the loop goes on.
func TestRestart(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		path := filepath.Join(t.TempDir(), "states.db")
		one := func(int) string { return "1" }
		if passes, log := process(t, path, time.Minute, one); len(passes) != 5000 || log != "" {
			t.Fatalf("%d passes\n%s", len(passes), log)
		}
		time.Sleep(time.Hour)
		passes, log := process(t, path, time.Second, func(i int) string { return fmt.Sprint(1 + i/4997) })
		if diff := cmp.Diff([]string{"key4997 changed", "key4998 changed", "key4999 changed"}, passes); diff != "" || log != "" {
			t.Errorf("passes (-want +got):\n%s%s", diff, log)
		}
		two := func(i int) string { return fmt.Sprint(1 + i/4997) }
		change(t, path, func(b *bbolt.Bucket) error { return b.Put([]byte("/key9"), []byte("damaged")) })
		passes, log = process(t, path, time.Second, two)
		if diff := cmp.Diff([]string{"key9 added"}, passes); diff != "" || strings.Count(log, "WARN") != 1 {
			t.Errorf("passes (-want +got):\n%s%s", diff, log)
		}
		if err := os.Truncate(path, 20_000); err != nil {
			t.Fatal(err)
		}
		if passes, log = process(t, path, time.Second, two); len(passes) != 5000 || strings.Count(log, "WARN") != 1 {
			t.Errorf("%d passes\n%s", len(passes), log)
		}
		if passes, log = process(t, path, time.Second, two); len(passes) != 0 || log != "" {
			t.Errorf("after the repair: %q\n%s", passes, log)
		}
		if passes, log = process(t, filepath.Dir(path), time.Second, two); len(passes) != 5000 || !strings.Contains(log, "cannot save the states") {
			t.Errorf("%d passes\n%s", len(passes), log)
		}
	})
}
