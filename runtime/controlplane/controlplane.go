package controlplane

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net/http"
	"path/filepath"
	"slices"
	"strconv"
	"sync"
	"time"

	"k8s.io/client-go/rest"
)

// ControlPlane is a running Kubernetes control plane. It lives in child processes, which end when Stop is called or this
// process ends in whatever way. Its methods are safe for concurrent use.
type ControlPlane struct {
	dir       *workDir
	port      int
	keys      *pki
	server    *process
	manager   *process // nil without controllers
	stopping  chan struct{}
	stopOnce  sync.Once
	done      chan struct{} // closed when the control plane has ended; err is set before
	err       error
	closeOnce sync.Once
	closeErr  error
}

// Start starts a control plane and returns when its API answers, its controllers run and its simulated nodes are ready.
// A nil opts means the defaults. The context bounds the start, not the life of the result: end that with Stop.
// When Start fails, everything it has begun is undone.
//
// Errors match ErrInvalidOptions, ErrPortInUse, ErrDirInUse, ErrExited, ErrNotReady, the error of ctx, or the error of the
// operating system for a directory that cannot be written (fs.ErrPermission, syscall.ENOSPC and so on).
func Start(ctx context.Context, opts *Options) (*ControlPlane, error) {
	o := opts.withDefaults()
	if err := o.validate(); err != nil {
		return nil, err
	}
	timeout, cancel := context.WithTimeoutCause(ctx, o.ReadyTimeout, fmt.Errorf("%w (%v)", ErrNotReady, o.ReadyTimeout))
	defer cancel()
	dir, err := openDir(timeout, o.Dir)
	if err != nil {
		return nil, err
	}
	c := &ControlPlane{dir: dir, stopping: make(chan struct{}), done: make(chan struct{})}
	if err := c.start(timeout, &o); err != nil {
		c.abort()
		return nil, err
	}
	go c.watch()
	return c, nil
}

// start brings up the parts in order; what it leaves in c after an error is for abort.
func (c *ControlPlane) start(ctx context.Context, o *Options) (err error) {
	if c.keys, err = preparePKI(c.dir.path); err != nil {
		return storageError(c.dir.path, err)
	}
	if c.server, err = spawn(o, roleServer, c.dir.path, c.dir.lock.files()...); err != nil {
		return &Error{Op: "start", Subject: roleServer, Err: err}
	}
	if len(o.Controllers) > 0 {
		// It initializes while the server starts, and begins when it gets its configuration.
		if c.manager, err = spawn(o, roleControllers, c.dir.path); err != nil {
			return &Error{Op: "start", Subject: roleControllers, Err: err}
		}
	}
	audit, err := c.prepareAudit(o.AuditLog)
	if err != nil {
		return storageError(c.dir.path, err)
	}
	cfg := &childConfig{
		Dir: c.dir.path, Temporary: c.dir.temporary, Unsynced: o.Unsynced,
		Port: o.Port, PortFixed: o.Port != 0,
		Controllers: o.Controllers, Nodes: o.SimulatedNodes,
		ServiceAccounts: slices.Contains(o.Controllers, ServiceAccount),
		AuditLog:        audit,
		Verbosity:       o.Verbosity,
	}
	if cfg.Port == 0 {
		cfg.Port = c.dir.lastPort()
	}
	if err := c.startServer(ctx, cfg); err != nil {
		return err
	}
	if c.manager == nil {
		return nil
	}
	if err := c.manager.configure(cfg); err != nil {
		return c.manager.failure("start", err)
	}
	_, err = c.await(ctx, c.manager, eventReady)
	return err
}

// auditPolicy is that of Options.AuditLog.
const auditPolicy = `apiVersion: audit.k8s.io/v1
kind: Policy
omitStages: [RequestReceived]
rules:
- {level: None, verbs: [get, head, list, watch]}
- {level: Metadata}
`

const auditPolicyFile = "audit.yaml"

// prepareAudit writes the policy for an audit log, if there is to be one, and returns its path for a process that works
// elsewhere.
func (c *ControlPlane) prepareAudit(path string) (string, error) {
	if path == "" {
		return "", nil
	}
	path, err := filepath.Abs(path)
	if err != nil {
		return "", err
	}
	return path, writeSecret(filepath.Join(c.dir.path, auditPolicyFile), []byte(auditPolicy))
}

// startServer configures the server process, writes the kubeconfig for the port it got and waits until it is ready.
func (c *ControlPlane) startServer(ctx context.Context, cfg *childConfig) error {
	hadData := c.dir.hasData()
	if err := c.server.configure(cfg); err != nil {
		return c.server.failure("start", err)
	}
	e, err := c.await(ctx, c.server, eventListening)
	if err != nil {
		return c.explain(err, cfg, hadData)
	}
	c.port = e.Port
	if err := errors.Join(c.dir.rememberPort(c.port), writeSecret(c.Kubeconfig(), c.KubeconfigYAML())); err != nil {
		return storageError(c.dir.path, err)
	}
	if err := c.awaitReady(ctx); err != nil {
		return c.explain(err, cfg, hadData)
	}
	return nil
}

// explain adds what to do to an error of the server process, where that can be known.
func (c *ControlPlane) explain(err error, cfg *childConfig, hadData bool) error {
	var e *Error
	switch {
	case !errors.As(err, &e):
	case errors.Is(err, ErrPortInUse):
		e.Subject, e.Log = "on port "+strconv.Itoa(cfg.Port), ""
		e.Hint = "end the process that listens there, or choose port 0 to get a free one"
	case hadData && !errors.Is(err, ErrNotReady) && !errors.Is(err, context.Canceled):
		e.Subject = "in directory " + c.dir.path
		e.Hint = "the data in it may be damaged or written by another version; restore the directory or delete " + filepath.Join(c.dir.path, etcdDir) + " to begin empty"
	}
	return err
}

