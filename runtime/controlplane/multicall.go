package controlplane

import (
	"context"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"path/filepath"
	"strings"
	"syscall"

	"go.etcd.io/etcd/pkg/v3/flags"
	"go.etcd.io/etcd/server/v3/embed"
)

// Multicall makes a program that is run under the name "etcd" or "kube-apiserver", by a link for instance, behave like the
// program of that name: it takes its flags, runs until it is told to stop, and then ends the process. Under any other
// name Multicall returns at once and has done nothing. It serves tools that expect a directory with these two programs,
// such as the one KUBEBUILDER_ASSETS names.
func Multicall() {
	switch strings.TrimSuffix(filepath.Base(os.Args[0]), ".exe") {
	case "etcd":
		os.Exit(etcdMain(os.Args[1:], os.Stderr))
	case "kube-apiserver":
		os.Exit(apiServerMain(os.Args[1:], os.Stderr))
	}
}

// etcdMain is etcd with the flags that etcd's embedding package knows, which are all but those of the proxies.
func etcdMain(args []string, stderr io.Writer) int {
	ctx, cancel := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer cancel()
	cfg := embed.NewConfig()
	fs := flag.NewFlagSet("etcd", flag.ContinueOnError)
	fs.SetOutput(stderr)
	cfg.AddFlags(fs)
	if err := fs.Parse(args); err != nil {
		return 2
	}
	cfg.ListenPeerUrls = flags.UniqueURLsFromFlag(fs, "listen-peer-urls")
	cfg.ListenClientUrls = flags.UniqueURLsFromFlag(fs, "listen-client-urls")
	cfg.AdvertisePeerUrls = flags.UniqueURLsFromFlag(fs, "initial-advertise-peer-urls")
	cfg.AdvertiseClientUrls = flags.UniqueURLsFromFlag(fs, "advertise-client-urls")
	if !flags.IsSet(fs, "initial-cluster") {
		cfg.InitialCluster = cfg.InitialClusterFromName(cfg.Name)
	}
	etcd, err := embed.StartEtcd(cfg)
	if err != nil {
		fmt.Fprintln(stderr, "etcd:", err)
		return 1
	}
	defer etcd.Close()
	select {
	case err := <-etcd.Err():
		fmt.Fprintln(stderr, "etcd:", err)
		return 1
	case <-ctx.Done():
		return 0
	}
}

// apiServerMain is kube-apiserver.
func apiServerMain(args []string, stderr io.Writer) int {
	ctx, cancel := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer cancel()
	if err := serveAPI(ctx, args, nil); err != nil && ctx.Err() == nil {
		fmt.Fprintln(stderr, "kube-apiserver:", err)
		return 1
	}
	return 0
}
