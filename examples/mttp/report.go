package main

import (
	"cmp"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/gitopskit/gitopskit/examples/mttp/internal/meter"
	"github.com/gitopskit/gitopskit/examples/mttp/internal/workload"
)

// Report is the outcome of a run.
type Report struct {
	Kind       workload.Kind `json:"kind"`
	Apps       int           `json:"apps"`
	Kubernetes string        `json:"kubernetes"`
	Phases     []*Phase      `json:"phases"`
}

// Phase is what one phase took.
type Phase struct {
	Name    string  `json:"name"`
	Seconds float64 `json:"seconds"`
	// Requests and Verbs are API requests per app.
	Requests float64            `json:"requestsPerApp"`
	Verbs    map[string]float64 `json:"requestsPerAppByVerb"`
	// Watches is how many watches anybody began, Kubernetes how many requests
	// are those of its own controllers.
	Watches    int `json:"watches"`
	Kubernetes int `json:"kubernetes"`
	// Sent is what the controllers say they sent, watches and discovery too.
	Sent       *int     `json:"sentByControllers,omitempty"`
	CPUSeconds *float64 `json:"cpuSeconds,omitempty"`
	PeakMiB    *float64 `json:"peakMiB,omitempty"`
	// Detail has every kind of request, with its number.
	Detail []Detail `json:"detail"`
}

// Detail is a kind of request.
type Detail struct {
	Verb        string `json:"verb"`
	Resource    string `json:"resource,omitempty"`
	Subresource string `json:"subresource,omitempty"`
	Count       int    `json:"count"`
}

func newPhase(name string, took time.Duration, apps int, before, after *state) *Phase {
	p := &Phase{Name: name, Seconds: took.Seconds(), Verbs: map[string]float64{}}
	all := after.requests.Minus(before.requests)
	ours := ofGitOps(all)
	for r, n := range ours {
		p.Verbs[r.Verb] += float64(n) / float64(apps)
	}
	p.Requests = float64(ours.Total()) / float64(apps)
	for r, n := range all {
		p.Detail = append(p.Detail, Detail{r.Verb, r.Resource, r.Subresource, n})
		switch {
		case r.Verb == "WATCH":
			p.Watches += n
		case kubernetes(r):
			p.Kubernetes += n
		}
	}
	slices.SortFunc(p.Detail, func(a, b Detail) int {
		return cmp.Or(b.Count-a.Count, strings.Compare(a.Resource, b.Resource), strings.Compare(a.Verb, b.Verb), strings.Compare(a.Subresource, b.Subresource))
	})
	if after.known.sent {
		sent := after.usage.Sent - before.usage.Sent
		p.Sent = &sent
	}
	if after.known.usage {
		cpu, peak := after.usage.CPU-before.usage.CPU, max(after.peak, after.usage.RSS)/(1<<20)
		p.CPUSeconds, p.PeakMiB = &cpu, &peak
	}
	return p
}

// ofGitOps leaves of requests those about objects that GitOps controllers may
// have sent, without watches.
func ofGitOps(all meter.Counts) meter.Counts {
	out := meter.Counts{}
	for r, n := range all {
		if r.Verb != "WATCH" && !kubernetes(r) {
			out[r] = n
		}
	}
	return out
}

// kubernetes reports requests that components of Kubernetes send, about what
// the apps do not have: nodes and their leases, and what becomes of a
// Deployment, a Service and a namespace.
func kubernetes(r meter.Request) bool {
	switch r.Resource {
	case "leases", "nodes", "pods", "replicasets", "endpoints", "endpointslices", "controllerrevisions",
		"tokenreviews", "subjectaccessreviews", "apiservices", "flowschemas", "prioritylevelconfigurations",
		"servicecidrs", "ipaddresses", "resourcequotas", "limitranges", "runtimeclasses", "csinodes", "poddisruptionbudgets":
		return true
	case "deployments": // the controller of Deployments writes revisions and status
		return r.Verb == "PUT" || r.Subresource == "status"
	case "namespaces":
		return r.Verb == "PUT"
	}
	return false
}

// Table prints the report as a table in Markdown.
func (r *Report) Table(w io.Writer) error {
	rows := [][]string{{""}, {"seconds"}, {"API requests per app"}}
	verbs := map[string]bool{}
	for _, p := range r.Phases {
		for v := range p.Verbs {
			verbs[v] = true
		}
	}
	sorted := slices.Sorted(maps.Keys(verbs))
	for _, v := range sorted {
		rows = append(rows, []string{"… " + v})
	}
	rows = append(rows, []string{"watches begun"}, []string{"requests of Kubernetes itself"},
		[]string{"requests that the controllers count"}, []string{"CPU seconds"}, []string{"peak memory, MiB"})
	for _, p := range r.Phases {
		cells := []string{p.Name, fmt.Sprintf("%.2f", p.Seconds), fmt.Sprintf("%.1f", p.Requests)}
		for _, v := range sorted {
			cells = append(cells, fmt.Sprintf("%.1f", p.Verbs[v]))
		}
		cells = append(cells, fmt.Sprint(p.Watches), fmt.Sprint(p.Kubernetes), or("%d", p.Sent), or("%.2f", p.CPUSeconds), or("%.0f", p.PeakMiB))
		for i, c := range cells {
			rows[i] = append(rows[i], c)
		}
	}
	_, err := fmt.Fprintf(w, "%d apps of %d objects, %s, Kubernetes %s\n\n%s", r.Apps, workload.Objects, r.Kind, r.Kubernetes, markdown(rows))
	return err
}

// or prints a value, or "-" if it is not known.
func or[T any](format string, v *T) string {
	if v == nil {
		return "-"
	}
	return fmt.Sprintf(format, *v)
}

// markdown aligns cells: the first column to the left, the others to the right.
func markdown(rows [][]string) string {
	widths := make([]int, len(rows[0]))
	for _, row := range rows {
		for i, c := range row {
			widths[i] = max(widths[i], len([]rune(c)))
		}
	}
	var out strings.Builder
	line := func(cells []string) {
		for i, c := range cells {
			fill := strings.Repeat(" ", widths[i]-len([]rune(c)))
			if i == 0 {
				c += fill
			} else {
				c = fill + c
			}
			out.WriteString("| " + c + " ")
		}
		out.WriteString("|\n")
	}
	line(rows[0])
	for i, width := range widths {
		rule := strings.Repeat("-", width+1)
		if i == 0 {
			out.WriteString("|" + rule + "-")
		} else {
			out.WriteString("|" + rule + ":")
		}
	}
	out.WriteString("|\n")
	for _, row := range rows[1:] {
		line(row)
	}
	return out.String()
}

// JSON prints the report as JSON.
func (r *Report) JSON(w io.Writer) error {
	e := json.NewEncoder(w)
	e.SetIndent("", "  ")
	return e.Encode(r)
}
