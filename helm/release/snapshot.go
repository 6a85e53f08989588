package release

import (
	"encoding/json"
	"fmt"
	"slices"
	"time"

	"github.com/opencontainers/go-digest"
	"helm.sh/helm/v3/pkg/chart"
	"helm.sh/helm/v3/pkg/release"
	helmtime "helm.sh/helm/v3/pkg/time"
	"k8s.io/apimachinery/pkg/runtime"

	"github.com/gitopskit/gitopskit/helm"
)

// Snapshot is what a controller remembers of a revision it made, so that it
// notices when somebody else changed the release. Its JSON form is that of an
// entry of status.history of Flux's HelmRelease, version v2.
type Snapshot struct {
	Name          string         `json:"name"`
	Namespace     string         `json:"namespace"`
	Revision      int            `json:"version"`
	Status        release.Status `json:"status"`
	ChartName     string         `json:"chartName"`
	ChartVersion  string         `json:"chartVersion"`
	AppVersion    string         `json:"appVersion,omitempty"`
	ConfigDigest  digest.Digest  `json:"configDigest"` // of the values, see helm.DigestValues
	Digest        digest.Digest  `json:"digest"`       // of the record, without its test hooks
	FirstDeployed time.Time      `json:"firstDeployed"`
	LastDeployed  time.Time      `json:"lastDeployed"`
	Deleted       time.Time      `json:"deleted,omitzero"`
	OCIDigest     string         `json:"ociDigest,omitempty"`
	// Tests are the test hooks by name; nil if the tests were not run.
	Tests map[string]TestResult `json:"testHooks,omitzero"`
}

// TestResult is the outcome of one test hook.
type TestResult struct {
	Phase     string    `json:"phase,omitempty"` // "Succeeded", "Failed", "Running", "Unknown" or empty
	Started   time.Time `json:"lastStarted,omitzero"`
	Completed time.Time `json:"lastCompleted,omitzero"`
}

// snapshotVersion is that of Flux for the way in which digests are computed.
const snapshotVersion = "v2"

// MarshalJSON writes the form of Flux, with times in whole seconds.
func (s Snapshot) MarshalJSON() ([]byte, error) {
	type plain Snapshot
	s.FirstDeployed, s.LastDeployed, s.Deleted = seconds(s.FirstDeployed), seconds(s.LastDeployed), seconds(s.Deleted)
	tests := map[string]TestResult{}
	for name, t := range s.Tests {
		tests[name] = TestResult{Phase: t.Phase, Started: seconds(t.Started), Completed: seconds(t.Completed)}
	}
	if s.Tests != nil {
		s.Tests = tests
	}
	return json.Marshal(struct {
		APIVersion string `json:"apiVersion"`
		plain
	}{snapshotVersion, plain(s)})
}

func seconds(t time.Time) time.Time { return t.UTC().Truncate(time.Second) }

// Tested reports whether all tests ran, or one failed.
func (s *Snapshot) Tested() bool {
	if s.Tests == nil {
		return false
	}
	if s.TestFailed() {
		return true
	}
	for _, t := range s.Tests {
		if t.Phase != string(release.HookPhaseSucceeded) {
			return false
		}
	}
	return true
}

// TestFailed reports whether a test failed.
func (s *Snapshot) TestFailed() bool {
	for _, t := range s.Tests {
		if t.Phase == string(release.HookPhaseFailed) {
			return true
		}
	}
	return false
}

// Observe returns the snapshot of a record. The OCI digest is that of the
// artifact the chart came in, empty if it did not.
func Observe(r *Record, ociDigest string) (Snapshot, error) {
	config, err := helm.DigestValues(digest.SHA256, r.Release.Config)
	if err != nil {
		return Snapshot{}, err
	}
	sum, err := digestOf(r.Release, ociDigest)
	if err != nil {
		return Snapshot{}, err
	}
	metadata := metadataOf(r.Release)
	info := r.Release.Info
	return Snapshot{
		Name: r.Release.Name, Namespace: r.Release.Namespace, Revision: r.Release.Version, Status: info.Status,
		ChartName: metadata.Name, ChartVersion: metadata.Version, AppVersion: metadata.AppVersion,
		ConfigDigest: config, Digest: sum, OCIDigest: ociDigest,
		FirstDeployed: info.FirstDeployed.Time, LastDeployed: info.LastDeployed.Time, Deleted: info.Deleted.Time,
	}, nil
}

