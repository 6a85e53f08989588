package gitserver

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os/exec"
	"strings"
	"sync"

	"golang.org/x/crypto/ssh"
)

// SSHOptions configure an SSH server. HostKeys is required.
type SSHOptions struct {
	HostKeys []ssh.Signer
	// Authorized are the public keys that may log in; empty means every key.
	Authorized []ssh.PublicKey
	// User, when set, is the only accepted user name.
	User string
	// IgnoreEnv refuses the client's environment, so that it gets protocol v0.
	IgnoreEnv bool
}

// SSHServer serves the repositories of a Server by SSH.
type SSHServer struct {
	// Addr is "host:port" of the listener on the loopback interface.
	Addr string

	git    *Server
	config *ssh.ServerConfig
	opts   SSHOptions
	ln     net.Listener
	cancel context.CancelFunc
	ctx    context.Context //nolint:containedctx // lives as long as the server
	wg     sync.WaitGroup
}

// ServeSSH starts an SSH server on a free loopback port. Close stops it.
func (s *Server) ServeSSH(opts SSHOptions) (*SSHServer, error) {
	if len(opts.HostKeys) == 0 {
		return nil, errors.New("gitserver: ssh: no host key")
	}
	config := &ssh.ServerConfig{
		PublicKeyCallback: func(c ssh.ConnMetadata, key ssh.PublicKey) (*ssh.Permissions, error) {
			if opts.User != "" && c.User() != opts.User {
				return nil, fmt.Errorf("unknown user %q", c.User())
			}
			for _, ok := range opts.Authorized {
				if bytes.Equal(ok.Marshal(), key.Marshal()) {
					return nil, nil //nolint:nilnil // no permissions to restrict
				}
			}
			if len(opts.Authorized) == 0 {
				return nil, nil //nolint:nilnil // as above
			}
			return nil, errors.New("unknown key")
		},
	}
	for _, key := range opts.HostKeys {
		config.AddHostKey(key)
	}
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, fmt.Errorf("gitserver: ssh: %w", err)
	}
	srv := &SSHServer{Addr: ln.Addr().String(), git: s, config: config, opts: opts, ln: ln}
	srv.ctx, srv.cancel = context.WithCancel(context.Background())
	srv.wg.Go(srv.accept)
	return srv, nil
}

// Close stops the server and waits until nothing of it runs.
func (s *SSHServer) Close() error {
	s.cancel()
	err := s.ln.Close()
	s.wg.Wait()
	return err
}

func (s *SSHServer) accept() {
	for {
		conn, err := s.ln.Accept()
		if err != nil {
			return
		}
		s.wg.Go(func() { s.serve(conn) })
	}
}

func (s *SSHServer) serve(conn net.Conn) {
	defer conn.Close()
	defer context.AfterFunc(s.ctx, func() { _ = conn.Close() })()
	sc, channels, requests, err := ssh.NewServerConn(conn, s.config)
	if err != nil {
		return
	}
	defer sc.Close()
	s.wg.Go(func() { ssh.DiscardRequests(requests) })
	var sessions sync.WaitGroup
	for c := range channels {
		if c.ChannelType() != "session" {
			_ = c.Reject(ssh.UnknownChannelType, "only sessions")
			continue
		}
		channel, reqs, err := c.Accept()
		if err != nil {
			break
		}
		sessions.Go(func() { s.session(channel, reqs) })
	}
	sessions.Wait()
}

func (s *SSHServer) session(channel ssh.Channel, requests <-chan *ssh.Request) {
	defer channel.Close()
	ctx, cancel := context.WithCancel(s.ctx)
	defer cancel()
	var protocol string
	var running sync.WaitGroup
	defer running.Wait()
	defer cancel()
	for r := range requests {
		switch r.Type {
		case "env":
			var kv struct{ Key, Value string }
			ok := ssh.Unmarshal(r.Payload, &kv) == nil && kv.Key == "GIT_PROTOCOL" && !s.opts.IgnoreEnv && !s.git.ForceV0
			if ok {
				protocol = kv.Value
			}
			_ = r.Reply(ok, nil)
		case "exec":
			var cmd struct{ Line string }
			if err := ssh.Unmarshal(r.Payload, &cmd); err != nil {
				_ = r.Reply(false, nil)
				continue
			}
			_ = r.Reply(true, nil)
			running.Go(func() {
				status := s.exec(ctx, channel, cmd.Line, protocol)
				_, _ = channel.SendRequest("exit-status", false, ssh.Marshal(struct{ Status uint32 }{status}))
				_ = channel.Close()
			})
		default:
			_ = r.Reply(false, nil)
		}
	}
}

// exec runs the only commands the server knows: git-upload-pack '<repository>',
// and git-receive-pack where the server is writable.
func (s *SSHServer) exec(ctx context.Context, channel ssh.Channel, line, protocol string) uint32 {
	args := []string{"upload-pack", "--strict"}
	quoted, ok := strings.CutPrefix(line, "git-upload-pack ")
	if !ok && s.git.Writable {
		args = []string{"receive-pack"}
		quoted, ok = strings.CutPrefix(line, "git-receive-pack ")
	}
	repo, ok2 := unquote(quoted)
	if !ok || !ok2 {
		fmt.Fprintf(channel.Stderr(), "unknown command %q\n", line)
		return 127
	}
	fault := s.git.fault(Request{Path: repo, Protocol: protocol})
	dir, err := s.git.Dir(strings.TrimPrefix(repo, "/"))
	if err != nil {
		fmt.Fprintf(channel.Stderr(), "fatal: '%s' does not appear to be a git repository\n", repo)
		return 128
	}
	if fault.stall(ctx) {
		return 1
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	cmd := exec.CommandContext(ctx, "git", append(args, dir)...)
	cmd.Env = append(s.git.env(), "GIT_PROTOCOL="+protocol)
	s.git.count(1, 0, 0)
	out := &faultChannel{Writer: channel, server: s.git, fault: fault, cut: cancel}
	in := &countedBody{io.NopCloser(channel), s.git}
	cmd.Stdout, cmd.Stderr = out, channel.Stderr()
	stdin, err := cmd.StdinPipe()
	if err != nil {
		return 1
	}
	if err := cmd.Start(); err != nil {
		return 1
	}
	// The copy ends when the client closes its side or the channel is closed.
	s.wg.Go(func() {
		_, _ = io.Copy(stdin, in)
		_ = stdin.Close()
	})
	err = cmd.Wait()
	if err != nil {
		return 128
	}
	return 0
}

// unquote undoes the shell quoting of one argument in single quotes.
func unquote(s string) (string, bool) {
	if len(s) < 2 || s[0] != '\'' || s[len(s)-1] != '\'' {
		return "", false
	}
	s = strings.ReplaceAll(s[1:len(s)-1], `'\''`, "\x00")
	if strings.Contains(s, "'") {
		return "", false
	}
	return strings.ReplaceAll(s, "\x00", "'"), true
}

type faultChannel struct {
	io.Writer
	server *Server
	fault  *Fault
	cut    func()
	n      int64
}

func (w *faultChannel) Write(p []byte) (int, error) {
	damaged, cut := w.fault.apply(p, w.n)
	w.server.count(0, 0, int64(len(damaged)))
	n, err := w.Writer.Write(damaged)
	w.n += int64(n)
	if cut {
		w.cut() // git may be waiting for the client
		return n, io.ErrClosedPipe
	}
	return len(p), err
}
