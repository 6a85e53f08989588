package testenv

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"time"

	"k8s.io/client-go/rest"
)

// assetsDir returns the directory with kube-apiserver and etcd that the environment names, or "" to use our own program:
// when none is named, and when those two alone cannot do what the options ask for.
func assetsDir(o *Options) string {
	dir := os.Getenv(EnvAssets)
	if dir == "" || o.Binary != "" || os.Getenv(EnvBinary) != "" {
		return ""
	}
	if o.needsManager() || runtime.GOOS == "windows" {
		o.say("testenv: not using %s, whose programs are an API server alone", EnvAssets)
		return ""
	}
	return dir
}

// supervise is the shell script that runs etcd and kube-apiserver. They do not watch their input themselves; when the
// input of the script ends, because this process stopped them or is gone, it ends them: the server first, which needs the
// store to end in order, by force if that takes too long.
const supervise = `
exec 3<&0 </dev/null
cd "$RUN_DIR" || exit 1
"$ASSETS/etcd" --data-dir=etcd --listen-client-urls=unix://etcd.sock --advertise-client-urls=http://127.0.0.1:1 \
	--listen-peer-urls=http://127.0.0.1:0 --log-level=error $ETCD_FLAGS & etcd=$!
"$ASSETS/kube-apiserver" "$@" & api=$!
(
	cat <&3
	kill $api
	for second in 1 2 3 4 5 6 7 8; do sleep 1; kill -0 $api || break; done
	kill -9 $api
) >/dev/null 2>&1 & watch=$!
exec 3<&-
wait $api; code=$?
kill $watch $etcd 2>/dev/null; wait $etcd
if [ -n "$TEMPORARY" ]; then rm -rf "$RUN_DIR"; fi
exit $code
`

// assets is a server made of the programs in a directory.
type assets struct {
	programs string
	dir      string
	port     int
	opts     *Options
}

// portAttempts is how often a start is tried again with another port, because kube-apiserver can only be told a number
// that was free a moment ago.
const portAttempts = 3

// launchAssets starts the programs of the directory. They are an API server alone.
func launchAssets(ctx context.Context, programs string, o *Options) (*Server, error) {
	if err := checkAssets(programs); err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeoutCause(ctx, o.ReadyTimeout, fmt.Errorf("not ready after %v", o.ReadyTimeout))
	defer cancel()
	var err error
	for range portAttempts {
		var s *Server
		a := &assets{programs: programs, dir: o.Dir, port: o.Port, opts: o}
		if s, err = a.launch(ctx); err == nil {
			return s, nil
		}
		if o.Port != 0 || ctx.Err() != nil || !strings.Contains(err.Error(), "address already in use") {
			break
		}
	}
	return nil, err
}

// checkAssets reports what can be known to be wrong before anything is started.
func checkAssets(programs string) error {
	var missing []error
	for _, name := range []string{"etcd", "kube-apiserver"} {
		path := filepath.Join(programs, name)
		if _, err := exec.LookPath(path); err != nil {
			missing = append(missing, err)
		}
	}
	if len(missing) > 0 {
		return &Error{Op: "find", Subject: EnvAssets + "=" + programs, Err: fmt.Errorf("%w: %w", ErrNoBinary, errors.Join(missing...)),
			Hint: "name a directory with etcd and kube-apiserver, or unset it to have the control plane built"}
	}
	return nil
}

// launch prepares the directory, starts the programs and waits until they are ready.
func (a *assets) launch(ctx context.Context) (*Server, error) {
	temporary := a.dir == ""
	var err error
	if temporary {
		a.dir, err = os.MkdirTemp("", "gitopskit-testenv-")
	} else if a.dir, err = filepath.Abs(a.dir); err == nil {
		err = os.MkdirAll(a.dir, 0o700)
	}
	if err == nil && a.port == 0 {
		a.port, err = freePort()
	}
	var config *rest.Config
	if err == nil {
		config, err = a.writeFiles()
	}
	if err != nil {
		return nil, &Error{Op: "start", Subject: "in directory " + a.dir, Err: err}
	}
	s, ready, err := startProcess(a.command(temporary), a.opts.Log)
	if err != nil {
		return nil, &Error{Op: "start", Subject: a.programs, Err: err}
	}
	go s.keep(func() {
		for range ready { // the programs print nothing we wait for
		}
	})
	s.config = config
	s.info = serverInfo{URL: config.Host, Kubeconfig: filepath.Join(a.dir, "kubeconfig"), Dir: a.dir, PID: s.cmd.Process.Pid}
	if temporary {
		s.cleanup = func() error { return os.RemoveAll(a.dir) }
	}
	if err := a.await(ctx, s); err != nil {
		_ = s.Stop() // why it ended is in err
		return nil, err
	}
	return s, nil
}