// Verify reports whether a record is still the one a snapshot was taken of.
func (s *Snapshot) Verify(r *Record) bool {
	if s.Name != r.Release.Name || s.Namespace != r.Release.Namespace || s.Revision != r.Release.Version {
		return false
	}
	sum, err := digestOf(r.Release, s.OCIDigest)
	return err == nil && sum == s.Digest
}

func metadataOf(r *release.Release) chart.Metadata {
	if r.Chart == nil || r.Chart.Metadata == nil {
		return chart.Metadata{}
	}
	return *r.Chart.Metadata
}

// The document whose digest identifies a record for Flux: members in this
// order, times that are zero left out.
type (
	document struct {
		Name          string         `json:"name"`
		Version       int            `json:"version"`
		Info          documentInfo   `json:"info"`
		ChartMetadata chart.Metadata `json:"chartMetadata"`
		Config        map[string]any `json:"config"`
		Manifest      string         `json:"manifest"`
		Hooks         []documentHook `json:"hooks"`
		Namespace     string         `json:"namespace"`
		OCIDigest     string         `json:"ociDigest,omitempty"`
	}
	documentInfo struct {
		FirstDeployed time.Time                   `json:"first_deployed,omitzero"`
		LastDeployed  time.Time                   `json:"last_deployed,omitzero"`
		Deleted       time.Time                   `json:"deleted,omitzero"`
		Description   string                      `json:"description,omitempty"`
		Status        release.Status              `json:"status,omitempty"`
		Notes         string                      `json:"notes,omitempty"`
		Resources     map[string][]runtime.Object `json:"resources,omitempty"`
	}
	documentHook struct {
		Name              string                        `json:"name,omitempty"`
		Kind              string                        `json:"kind,omitempty"`
		Path              string                        `json:"path,omitempty"`
		Manifest          string                        `json:"manifest,omitempty"`
		Events            []release.HookEvent           `json:"events,omitempty"`
		LastRun           documentRun                   `json:"last_run"`
		Weight            int                           `json:"weight,omitempty"`
		DeletePolicies    []release.HookDeletePolicy    `json:"delete_policies,omitempty"`
		OutputLogPolicies []release.HookOutputLogPolicy `json:"output_log_policies,omitempty"`
	}
	documentRun struct {
		StartedAt   time.Time         `json:"started_at,omitzero"`
		CompletedAt time.Time         `json:"completed_at,omitzero"`
		Phase       release.HookPhase `json:"phase"`
	}
)

func digestOf(r *release.Release, ociDigest string) (digest.Digest, error) {
	doc := document{
		Name: r.Name, Version: r.Version, ChartMetadata: metadataOf(r), Manifest: r.Manifest, Namespace: r.Namespace, OCIDigest: ociDigest,
		Info: documentInfo{
			FirstDeployed: r.Info.FirstDeployed.Time, LastDeployed: r.Info.LastDeployed.Time, Deleted: r.Info.Deleted.Time,
			Description: r.Info.Description, Status: r.Info.Status, Notes: r.Info.Notes, Resources: r.Info.Resources,
		},
	}
	if len(r.Config) > 0 {
		doc.Config = r.Config
	}
	for _, h := range r.Hooks {
		if slices.Contains(h.Events, release.HookTest) {
			continue
		}
		doc.Hooks = append(doc.Hooks, documentHook{
			Name: h.Name, Kind: h.Kind, Path: h.Path, Manifest: h.Manifest, Events: h.Events, Weight: h.Weight,
			DeletePolicies: h.DeletePolicies, OutputLogPolicies: h.OutputLogPolicies,
			LastRun: documentRun{StartedAt: h.LastRun.StartedAt.Time, CompletedAt: h.LastRun.CompletedAt.Time, Phase: h.LastRun.Phase},
		})
	}
	data, err := json.Marshal(doc)
	if err != nil {
		return "", fmt.Errorf("%w: the record cannot be encoded", ErrInvalid)
	}
	return digest.FromBytes(append(data, '\n')), nil
}

// testResults returns the outcome of the test hooks of a record.
func testResults(r *Record, chosen func(name string) bool) map[string]TestResult {
	out := map[string]TestResult{}
	for _, h := range r.Release.Hooks {
		if slices.Contains(h.Events, release.HookTest) && chosen(h.Name) {
			out[h.Name] = TestResult{Phase: string(h.LastRun.Phase), Started: h.LastRun.StartedAt.Time, Completed: h.LastRun.CompletedAt.Time}
		}
	}
	return out
}

// now is the time in records: as precise as JSON keeps it, so that a record
// has the same digest before and after it is stored.
func now() helmtime.Time { return helmtime.Time{Time: time.Now().UTC().Round(0)} }
