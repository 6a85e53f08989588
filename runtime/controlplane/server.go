package controlplane

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/url"
	"os"
	"path/filepath"
	"strconv"
	"syscall"
	"time"

	"github.com/spf13/pflag"
	"go.etcd.io/etcd/server/v3/embed"
	"google.golang.org/grpc/grpclog"
	genericapiserver "k8s.io/apiserver/pkg/server"
	"k8s.io/client-go/rest"
	"k8s.io/kubernetes/cmd/kube-apiserver/app"
	"k8s.io/kubernetes/cmd/kube-apiserver/app/options"
)

// runServer is the child process that holds etcd and kube-apiserver.
func runServer(ctx context.Context, cfg *childConfig, out *reporter) (err error) {
	if cfg.Temporary {
		defer func() { err = errors.Join(err, os.RemoveAll(cfg.Dir)) }()
	}
	listener, err := listen(cfg)
	if err != nil {
		return err
	}
	etcd, err := startEtcd(ctx, cfg)
	if err != nil {
		return errors.Join(err, listener.Close())
	}
	if !cfg.Temporary { // the store of a temporary server goes away whole
		defer closeWithin(etcd.Close, stopGrace(cfg))
	}
	out.send(event{Kind: eventListening, Port: listener.Addr().(*net.TCPAddr).Port}) //nolint:forcetypeassert // of a TCP listener

	failed := make(chan error, 1)
	go func() { failed <- serveAPI(ctx, apiServerFlags(cfg), listener) }()
	select {
	case err := <-failed:
		return err
	case err := <-etcd.Err():
		return fmt.Errorf("etcd: %w", err)
	case <-ctx.Done():
	}
	select {
	case <-failed: //nolint:errcheck // it was told to end
	case <-time.After(stopGrace(cfg)):
	}
	return nil
}

// stopGrace bounds an orderly stop. Nothing of a temporary server is worth waiting for.
func stopGrace(cfg *childConfig) time.Duration {
	if cfg.Temporary {
		return 300 * time.Millisecond
	}
	return 4 * time.Second
}

// closeWithin runs f and waits for it, but not longer than the time given: the process ends next.
func closeWithin(f func(), limit time.Duration) {
	done := make(chan struct{})
	go func() { f(); close(done) }()
	select {
	case <-done:
	case <-time.After(limit):
	}
}

// listen binds the port of the API server, so that there is no moment in which another process can take it.
func listen(cfg *childConfig) (net.Listener, error) {
	address := net.JoinHostPort("127.0.0.1", strconv.Itoa(cfg.Port))
	listener, err := net.Listen("tcp", address)
	if err != nil && cfg.Port != 0 && !cfg.PortFixed {
		return net.Listen("tcp", "127.0.0.1:0")
	}
	if errors.Is(err, syscall.EADDRINUSE) {
		return nil, fmt.Errorf("listen on %s: %w", address, ErrPortInUse)
	}
	return listener, err
}

// startEtcd starts the store on a socket in the directory, which only the user can open. The working directory of the
// process is that directory, so that the path is short enough for a socket whatever the directory is called.
func startEtcd(ctx context.Context, cfg *childConfig) (*embed.Etcd, error) {
	if err := os.Remove(etcdSocket); err != nil && !errors.Is(err, os.ErrNotExist) {
		return nil, err
	}
	c := embed.NewConfig()
	c.Dir = filepath.Join(cfg.Dir, etcdDir)
	c.UnsafeNoFsync = cfg.Unsynced
	c.LogLevel = "error"
	c.ListenClientUrls = []url.URL{{Scheme: "unix", Host: etcdSocket}}
	c.ListenPeerUrls = nil
	// Nobody connects to these: the only member is this one, and its only client is told the socket.
	c.AdvertiseClientUrls = []url.URL{{Scheme: "http", Host: "127.0.0.1:1"}}
	c.AdvertisePeerUrls = []url.URL{{Scheme: "http", Host: "127.0.0.1:2"}}
	c.InitialCluster = c.InitialClusterFromName("")
	c.EnableGRPCGateway = false
	c.TickMs, c.ElectionMs = 10, 100 // an election among one needs no patience
	etcd, err := embed.StartEtcd(c)
	if err != nil {
		return nil, fmt.Errorf("start etcd: %w", err)
	}
	select {
	case <-etcd.Server.ReadyNotify():
		return etcd, nil
	case err := <-etcd.Err():
		return nil, fmt.Errorf("start etcd: %w", err)
	case <-ctx.Done():
		etcd.Close()
		return nil, ctx.Err()
	}
}

