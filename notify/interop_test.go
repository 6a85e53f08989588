//go:build interop

package notify_test

import (
	"bufio"
	"encoding/json"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/gitopskit/gitopskit/notify"
)

// TestInteropAlertmanager has a real Alertmanager fire one alert for an object, whatever fails, and resolve it.
func TestInteropAlertmanager(t *testing.T) {
	address := startAlertmanager(t)
	a, err := notify.NewAlertmanager(address+"/api/v2/alerts", &notify.AlertmanagerOptions{Labels: []string{"env-1"}, Expires: time.Hour})
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = a.Close() }()
	at := time.Now().Add(-time.Minute)
	send := func(e notify.Event) {
		t.Helper()
		e.Metadata["env-1"] = "eu"
		e.Metadata["kustomize.toolkit.fluxcd.io/ü"] = "what no label name allows"
		e.Timestamp, at = at, at.Add(10*time.Second)
		if err := a.Send(t.Context(), e); err != nil {
			t.Fatal(err)
		}
	}
	first := failedEvent()
	send(first)
	second := failedEvent()
	second.Reason, second.Message, second.Metadata = "BuildFailed", "no such file", map[string]string{"revision": "other"}
	send(second)
	other := failedEvent()
	other.InvolvedObject.Name = "db"
	send(other)

	want := map[string]string{
		"alertname": "FluxKustomization", "severity": "error", "kind": "Kustomization", "name": "web", "namespace": "apps",
		"reportingcontroller": "kustomize-controller", "env_1": "eu",
	}
	db := map[string]string{}
	for k, v := range want {
		db[k] = v
	}
	db["name"] = "db"
	firing := func() (labels []map[string]string, messages map[string]string) {
		t.Helper()
		messages = map[string]string{}
		for _, one := range alertsOf(t, address) {
			labels = append(labels, one.Labels)
			messages[one.Labels["name"]] = one.Annotations["message"]
		}
		return labels, messages
	}
	labels, messages := firing()
	byName := cmp.Transformer("byName", func(list []map[string]string) map[string]map[string]string {
		m := map[string]map[string]string{}
		for _, l := range list {
			m[l["name"]] = l
		}
		return m
	})
	if diff := cmp.Diff([]map[string]string{want, db}, labels, byName); diff != "" || len(labels) != 2 {
		t.Errorf("%d alerts fire (-want +got):\n%s", len(labels), diff)
	}
	if messages["web"] != "no such file" {
		t.Errorf("the alert says %q", messages["web"])
	}
	recovered := succeededEvent()
	recovered.InvolvedObject = first.InvolvedObject
	send(recovered)
	if labels, _ := firing(); len(labels) != 1 || labels[0]["name"] != "db" {
		t.Errorf("after the recovery there fire %v", labels)
	}
}

type listedAlert struct {
	Labels, Annotations map[string]string
}

func alertsOf(t *testing.T, address string) []listedAlert {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, address+"/api/v2/alerts", nil)
	if err != nil {
		t.Fatal(err)
	}
	client := &http.Client{Transport: &http.Transport{DisableKeepAlives: true}}
	resp, err := client.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = resp.Body.Close() }()
	var list []listedAlert
	if err := json.NewDecoder(resp.Body).Decode(&list); err != nil {
		t.Fatal(err)
	}
	return list
}

func startAlertmanager(t *testing.T) string {
	t.Helper()
	program, err := exec.LookPath("alertmanager")
	if err != nil {
		t.Fatalf("%v: go install github.com/prometheus/alertmanager/cmd/alertmanager@v0.28.1", err)
	}
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	addr := listener.Addr().String()
	_ = listener.Close()
	config := filepath.Join(t.TempDir(), "alertmanager.yml")
	if err := os.WriteFile(config, []byte("route:\n  receiver: nobody\nreceivers:\n- name: nobody\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(program, "--config.file", config, "--storage.path", t.TempDir(), "--web.listen-address", addr, "--cluster.listen-address=")
	log, err := cmd.StderrPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	lines := make(chan string, 1000)
	go func() {
		defer close(lines)
		for s := bufio.NewScanner(log); s.Scan(); {
			select {
			case lines <- s.Text():
			default:
			}
		}
	}()
	t.Cleanup(func() {
		_ = cmd.Process.Kill()
		for range lines { // until it has ended
		}
		_ = cmd.Wait()
	})
	for line := range lines {
		if strings.Contains(line, "Listening on") {
			return "http://" + addr
		}
	}
	t.Fatal("alertmanager has ended")
	return ""
}