// await waits for the event of the given kind from a child.
func (c *ControlPlane) await(ctx context.Context, p *process, kind string) (event, error) {
	for {
		select {
		case e, ok := <-p.events:
			switch {
			case !ok:
				<-p.exited
				return event{}, p.exitError("start")
			case e.Kind == kind:
				return e, nil
			case e.Kind == eventPortInUse:
				return event{}, p.failure("start", ErrPortInUse)
			case e.Kind == eventFailed:
				return event{}, p.failure("start", errors.New(e.Message))
			}
		case <-ctx.Done():
			return event{}, p.failure("start", context.Cause(ctx))
		}
	}
}

// awaitReady asks the server whether it is ready until it is.
func (c *ControlPlane) awaitReady(ctx context.Context) error {
	client, err := c.httpClient()
	if err != nil {
		return err
	}
	defer client.CloseIdleConnections()
	ticker := time.NewTicker(25 * time.Millisecond)
	defer ticker.Stop()
	var last error
	for {
		if last = probe(ctx, client, c.URL()+"/readyz"); last == nil {
			last = probe(ctx, client, c.URL()+"/api/v1/namespaces/default")
		}
		if last == nil {
			return nil
		}
		select {
		case <-c.server.exited:
			return c.server.exitError("start")
		case e := <-c.server.events:
			if e.Kind == eventFailed {
				return c.server.failure("start", errors.New(e.Message))
			}
		case <-ctx.Done():
			return c.server.failure("start", fmt.Errorf("%w: %w", context.Cause(ctx), last))
		case <-ticker.C:
		}
	}
}

// probe fails unless the URL answers 200.
func probe(ctx context.Context, client *http.Client, url string) error {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return err
	}
	resp, err := client.Do(req)
	if err != nil {
		return err
	}
	_, err = io.Copy(io.Discard, io.LimitReader(resp.Body, 1<<20))
	if err = errors.Join(err, resp.Body.Close()); err != nil {
		return err
	}
	if resp.StatusCode != http.StatusOK {
		return fmt.Errorf("%s answers %s", url, resp.Status)
	}
	return nil
}

// httpClient returns a client that trusts the server and is its administrator.
func (c *ControlPlane) httpClient() (*http.Client, error) {
	cert, err := tls.X509KeyPair(c.keys.admin.cert, c.keys.admin.key)
	if err != nil {
		return nil, err
	}
	roots := x509.NewCertPool()
	roots.AppendCertsFromPEM(c.keys.ca.cert)
	return &http.Client{
		Timeout:   5 * time.Second,
		Transport: &http.Transport{TLSClientConfig: &tls.Config{RootCAs: roots, Certificates: []tls.Certificate{cert}}, ForceAttemptHTTP2: true},
	}, nil
}

// watch ends the control plane when one of its processes ends or Stop is called.
func (c *ControlPlane) watch() {
	manager := make(<-chan struct{})
	if c.manager != nil {
		manager = c.manager.exited
	}
	select {
	case <-c.stopping:
	case <-c.server.exited:
		c.err = c.server.exitError("run")
	case <-manager:
		c.err = c.manager.exitError("run")
	}
	c.stopProcesses()
	close(c.done)
}

func (c *ControlPlane) stopProcesses() {
	if c.manager != nil {
		c.manager.stop()
	}
	if c.server != nil {
		c.server.stop()
	}
}

// abort undoes a start that failed.
func (c *ControlPlane) abort() {
	c.stopProcesses()
	_ = c.dir.close()
}

// Stop ends the control plane in order and, if its directory is temporary, removes it. It returns when no process is left,
// after at most some seconds, with an error when the directory could not be removed. Further calls return the same.
func (c *ControlPlane) Stop() error {
	c.stopOnce.Do(func() { close(c.stopping) })
	<-c.done
	c.closeOnce.Do(func() {
		if err := c.dir.close(); err != nil {
			c.closeErr = &Error{Op: "stop", Subject: "in directory " + c.dir.path, Err: err}
		}
	})
	return c.closeErr
}

// Done returns a channel that is closed when the control plane has ended, by Stop or because a process of it ended.
func (c *ControlPlane) Done() <-chan struct{} { return c.done }

// Err returns nil while the control plane runs and after Stop, and otherwise the reason why it ended: an *Error that
// matches ErrExited and holds the last lines of the log of the process that ended. Call Stop then too, to clean up.
func (c *ControlPlane) Err() error {
	select {
	case <-c.done:
		return c.err
	default:
		return nil
	}
}

// URL returns the address of the API server, such as "https://127.0.0.1:41234".
func (c *ControlPlane) URL() string { return "https://127.0.0.1:" + strconv.Itoa(c.port) }

// Dir returns the directory of the control plane.
func (c *ControlPlane) Dir() string { return c.dir.path }

// Kubeconfig returns the path of the administrator's kubeconfig. The file is readable by this user only and refers to no
// other file.
func (c *ControlPlane) Kubeconfig() string { return filepath.Join(c.dir.path, kubeconfigFile) }

// Config returns a new client configuration of the administrator, without a client-side rate limit.
func (c *ControlPlane) Config() *rest.Config {
	return &rest.Config{
		Host:            c.URL(),
		TLSClientConfig: rest.TLSClientConfig{CAData: c.keys.ca.cert, CertData: c.keys.admin.cert, KeyData: c.keys.admin.key},
		QPS:             -1,
	}
}

// Processes returns the process ids of the children: the server and, if there are any, the controllers.
func (c *ControlPlane) Processes() []int {
	pids := []int{c.server.cmd.Process.Pid}
	if c.manager != nil {
		pids = append(pids, c.manager.cmd.Process.Pid)
	}
	return pids
}
