package chaos_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/gitopskit/gitopskit/runtime/chaos"
)

// move is a program that must not lose a file, whenever it dies.
func move(ctx context.Context, from, to string) error {
	data, err := os.ReadFile(from)
	if err != nil {
		return err
	}
	if err := chaos.Point(ctx, "read"); err != nil {
		return err
	}
	if err := os.WriteFile(to+".new", data, 0o600); err != nil {
		return err
	}
	if err := chaos.Point(ctx, "written"); err != nil {
		return err
	}
	if err := os.Rename(to+".new", to); err != nil {
		return err
	}
	if err := chaos.Point(ctx, "renamed"); err != nil {
		return err
	}
	return os.Remove(from)
}

// child is the process that dies, at the point that its arguments say.
func child() {
	if len(os.Args) < 4 || os.Args[1] != "move" {
		return
	}
	n, err := strconv.Atoi(os.Args[3])
	if err != nil {
		os.Exit(2)
	}
	ctx := chaos.With(context.Background(), &chaos.Points{Stops: []chaos.Stop{{N: n, Do: chaos.Kill}}})
	if err := move(ctx, filepath.Join(os.Args[2], "a"), filepath.Join(os.Args[2], "b")); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(2)
	}
	os.Exit(0)
}

// TestKilledAtEachPoint kills a process at each of its points, and looks at what it leaves.
func TestKilledAtEachPoint(t *testing.T) {
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	for n := 1; ; n++ {
		dir := t.TempDir()
		if err := os.WriteFile(filepath.Join(dir, "a"), []byte("content"), 0o600); err != nil {
			t.Fatal(err)
		}
		out, err := exec.CommandContext(t.Context(), self, "move", dir, strconv.Itoa(n)).CombinedOutput()
		a, _ := os.ReadFile(filepath.Join(dir, "a"))
		b, _ := os.ReadFile(filepath.Join(dir, "b"))
		if string(a) != "content" && string(b) != "content" {
			t.Errorf("killed at point %d, it has lost the file", n)
		}
		if err == nil {
			if n != 4 {
				t.Errorf("it ended before point %d", n)
			}
			return
		}
		if !chaos.Killed(err) || len(out) > 0 {
			t.Fatalf("%v: %s", err, out)
		}
	}
}

func TestKilled(t *testing.T) {
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	for _, err := range []error{nil, errors.New("x"), exec.CommandContext(t.Context(), self, "move", t.TempDir(), "none").Run()} {
		if chaos.Killed(err) {
			t.Errorf("%v is no kill", err)
		}
	}
}

// TestPoints: by name and by number, errors, and what was reached.
func TestPoints(t *testing.T) {
	enough := errors.New("enough")
	var seen []string
	look := func(s string) func(context.Context) error {
		return func(context.Context) error { seen = append(seen, s); return nil }
	}
	p := &chaos.Points{Stops: []chaos.Stop{
		{Name: "b", Do: look("each b")},
		{Name: "b", N: 2, Do: func(context.Context) error { return enough }},
		{Name: "b", Do: look("b that goes on")},
		{N: 3, Do: look("third")},
		{},
	}}
	ctx := chaos.With(t.Context(), p)
	var failed []int
	for i, name := range strings.Fields("a b a b b") {
		if err := chaos.Point(ctx, name); err != nil {
			if !errors.Is(err, enough) {
				t.Error(err)
			}
			failed = append(failed, i)
		}
	}
	if !slices.Equal(failed, []int{3}) {
		t.Errorf("failed at %d", failed)
	}
	if want := []string{"each b", "b that goes on", "third", "each b", "each b", "b that goes on"}; !slices.Equal(seen, want) {
		t.Errorf("%q", seen)
	}
	if got := p.Trail(); strings.Join(got, " ") != "a b a b b" {
		t.Errorf("%q", got)
	}
}

// TestNoPoints: without a test there is nothing, at no cost.
func TestNoPoints(t *testing.T) {
	var none *chaos.Points
	ctx := t.Context()
	cost := testing.AllocsPerRun(100, func() {
		if none.Reach(ctx, "x") != nil || chaos.Point(ctx, "x") != nil {
			t.Error("it fails")
		}
	})
	if cost != 0 || none.Trail() != nil {
		t.Errorf("%v allocations", cost)
	}
}
