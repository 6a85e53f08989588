package ssa_test

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"syscall"
	"testing"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/discovery"
	"k8s.io/client-go/discovery/cached/memory"
	"k8s.io/client-go/dynamic"
	"k8s.io/client-go/restmapper"
	"k8s.io/client-go/tools/clientcmd"

	"github.com/gitopskit/gitopskit/runtime/testenv"
	"github.com/gitopskit/gitopskit/ssa"
)

// The states that the crashing run moves between: it installs first, then
// replaces half, which takes creations, updates and deletions.
const (
	crashBefore = "---\napiVersion: v1\nkind: ConfigMap\nmetadata: {name: a}\ndata: {v: '1'}\n---\napiVersion: v1\nkind: ConfigMap\nmetadata: {name: b}\n---\napiVersion: v1\nkind: ServiceAccount\nmetadata: {name: s}\n"
	crashAfter  = "---\napiVersion: v1\nkind: ConfigMap\nmetadata: {name: a}\ndata: {v: '2'}\n---\napiVersion: v1\nkind: ConfigMap\nmetadata: {name: c}\n---\napiVersion: v1\nkind: Service\nmetadata: {name: svc}\nspec: {ports: [{port: 80}]}\n"
	crashFinal  = "---\napiVersion: v1\nkind: ConfigMap\nmetadata: {name: c}\n"
)

// TestKilledAtEveryWrite kills a process with SIGKILL before and after each of
// its writes. Whatever the moment, the next run must own exactly its objects:
// nothing lost, nothing orphaned.
func TestKilledAtEveryWrite(t *testing.T) {
	env := testenv.Start(t)
	for k := 1; ; k++ {
		finished := true
		for _, when := range []string{"before", "after"} {
			ns := testenv.Start(t).Namespace
			cmd := exec.CommandContext(t.Context(), os.Args[0])
			cmd.Env = append(os.Environ(), "SSA_CRASH_AT="+strconv.Itoa(k), "SSA_CRASH_WHEN="+when, "SSA_CRASH_NS="+ns, "SSA_CRASH_KUBECONFIG="+env.Kubeconfig())
			out, err := cmd.CombinedOutput()
			var exit *exec.ExitError
			switch {
			case err == nil:
			case errors.As(err, &exit) && exit.Sys().(syscall.WaitStatus).Signal() == syscall.SIGKILL: // on unix
				finished = false
			default:
				t.Fatalf("%s write %d: %v\n%s", when, k, err, out)
			}
			c, _ := clientFor(t, env.Config(), "app", ns)
			objs := objects(t, crashFinal)
			must(t)(c.Apply(t.Context(), objs, nil))
			must(t)(c.Prune(t.Context(), objs, nil))
			checkOnly(t, c, fmt.Sprintf("killed %s write %d", when, k))
		}
		if finished {
			if k < 10 {
				t.Errorf("only %d writes were made", k-1)
			}
			return
		}
	}
}

// checkOnly fails unless ConfigMap c is the owner's only object.
func checkOnly(t *testing.T, c *ssa.Client, moment string) {
	t.Helper()
	var found []string
	for _, resource := range []string{"configmaps", "serviceaccounts", "services"} {
		list, err := c.Dynamic.Resource(configMaps.GroupVersion().WithResource(resource)).Namespace(c.Owner.Namespace).
			List(t.Context(), metav1.ListOptions{LabelSelector: "gitopskit.github.io/name"})
		if err != nil {
			t.Fatal(err)
		}
		for _, obj := range list.Items {
			found = append(found, obj.GetKind()+"/"+obj.GetName())
		}
	}
	if got := strings.Join(found, " "); got != "ConfigMap/c" {
		t.Errorf("%s: the owner has %q", moment, got)
	}
}

// crashChild is the process that is killed.
func crashChild() {
	at, err := strconv.Atoi(os.Getenv("SSA_CRASH_AT"))
	if err == nil {
		err = crashRun(at, os.Getenv("SSA_CRASH_WHEN"), os.Getenv("SSA_CRASH_NS"), os.Getenv("SSA_CRASH_KUBECONFIG"))
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	os.Exit(0)
}

func crashRun(at int, when, namespace, kubeconfig string) error {
	config, err := clientcmd.BuildConfigFromFlags("", kubeconfig)
	if err != nil {
		return err
	}
	die := func() { syscall.Kill(os.Getpid(), syscall.SIGKILL); select {} } //nolint:errcheck // there is no after
	writes := 0
	config.Wrap(func(next http.RoundTripper) http.RoundTripper {
		return roundTripper(func(r *http.Request) (*http.Response, error) {
			write := r.Method != http.MethodGet && r.URL.Query().Get("dryRun") == ""
			if write {
				writes++
			}
			if write && writes == at && when == "before" {
				die()
			}
			resp, err := next.RoundTrip(r)
			if write && writes == at {
				die()
			}
			return resp, err
		})
	})
	dyn, err := dynamic.NewForConfig(config)
	if err != nil {
		return err
	}
	disco, err := discovery.NewDiscoveryClientForConfig(config)
	if err != nil {
		return err
	}
	c := &ssa.Client{
		Dynamic: dyn, Mapper: restmapper.NewDeferredDiscoveryRESTMapper(memory.NewMemCacheClient(disco)),
		Owner: ssa.Owner{Name: "app", Namespace: namespace}, DefaultNamespace: namespace, Concurrency: 1,
	}
	ctx := context.Background()
	for _, state := range []string{crashBefore, crashAfter} {
		objs, err := ssa.ReadObjects(strings.NewReader(state))
		if err != nil {
			return err
		}
		if _, err := c.Apply(ctx, objs, nil); err != nil {
			return err
		}
		if _, err := c.Prune(ctx, objs, nil); err != nil {
			return err
		}
	}
	return nil
}