// command returns the script with its environment.
func (a *assets) command(temporary bool) *exec.Cmd {
	file := func(name string) string { return filepath.Join(a.dir, name) }
	args := []string{
		"-c", supervise, "sh",
		"--etcd-servers=unix://etcd.sock", "--bind-address=127.0.0.1", "--advertise-address=127.0.0.1", "--endpoint-reconciler-type=none",
		"--secure-port=" + strconv.Itoa(a.port), "--authorization-mode=RBAC", "--allow-privileged=true",
		"--tls-cert-file=" + file("server.crt"), "--tls-private-key-file=" + file("server.key"), "--client-ca-file=" + file("ca.crt"),
		"--service-account-issuer=https://kubernetes.default.svc", "--service-account-key-file=" + file("sa.key"),
		"--service-account-signing-key-file=" + file("sa.key"), "--service-cluster-ip-range=10.0.0.0/16",
		"--disable-admission-plugins=ServiceAccount,StorageObjectInUseProtection,TaintNodesByCondition",
	}
	if a.opts.AuditLog != "" {
		args = append(args, "--audit-policy-file="+file("audit.yaml"), "--audit-log-path="+absolute(a.opts.AuditLog), "--audit-log-mode=blocking")
	}
	//nolint:noctx // the server outlives the call; Stop ends it
	cmd := exec.Command("sh", args...)
	cmd.Env = append(os.Environ(), "ASSETS="+absolute(a.programs), "RUN_DIR="+a.dir)
	if temporary {
		cmd.Env = append(cmd.Env, "TEMPORARY=1", "ETCD_FLAGS=--unsafe-no-fsync")
	}
	return cmd
}

// await waits until the server is ready and learns its version.
func (a *assets) await(ctx context.Context, s *Server) error {
	api, err := newAPI(s.config)
	if err != nil {
		return err
	}
	defer api.close()
	for {
		_, err := api.do(ctx, http.MethodGet, "/readyz", "", http.StatusOK)
		if err == nil {
			_, err = api.do(ctx, http.MethodGet, "/api/v1/namespaces/default", "", http.StatusOK)
		}
		if err == nil {
			s.info.Version, err = api.version(ctx)
			return err
		}
		select {
		case <-s.exited:
			return s.exitError(a.programs)
		case <-ctx.Done():
			return &Error{Op: "start", Subject: a.programs, Err: errors.Join(context.Cause(ctx), err), Log: s.log.String()}
		case <-time.After(50 * time.Millisecond):
		}
	}
}

// version asks the server for its version.
func (a *api) version(ctx context.Context) (string, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, a.base+"/version", nil)
	if err != nil {
		return "", err
	}
	resp, err := a.client.Do(req)
	if err != nil {
		return "", err
	}
	defer resp.Body.Close()
	var info struct {
		GitVersion string `json:"gitVersion"`
	}
	err = json.NewDecoder(io.LimitReader(resp.Body, 64<<10)).Decode(&info)
	return info.GitVersion, err
}

// freePort returns a loopback port that nobody listens on at the moment.
func freePort() (int, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return 0, err
	}
	return l.Addr().(*net.TCPAddr).Port, l.Close() //nolint:forcetypeassert // of a TCP listener
}

// absolute returns path as seen from any directory.
func absolute(path string) string {
	if abs, err := filepath.Abs(path); err == nil {
		return abs
	}
	return path
}
