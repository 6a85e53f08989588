// Command quickstart reconciles a Git repository into a Kubernetes cluster:
// fetch, build, diff, apply, wait for readiness, report, and keep it so.
//
// Without arguments it starts a control plane of its own and a small Git
// server, and shows what happens on a commit, on a change by hand and when an
// object leaves the repository. With -url it reconciles yours.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"syscall"
	"time"

	"github.com/gitopskit/gitopskit/examples/internal/clusterflags"
	"github.com/gitopskit/gitopskit/examples/internal/console"
	"github.com/gitopskit/gitopskit/examples/internal/gitflags"
	"github.com/gitopskit/gitopskit/examples/quickstart/tour"
)

type flags struct {
	git               gitflags.Flags
	cluster           clusterflags.Flags
	interval, timeout time.Duration
	once, diff        bool
}

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	err := run(ctx, os.Args[1:], os.Stdout, os.Stderr)
	interrupted := ctx.Err() != nil
	stop()
	switch {
	case err == nil || errors.Is(err, flag.ErrHelp):
		return
	case interrupted:
		err = fmt.Errorf("interrupted: %w", err)
	}
	console.New(os.Stderr).Fail(err)
	os.Exit(1)
}

func parse(args []string, stderr io.Writer) (*flags, error) {
	f := &flags{}
	set := flag.NewFlagSet("quickstart", flag.ContinueOnError)
	set.SetOutput(stderr)
	f.git.Register(set)
	f.cluster.Register(set)
	set.DurationVar(&f.interval, "interval", time.Minute, "time between two looks at the repository")
	set.DurationVar(&f.timeout, "timeout", 5*time.Minute, "how long objects may take to become ready")
	set.BoolVar(&f.once, "once", false, "end after one pass (the tour: after its last scene); the exit code tells how it went")
	set.BoolVar(&f.diff, "diff", false, "show what would change, change nothing, and end")
	if err := set.Parse(args); err != nil {
		return nil, err
	}
	switch {
	case set.NArg() > 0:
		return nil, fmt.Errorf("unexpected argument %q: the repository is given by -url", set.Arg(0))
	case f.git.URL == "" && f.cluster.Kubeconfig != "":
		return nil, errors.New("-kubeconfig needs -url: the tour changes things by hand, so it only runs in a cluster of its own")
	case f.interval <= 0 || f.timeout <= 0:
		return nil, errors.New("-interval and -timeout must be positive")
	}
	return f, nil
}

func run(ctx context.Context, args []string, stdout, stderr io.Writer) (err error) {
	f, err := parse(args, stderr)
	if err != nil {
		return err
	}
	out := console.New(stdout)
	var story *tour.Tour
	if f.git.URL == "" {
		if story, err = tour.New(); err != nil {
			return err
		}
		defer story.Close()
		f.git.URL = story.URL
		out.Step("git", "a demo repository at %s", story.URL)
	}
	source, err := f.git.Source()
	if err != nil {
		return err
	}
	cluster, err := f.cluster.Open(ctx, out, stderr)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, cluster.Stop()) }()
	r, err := newReconciler(f, source, cluster.Client, out)
	if err != nil {
		return err
	}
	return r.run(ctx, func(ctx context.Context) error {
		if err := r.passes.Wait(ctx); err != nil || f.diff || f.once && story == nil {
			return err
		}
		if story != nil {
			title := func(text string) { r.passes.Forget(); out.Title(text) }
			committed := func() { r.loop.Trigger(sourceKey, nil) }
			if err := story.Play(ctx, r.client.Dynamic, title, committed, r.passes.Wait); err != nil {
				return err
			}
		}
		out.GoOn("kubectl --kubeconfig "+cluster.Kubeconfig+" get all --all-namespaces --show-labels",
			"go run ./examples/quickstart -url https://… -path deploy -diff    (your repository, only looking)",
			"go run ./examples/quickstart -help                                (another cluster, credentials, …)")
		if !f.once && (story == nil || out.Terminal) {
			out.Detail("still reconciling every %s, and at once what somebody else changes; Ctrl-C ends it", f.interval)
			<-ctx.Done()
		}
		return nil
	})
}
