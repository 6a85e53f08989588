package git

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/url"
	"strings"
	"sync"
	"time"

	"golang.org/x/crypto/ssh"

	"github.com/gitopskit/gitopskit/source"
)

// sshConn is a conversation with one of Git's services over SSH.
type sshConn struct {
	client  *ssh.Client
	session *ssh.Session
	in      io.WriteCloser
	out     io.Reader
	errors  *tail
	stop    func() bool
	waited  sync.Once // ssh.Session.Wait must not be called twice
}

type dialFunc func(ctx context.Context, network, addr string) (net.Conn, error)

// dialSSH connects, checks the host's key, logs in and starts the command.
// The end of ctx ends the connection and everything that waits for it.
func dialSSH(ctx context.Context, u *url.URL, service string, auth SSH, dial dialFunc) (*sshConn, error) {
	signer, err := auth.signer()
	if err != nil {
		return nil, fmt.Errorf("%w: %w", source.ErrInvalidSpec, err)
	}
	known, err := parseKnownHosts(auth.KnownHosts)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", source.ErrInvalidSpec, err)
	}
	port := u.Port()
	if port == "" {
		port = "22"
	}
	addr := net.JoinHostPort(u.Hostname(), port)
	user := auth.User
	if user == "" {
		user = u.User.Username()
	}
	if user == "" {
		user = "git"
	}
	config := &ssh.ClientConfig{
		User:              user,
		Auth:              []ssh.AuthMethod{ssh.PublicKeys(signer)},
		HostKeyAlgorithms: known.algorithms(addr),
		HostKeyCallback:   known.check,
	}
	nc, err := dial(ctx, "tcp", addr)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", source.ErrUnavailable, err)
	}
	c := &sshConn{errors: &tail{}, stop: context.AfterFunc(ctx, func() { _ = nc.Close() })}
	if err := c.start(nc, addr, config, service, u.Path); err != nil {
		_ = nc.Close()
		_ = c.Close()
		return nil, err
	}
	return c, nil
}

func (c *sshConn) start(nc net.Conn, addr string, config *ssh.ClientConfig, service, path string) error {
	conn, channels, requests, err := ssh.NewClientConn(nc, addr, config)
	if err != nil {
		return handshakeError(err)
	}
	c.client = ssh.NewClient(conn, channels, requests)
	if c.session, err = c.client.NewSession(); err != nil {
		return fmt.Errorf("%w: ssh session: %w", source.ErrUnavailable, err)
	}
	if c.in, err = c.session.StdinPipe(); err != nil {
		return err
	}
	if c.out, err = c.session.StdoutPipe(); err != nil {
		return err
	}
	c.session.Stderr = c.errors
	if service == uploadPack {
		// A server that ignores the wish answers with protocol version 0.
		_ = c.session.Setenv("GIT_PROTOCOL", "version=2")
	}
	if err := c.session.Start(service + " " + quote(remotePath(path))); err != nil {
		return fmt.Errorf("%w: the server does not run %s: %w", source.ErrUnavailable, service, err)
	}
	return nil
}

// remotePath is the path as servers want it: "~user" has no slash before it.
func remotePath(path string) string {
	if strings.HasPrefix(path, "/~") {
		return path[1:]
	}
	return path
}

// quote makes one argument of a shell's command line.
func quote(s string) string { return "'" + strings.ReplaceAll(s, "'", `'\''`) + "'" }

// handshakeError finds out which part of a login failed.
func handshakeError(err error) error {
	var key *hostKeyError
	if errors.As(err, &key) {
		return fmt.Errorf("%w: %w", source.ErrUnverified, key)
	}
	var auth *ssh.ServerAuthError
	if errors.As(err, &auth) || strings.Contains(err.Error(), "unable to authenticate") {
		return fmt.Errorf("%w: the server does not accept this user and key: %w", source.ErrUnauthorized, err)
	}
	var negotiation *ssh.AlgorithmNegotiationError
	if errors.As(err, &negotiation) && strings.Contains(err.Error(), "host key") {
		return fmt.Errorf("%w: the server has no host key of a type that SSH.KnownHosts lists for it: %w", source.ErrUnverified, err)
	}
	return fmt.Errorf("%w: ssh: %w", source.ErrUnavailable, err)
}

func (c *sshConn) advertisement(context.Context) (io.Reader, error) {
	return &sshReader{c}, nil
}

func (c *sshConn) request(_ context.Context, body []byte) (io.Reader, error) {
	if _, err := c.in.Write(body); err != nil {
		return nil, fmt.Errorf("%w: ssh: %w", source.ErrUnavailable, err)
	}
	return &sshReader{c}, nil
}

// sshReader is the command's output; when that ends too early, the command's
// own words say why.
type sshReader struct{ c *sshConn }

func (r *sshReader) Read(p []byte) (int, error) {
	n, err := r.c.out.Read(p)
	if err != io.EOF || n > 0 {
		return n, err
	}
	if text := r.c.complaint(); text != "" {
		return 0, text.err()
	}
	return 0, io.EOF
}

type complaint string

// complaint waits for the end of the command, which has closed its output.
func (c *sshConn) complaint() complaint {
	c.wait()
	return complaint(c.errors.String())
}

// err is the only place where the words of a server choose a class: SSH has no
// status codes. These are Git's own words and those of the large forges.
func (t complaint) err() error {
	lower := strings.ToLower(string(t))
	class := source.ErrUnavailable
	for _, words := range []string{"does not appear to be a git repository", "repository not found", "not found", "does not exist", "could not be found"} {
		if strings.Contains(lower, words) {
			class = source.ErrNotFound
		}
	}
	for _, words := range []string{"permission denied", "access denied", "unauthorized", "not authorized"} {
		if strings.Contains(lower, words) {
			class = source.ErrUnauthorized
		}
	}
	return fmt.Errorf("%w: the server says: %s", class, string(t))
}

// wait returns when nothing copies the command's complaints any more.
func (c *sshConn) wait() { c.waited.Do(func() { _ = c.session.Wait() }) }

func (c *sshConn) Close() error {
	if c.session != nil {
		_ = c.session.Close()
	}
	if c.client != nil {
		_ = c.client.Close()
		_ = c.client.Wait()
	}
	if c.session != nil {
		c.wait()
	}
	c.stop()
	return nil
}

// tail keeps the first bytes of what a command complains about.
type tail struct {
	mu   sync.Mutex
	text []byte
}

func (t *tail) Write(p []byte) (int, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.text = append(t.text, p[:min(len(p), 2048-len(t.text))]...)
	return len(p), nil
}

func (t *tail) String() string {
	t.mu.Lock()
	defer t.mu.Unlock()
	return printable(t.text)
}

// defaultDial is used when Options.Dial is nil.
func defaultDial(ctx context.Context, network, addr string) (net.Conn, error) {
	return (&net.Dialer{Timeout: 30 * time.Second, KeepAlive: 30 * time.Second}).DialContext(ctx, network, addr)
}
