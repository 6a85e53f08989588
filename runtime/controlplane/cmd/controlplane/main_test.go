package main

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/gitopskit/gitopskit/runtime/controlplane"
)

func TestMain(m *testing.M) {
	controlplane.Reexec()
	os.Exit(m.Run())
}

// The command says in one line where the server is, writes the kubeconfig where it was told to, and stops with its input.
func TestRun(t *testing.T) {
	kubeconfig := filepath.Join(t.TempDir(), "kubeconfig")
	stdin, input := io.Pipe()
	output, stdout := io.Pipe()
	var stderr bytes.Buffer
	code := make(chan int, 1)
	go func() {
		code <- run(t.Context(), []string{"-stdin-stop", "-controllers=namespace,garbagecollector", "-kubeconfig", kubeconfig}, stdin, stdout, &stderr)
		stdout.Close()
	}()
	lines := bufio.NewScanner(output)
	if !lines.Scan() {
		t.Fatalf("no output; exit code %d: %s", <-code, stderr.String())
	}
	var r ready
	if err := json.Unmarshal(lines.Bytes(), &r); err != nil {
		t.Fatalf("%s: %v", lines.Text(), err)
	}
	if r.PID != os.Getpid() || len(r.Processes) != 2 || r.Kubeconfig != kubeconfig || r.Version != controlplane.KubernetesVersion() {
		t.Errorf("got %+v", r)
	}
	info, err := os.Stat(kubeconfig)
	if err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("kubeconfig: %v, %v", info, err)
	}
	input.Close()
	if lines.Scan() {
		t.Errorf("more output: %s", lines.Text())
	}
	if c := <-code; c != 0 || stderr.Len() > 0 {
		t.Errorf("exit code %d: %s", c, stderr.String())
	}
	if _, err := os.Stat(r.Dir); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("directory: %v", err)
	}
	for _, pid := range r.Processes {
		if err := syscall.Kill(pid, 0); err == nil {
			t.Errorf("process %d is alive", pid)
		}
	}
}

func TestUsage(t *testing.T) {
	tests := []struct {
		name, args string
		code       int
		out, err   string
	}{
		{"version", "-version", 0, "(Kubernetes " + controlplane.KubernetesVersion() + ")", ""},
		{"help", "-h", 0, "", "-simulated-nodes"},
		{"unknown flag", "-x", 2, "", "-x"},
		{"argument", "x", 2, "", `unexpected argument "x"`},
		{"bad value", "-port=-1", 1, "", "Port -1"},
		{"bad controller", "-controllers=all,cronjob", 1, "", `"cronjob"`},
		{"bad directory", "-dir=/dev/null/x", 1, "", "a part of the path is a file"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			var stdout, stderr bytes.Buffer
			code := run(t.Context(), strings.Fields(tt.args), nil, &stdout, &stderr)
			if code != tt.code || !strings.Contains(stdout.String(), tt.out) || !strings.Contains(stderr.String(), tt.err) {
				t.Errorf("exit code %d, output %q, errors %q", code, stdout.String(), stderr.String())
			}
		})
	}
}

func TestInterruptedStart(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	var stdout, stderr bytes.Buffer
	if code := run(ctx, nil, nil, &stdout, &stderr); code != 0 || stdout.Len()+stderr.Len() > 0 {
		t.Errorf("exit code %d, output %q, errors %q", code, stdout.String(), stderr.String())
	}
}
