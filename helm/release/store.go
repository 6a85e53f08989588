package release

import (
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"

	"helm.sh/helm/v3/pkg/release"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/client-go/dynamic"
	"k8s.io/client-go/metadata"
)

// Meta is what is known of a revision without reading its record.
type Meta struct {
	Name     string
	Revision int
	Status   release.Status
}

// Store keeps the records of releases. It must be safe for concurrent use, and
// durable: what Save returned nil for is there after a crash.
type Store interface {
	// History returns all revisions, newest first; none if there is no such release.
	History(ctx context.Context, name string) ([]Meta, error)
	// Get reads a record. The error matches [ErrNotFound], [ErrCorrupt] or [ErrLimit].
	Get(ctx context.Context, name string, revision int) (*Record, error)
	// Save creates the record if its Version is empty, else replaces the one
	// that was read, and sets its Version. The error matches [ErrExists] if
	// the revision exists, [ErrConflict] if somebody else saved meanwhile.
	Save(ctx context.Context, r *Record) error
	// Delete removes a record; one that is not there counts as removed.
	Delete(ctx context.Context, name string, revision int) error
}

// Secrets keeps records as Helm does: one Secret for each revision, called
// "sh.helm.release.v1.<name>.v<revision>". It is safe for concurrent use.
type Secrets struct {
	// Dynamic is the connection to the cluster. Required.
	Dynamic dynamic.Interface
	// Metadata is the same for metadata. Nil means that a history transfers
	// all records, which may be megabytes.
	Metadata metadata.Interface
	// Namespace holds the Secrets. Required.
	Namespace string
	// MaxRecord is the size of a record as JSON, in bytes. 0 means 32 MiB:
	// large charts have two, and a Secret could unpack to a thousand.
	MaxRecord int64
}

var _ Store = (*Secrets)(nil)

// secretType is the type of Helm's Secrets.
const secretType = "helm.sh/release.v1"

// maxSecret is how much data the API server takes in a Secret.
const maxSecret = 1 << 20

func secretsResource() schema.GroupVersionResource {
	return schema.GroupVersionResource{Version: "v1", Resource: "secrets"}
}

func secretName(name string, revision int) string {
	return fmt.Sprintf("sh.helm.release.v1.%s.v%d", name, revision)
}

// systemLabels are those by which Helm finds its Secrets.
func systemLabels() []string {
	return []string{"name", "owner", "status", "version", "createdAt", "modifiedAt"}
}

func (s *Secrets) secrets() dynamic.ResourceInterface {
	return s.Dynamic.Resource(secretsResource()).Namespace(s.Namespace)
}

func (s *Secrets) wrap(op, name string, revision int, err error) error {
	if err == nil {
		return nil
	}
	return &Error{Op: op, Namespace: s.Namespace, Name: name, Revision: revision, Err: err}
}

// History lists the Secrets of a release by their labels.
func (s *Secrets) History(ctx context.Context, name string) ([]Meta, error) {
	selector := labels.Set{"owner": "helm", "name": name}.String()
	var all []map[string]string
	const page = 500
	options := metav1.ListOptions{LabelSelector: selector, Limit: page}
	for {
		next, err := s.list(ctx, options, &all)
		if err != nil {
			return nil, s.wrap("read", name, 0, err)
		}
		if options.Continue = next; next == "" {
			break
		}
	}
	var out []Meta
	for _, set := range all {
		revision, err := strconv.Atoi(set["version"])
		if err != nil || revision <= 0 {
			return nil, s.wrap("read", name, 0, fmt.Errorf("%w: a Secret of it has the label version=%q", ErrCorrupt, set["version"]))
		}
		out = append(out, Meta{Name: name, Revision: revision, Status: release.Status(set["status"])})
	}
	slices.SortFunc(out, func(a, b Meta) int { return b.Revision - a.Revision })
	return out, nil
}

// list appends the labels of a page of Secrets.
func (s *Secrets) list(ctx context.Context, options metav1.ListOptions, all *[]map[string]string) (next string, err error) {
	if s.Metadata != nil {
		list, err := s.Metadata.Resource(secretsResource()).Namespace(s.Namespace).List(ctx, options)
		if err != nil {
			return "", err
		}
		for i := range list.Items {
			*all = append(*all, list.Items[i].GetLabels())
		}
		return list.GetContinue(), nil
	}
	list, err := s.secrets().List(ctx, options)
	if err != nil {
		return "", err
	}
	for i := range list.Items {
		*all = append(*all, list.Items[i].GetLabels())
	}
	return list.GetContinue(), nil
}