// serveAPI runs kube-apiserver with the flags given until ctx is done, on the listener or, if that is nil, on the address
// the flags name.
func serveAPI(ctx context.Context, args []string, listener net.Listener) error {
	rest.SetDefaultWarningHandler(rest.NoWarnings{})
	// Every short-lived client of the store ends with a warning about its closed connection.
	grpclog.SetLoggerV2(grpclog.NewLoggerV2(io.Discard, io.Discard, os.Stderr))
	s := options.NewServerRunOptions()
	fs := pflag.NewFlagSet("kube-apiserver", pflag.ContinueOnError)
	for _, set := range s.Flags().FlagSets {
		fs.AddFlagSet(set)
	}
	if err := fs.Parse(args); err != nil {
		return err
	}
	if listener != nil {
		s.SecureServing.Listener = listener
		s.SecureServing.BindPort = listener.Addr().(*net.TCPAddr).Port //nolint:forcetypeassert // of a TCP listener
	}
	if err := s.GenericServerRunOptions.ComponentGlobalsRegistry.Set(); err != nil {
		return err
	}
	completed, err := s.Complete(ctx)
	if err != nil {
		return err
	}
	if err := errors.Join(completed.Validate()...); err != nil {
		return err
	}
	server, err := newAPIServer(completed)
	if err != nil {
		return err
	}
	return server.Run(ctx)
}

// newAPIServer builds the chain of servers that make up kube-apiserver and has each report the true version.
func newAPIServer(completed options.CompletedOptions) (preparedServer, error) {
	config, err := app.NewConfig(completed)
	if err != nil {
		return nil, err
	}
	version := KubernetesVersion()
	for _, generic := range []*genericapiserver.Config{
		&config.Aggregator.GenericConfig.Config, config.KubeAPIs.ControlPlane.Generic, &config.ApiExtensions.GenericConfig.Config,
	} {
		generic.EffectiveVersion = trueVersion{generic.EffectiveVersion, version}
	}
	chain, err := config.Complete()
	if err != nil {
		return nil, err
	}
	server, err := app.CreateServerChain(chain)
	if err != nil {
		return nil, err
	}
	prepared, err := server.PrepareRun()
	return prepared, err
}

// preparedServer is a server that only needs to be run.
type preparedServer interface {
	Run(ctx context.Context) error
}

// apiServerFlags returns the command line kube-apiserver would be started with.
func apiServerFlags(cfg *childConfig) []string {
	// The finalizers of the first plugin and the taint of the second are taken off by controllers that do not run here.
	disabled := "StorageObjectInUseProtection,TaintNodesByCondition"
	if !cfg.ServiceAccounts {
		disabled += ",ServiceAccount"
	}
	file := func(name string) string { return filepath.Join(cfg.Dir, name) }
	flags := []string{
		"--etcd-servers=unix://" + etcdSocket,
		"--bind-address=127.0.0.1",
		"--advertise-address=127.0.0.1",
		"--endpoint-reconciler-type=none",
		"--tls-cert-file=" + file(serverCertFile),
		"--tls-private-key-file=" + file(serverKeyFile),
		"--client-ca-file=" + file(caCertFile),
		"--authorization-mode=RBAC",
		"--service-account-issuer=https://kubernetes.default.svc",
		"--service-account-key-file=" + file(saKeyFile),
		"--service-account-signing-key-file=" + file(saKeyFile),
		"--service-cluster-ip-range=" + serviceRange,
		"--allow-privileged=true",
		"--disable-admission-plugins=" + disabled,
	}
	if cfg.AuditLog != "" {
		flags = append(flags, "--audit-policy-file="+file(auditPolicyFile), "--audit-log-path="+cfg.AuditLog, "--audit-log-mode=blocking")
	}
	return flags
}
