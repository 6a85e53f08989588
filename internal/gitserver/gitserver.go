// Package gitserver serves real Git repositories from a directory, for tests
// and for the quickstart: smart HTTP by the installed git http-backend, and
// SSH in process in front of the installed git upload-pack.
//
//	srv, err := gitserver.New(dir)
//	head, err := srv.Commit("demo.git", "main", "first", map[string]string{"app.yaml": "kind: List\n"})
//	web := httptest.NewServer(srv)
//	defer web.Close()
//	// clone web.URL + "/demo.git"
//
// Repositories are bare and made deterministically: a fixed identity, a clock
// that advances one minute for each commit, and no configuration but our own.
// The same calls give the same hashes on every machine. A Server is safe for
// concurrent use; its exported fields are set before it serves.
package gitserver

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"
)

// Identity is the author and committer of every commit a Server makes.
const Identity = "Demo <demo@example.com>"

// epoch is the time of the first commit in every repository.
var epoch = time.Date(2024, 1, 1, 0, 0, 0, 0, time.UTC)

// Server makes and serves the repositories below one directory.
type Server struct {
	// Username and Password, when set, are demanded as HTTP basic credentials.
	Username, Password string
	// Token, when set, is demanded as an HTTP bearer token.
	Token string
	// ForceV0 drops the client's wish for a newer protocol, as old servers do.
	ForceV0 bool
	// Writable lets clients push.
	Writable bool
	// Config holds "key=value" Git settings for the serving process,
	// such as "uploadpack.allowAnySHA1InWant=true".
	Config []string

	root    string
	backend string

	mu      sync.Mutex
	commits map[string]int
	traffic Traffic
	faults  func(Request) *Fault
}

// New returns a server for the repositories below root, which is created when
// it does not exist. It fails when git is not installed.
func New(root string) (*Server, error) {
	out, err := exec.Command("git", "--exec-path").Output() //nolint:noctx // ends at once
	if err != nil {
		return nil, fmt.Errorf("gitserver: find git: %w (install git)", err)
	}
	backend := filepath.Join(strings.TrimSpace(string(out)), "git-http-backend")
	if _, err := os.Stat(backend); err != nil {
		return nil, fmt.Errorf("gitserver: find git-http-backend: %w (install git with its HTTP backend)", err)
	}
	root, err = filepath.Abs(root)
	if err != nil {
		return nil, fmt.Errorf("gitserver: %w", err)
	}
	if err := os.MkdirAll(root, 0o755); err != nil {
		return nil, fmt.Errorf("gitserver: %w", err)
	}
	return &Server{root: root, backend: backend, commits: map[string]int{}}, nil
}

// File is the content of one path of a commit.
type File struct {
	Data string
	// Mode is the Git mode: "100644" (the default), "100755", "120000" for a
	// link whose target is Data, or "160000" for a submodule whose commit is Data.
	Mode string
}

// Change describes one commit.
type Change struct {
	Branch  string
	Message string
	// Files are written, Delete removed; other paths stay as they are.
	Files  map[string]File
	Delete []string
	// Root makes a commit without parent: the branch starts anew.
	Root bool
}

// Commit writes files on top of a branch and returns the new commit's hash.
// The repository and the branch are created when they do not exist.
func (s *Server) Commit(repo, branch, message string, files map[string]string) (string, error) {
	c := Change{Branch: branch, Message: message, Files: map[string]File{}}
	for name, data := range files {
		c.Files[name] = File{Data: data}
	}
	return s.CommitChange(repo, c)
}

// Delete removes paths from a branch and returns the new commit's hash.
func (s *Server) Delete(repo, branch, message string, paths ...string) (string, error) {
	return s.CommitChange(repo, Change{Branch: branch, Message: message, Delete: paths})
}

// CommitChange makes one commit and returns its hash.
func (s *Server) CommitChange(repo string, c Change) (string, error) {
	if err := s.Init(repo); err != nil {
		return "", err
	}
	s.mu.Lock()
	n := s.commits[repo]
	s.commits[repo]++
	s.mu.Unlock()

	ref := "refs/heads/" + c.Branch
	var in bytes.Buffer
	fmt.Fprintf(&in, "commit %s\ncommitter %s %s\n", ref, Identity, when(n))
	data(&in, c.Message)
	if _, err := s.Git(repo, "", "rev-parse", "--verify", "--quiet", ref); err == nil && !c.Root {
		fmt.Fprintf(&in, "from %s^0\n", ref)
	}
	for _, name := range slices.Sorted(maps.Keys(c.Files)) {
		f := c.Files[name]
		mode := f.Mode
		if mode == "" {
			mode = "100644"
		}
		if mode == "160000" {
			fmt.Fprintf(&in, "M %s %s %s\n", mode, f.Data, name)
			continue
		}
		fmt.Fprintf(&in, "M %s inline %s\n", mode, name)
		data(&in, f.Data)
	}
	for _, name := range c.Delete {
		fmt.Fprintf(&in, "D %s\n", name)
	}
	in.WriteString("done\n")
	if _, err := s.Git(repo, in.String(), "fast-import", "--quiet", "--done", "--force"); err != nil {
		return "", err
	}
	return s.Git(repo, "", "rev-parse", ref)
}

func data(b *bytes.Buffer, text string) { fmt.Fprintf(b, "data %d\n%s\n", len(text), text) }

func when(n int) string {
	return fmt.Sprintf("%d +0000", epoch.Add(time.Duration(n)*time.Minute).Unix())
}