// Get reads a Secret.
func (s *Secrets) Get(ctx context.Context, name string, revision int) (*Record, error) {
	secret, err := s.secrets().Get(ctx, secretName(name, revision), metav1.GetOptions{})
	if apierrors.IsNotFound(err) {
		err = ErrNotFound
	}
	if err != nil {
		return nil, s.wrap("read", name, revision, err)
	}
	r, err := s.decode(secret)
	if err == nil && (r.Release.Name != name || r.Release.Version != revision) {
		err = fmt.Errorf("%w: it is of %s revision %d", ErrCorrupt, r.Release.Name, r.Release.Version)
	}
	if err != nil {
		return nil, s.wrap("read", name, revision, fmt.Errorf("the Secret %s/%s: %w", s.Namespace, secret.GetName(), err))
	}
	return r, nil
}

func (s *Secrets) decode(secret *unstructured.Unstructured) (*Record, error) {
	text, found, err := unstructured.NestedString(secret.Object, "data", "release")
	if err != nil || !found {
		return nil, fmt.Errorf("%w: it has no key release", ErrCorrupt)
	}
	data, err := base64.StdEncoding.DecodeString(text)
	if err != nil {
		return nil, fmt.Errorf("%w: it is not base64", ErrCorrupt)
	}
	limit := s.MaxRecord
	if limit == 0 {
		limit = 32 << 20
	}
	r, err := Decode(data, limit)
	if err != nil {
		return nil, err
	}
	r.Version = string(secret.GetUID()) + "/" + secret.GetResourceVersion()
	r.Release.Labels = map[string]string{}
	for k, v := range secret.GetLabels() {
		if !slices.Contains(systemLabels(), k) {
			r.Release.Labels[k] = v
		}
	}
	return r, nil
}

// Save creates or replaces a Secret.
func (s *Secrets) Save(ctx context.Context, r *Record) error {
	return s.wrap("save", r.Release.Name, r.Release.Version, s.save(ctx, r))
}

func (s *Secrets) save(ctx context.Context, r *Record) error {
	data, err := Encode(r)
	if err != nil {
		return err
	}
	if len(data) > maxSecret {
		return fmt.Errorf("%w: %d bytes, a Secret takes %d: leave large files out of the chart", ErrLimit, len(data), maxSecret)
	}
	set := map[string]string{}
	for k, v := range r.Release.Labels {
		if slices.Contains(systemLabels(), k) {
			return fmt.Errorf("%w: the label %s is Helm's own", ErrInvalid, k)
		}
		set[k] = v
	}
	now := strconv.FormatInt(time.Now().Unix(), 10)
	maps.Copy(set, map[string]string{
		"name": r.Release.Name, "owner": "helm", "status": r.status().String(), "version": strconv.Itoa(r.Release.Version),
	})
	secret := &unstructured.Unstructured{Object: map[string]any{
		"apiVersion": "v1", "kind": "Secret", "type": secretType,
		"data": map[string]any{"release": base64.StdEncoding.EncodeToString(data)},
	}}
	secret.SetName(secretName(r.Release.Name, r.Release.Version))
	secret.SetNamespace(s.Namespace)
	if r.Version == "" {
		set["createdAt"] = now
		secret.SetLabels(set)
		secret, err = s.secrets().Create(ctx, secret, metav1.CreateOptions{})
	} else {
		set["modifiedAt"] = now
		secret.SetLabels(set)
		secret, err = s.replace(ctx, secret, r.Version)
	}
	switch {
	case apierrors.IsAlreadyExists(err):
		return ErrExists
	case apierrors.IsConflict(err), r.Version != "" && apierrors.IsNotFound(err):
		return fmt.Errorf("%w: %w", ErrConflict, err)
	case err != nil:
		return err
	}
	r.Version = string(secret.GetUID()) + "/" + secret.GetResourceVersion()
	return nil
}

func (s *Secrets) replace(ctx context.Context, secret *unstructured.Unstructured, version string) (*unstructured.Unstructured, error) {
	uid, resourceVersion, ok := strings.Cut(version, "/")
	if !ok {
		return nil, fmt.Errorf("%w: the version %q is of another store", ErrInvalid, version)
	}
	metadata := map[string]any{"uid": uid, "resourceVersion": resourceVersion}
	for k, v := range metadata {
		if err := unstructured.SetNestedField(secret.Object, v, "metadata", k); err != nil {
			return nil, err
		}
	}
	return s.secrets().Update(ctx, secret, metav1.UpdateOptions{})
}

// Delete removes a Secret.
func (s *Secrets) Delete(ctx context.Context, name string, revision int) error {
	err := s.secrets().Delete(ctx, secretName(name, revision), metav1.DeleteOptions{})
	if apierrors.IsNotFound(err) {
		err = nil
	}
	return s.wrap("delete", name, revision, err)
}

// last returns the newest revision, nil if there is none, and all of them.
func last(ctx context.Context, store Store, name string) (*Record, []Meta, error) {
	history, err := store.History(ctx, name)
	if err != nil || len(history) == 0 {
		return nil, nil, err
	}
	r, err := store.Get(ctx, name, history[0].Revision)
	if errors.Is(err, ErrNotFound) {
		err = fmt.Errorf("%w: %w", ErrConflict, err) // removed since the list
	}
	return r, history, err
}