// Tag makes a lightweight tag on anything Git can name.
func (s *Server) Tag(repo, name, target string) error {
	_, err := s.Git(repo, "", "tag", "--force", name, target)
	return err
}

// AnnotatedTag makes a tag object and returns its hash.
func (s *Server) AnnotatedTag(repo, name, target, message string) (string, error) {
	if _, err := s.Git(repo, "", "tag", "--force", "--annotate", "--message", message, name, target); err != nil {
		return "", err
	}
	return s.Git(repo, "", "rev-parse", "refs/tags/"+name)
}

// Init creates an empty bare repository, with main as its default branch,
// unless it exists.
func (s *Server) Init(repo string) error {
	dir, err := s.Dir(repo)
	if err != nil {
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if _, err := os.Stat(filepath.Join(dir, "HEAD")); err == nil {
		return nil
	}
	_, err = s.run(s.root, "", "init", "--quiet", "--bare", "--template=", "--initial-branch=main", dir)
	return err
}

// Import creates a repository from a Git bundle or another repository.
func (s *Server) Import(repo, from string) error {
	dir, err := s.Dir(repo)
	if err != nil {
		return err
	}
	from, err = filepath.Abs(from)
	if err != nil {
		return err
	}
	_, err = s.run(s.root, "", "clone", "--quiet", "--bare", "--template=", from, dir)
	return err
}

// ImportDir commits every regular file below dir on a branch of repo.
func (s *Server) ImportDir(repo, branch, message, dir string) (string, error) {
	files := map[string]string{}
	err := filepath.WalkDir(dir, func(name string, d os.DirEntry, err error) error {
		if err != nil || !d.Type().IsRegular() {
			return err
		}
		rel, err := filepath.Rel(dir, name)
		if err != nil {
			return err
		}
		text, err := os.ReadFile(name)
		files[filepath.ToSlash(rel)] = string(text)
		return err
	})
	if err != nil {
		return "", fmt.Errorf("gitserver: import %s: %w", dir, err)
	}
	return s.Commit(repo, branch, message, files)
}

// Hook installs a hook of a repository, such as "pre-receive", as a shell
// script. An empty script removes it.
func (s *Server) Hook(repo, name, script string) error {
	dir, err := s.Dir(repo)
	if err != nil {
		return err
	}
	at := filepath.Join(dir, "hooks", name)
	if script == "" {
		return os.Remove(at)
	}
	if err := os.MkdirAll(filepath.Dir(at), 0o755); err != nil {
		return err
	}
	return os.WriteFile(at, []byte("#!/bin/sh\n"+script+"\n"), 0o755)
}

// Dir returns the directory of a repository, which may not exist yet.
func (s *Server) Dir(repo string) (string, error) {
	if !filepath.IsLocal(repo) {
		return "", fmt.Errorf("gitserver: repository name %q leaves the root", repo)
	}
	return filepath.Join(s.root, filepath.FromSlash(repo)), nil
}

// Git runs git in a repository and returns its output without the last newline.
func (s *Server) Git(repo, stdin string, args ...string) (string, error) {
	dir, err := s.Dir(repo)
	if err != nil {
		return "", err
	}
	return s.run(dir, stdin, args...)
}

func (s *Server) run(dir, stdin string, args ...string) (string, error) {
	cmd := exec.CommandContext(context.Background(), "git", args...)
	cmd.Dir = dir
	cmd.Env = s.env()
	cmd.Stdin = strings.NewReader(stdin)
	out, err := cmd.Output()
	if err != nil {
		var exit *exec.ExitError
		if errors.As(err, &exit) {
			err = fmt.Errorf("%w: %s", err, bytes.TrimSpace(exit.Stderr))
		}
		return "", fmt.Errorf("gitserver: git %s: %w", strings.Join(args, " "), err)
	}
	return strings.TrimSuffix(string(out), "\n"), nil
}

// env is the whole environment of every git process: nothing of the user's.
func (s *Server) env() []string {
	settings := append([]string{
		"http.receivepack=" + strconv.FormatBool(s.Writable),
		"safe.directory=*",
		"gc.auto=0",
		"pack.threads=1",
		"maintenance.auto=false",
		"commit.gpgSign=false",
		"tag.gpgSign=false",
		"protocol.file.allow=always",
	}, s.Config...)
	env := []string{
		"PATH=" + os.Getenv("PATH"),
		"HOME=" + s.root,
		"LC_ALL=C",
		"TZ=UTC",
		"GIT_CONFIG_NOSYSTEM=1",
		"GIT_CONFIG_GLOBAL=" + os.DevNull,
		"GIT_TERMINAL_PROMPT=0",
		"GIT_AUTHOR_NAME=Demo", "GIT_AUTHOR_EMAIL=demo@example.com", "GIT_AUTHOR_DATE=" + when(0),
		"GIT_COMMITTER_NAME=Demo", "GIT_COMMITTER_EMAIL=demo@example.com", "GIT_COMMITTER_DATE=" + when(0),
		fmt.Sprintf("GIT_CONFIG_COUNT=%d", len(settings)),
	}
	for i, setting := range settings {
		key, value, _ := strings.Cut(setting, "=")
		env = append(env, fmt.Sprintf("GIT_CONFIG_KEY_%d=%s", i, key), fmt.Sprintf("GIT_CONFIG_VALUE_%d=%s", i, value))
	}
	return env
}
