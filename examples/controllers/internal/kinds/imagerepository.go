package kinds

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	reflectorv1 "github.com/fluxcd/image-reflector-controller/api/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/gitopskit/gitopskit/image"
	"github.com/gitopskit/gitopskit/runtime/kube"
)

// TagDB has the tags of the repositories that were scanned. It is safe for
// concurrent use; the zero value is empty.
type TagDB struct {
	mu   sync.Mutex
	tags map[client.ObjectKey]*image.Tags
}

func (db *TagDB) get(key client.ObjectKey) *image.Tags {
	db.mu.Lock()
	defer db.mu.Unlock()
	return db.tags[key]
}

// set reports whether there was nothing before.
func (db *TagDB) set(key client.ObjectKey, tags *image.Tags) (first bool) {
	db.mu.Lock()
	defer db.mu.Unlock()
	if db.tags == nil {
		db.tags = map[client.ObjectKey]*image.Tags{}
	}
	_, known := db.tags[key]
	if db.tags[key] = tags; tags == nil {
		delete(db.tags, key)
	}
	return !known
}

// ImageRepository reconciles image.toolkit.fluxcd.io ImageRepository.
func ImageRepository(ctx context.Context, env *Env) (*kube.Controller[*reflectorv1.ImageRepository], error) {
	return add(ctx, env, &imageRepository{env}, kube.Options[*reflectorv1.ImageRepository]{
		Schedule: func(o *reflectorv1.ImageRepository) kube.Schedule {
			return env.schedule(o.Spec.Interval, o.Spec.Timeout, o.Spec.Suspend)
		},
	})
}

type imageRepository struct{ env *Env }

// imageRepositoryUnsupported are the fields that cannot be honoured yet.
func imageRepositoryUnsupported() []string {
	return []string{"spec.provider!=generic", "spec.serviceAccountName", "spec.proxySecretRef", "spec.accessFrom"}
}

// Reconcile scans the tags of the repository.
func (r *imageRepository) Reconcile(ctx context.Context, o *reflectorv1.ImageRepository, pass *kube.Pass) kube.Result {
	if err := kube.Unsupported(o, imageRepositoryUnsupported()...); err != nil {
		return kube.Fail("UnsupportedField", err)
	}
	scanner, err := r.env.scanner(ctx, o)
	if errors.Is(err, plainError{}) {
		return kube.Fail(reasonOf(err), err)
	}
	if err != nil {
		return kube.Fail("ImageURLInvalid", err)
	}
	tags, err := scanner.Scan(ctx)
	if err != nil {
		return kube.Fail("ReadOperationFailed", err)
	}
	first := r.env.Tags.set(pass.Key, tags)
	was := o.Status.LastScanResult
	if first || was == nil || was.Revision != tags.Revision() {
		const latest = 10
		o.Status.LastScanResult = &reflectorv1.ScanResult{
			Revision: tags.Revision(), TagCount: len(tags.Names), LatestTags: tags.Latest(latest), ScanTime: metav1.NewTime(time.Now().UTC().Truncate(time.Second)),
		}
	}
	o.Status.CanonicalImageName, o.Status.ObservedExclusionList = tags.Image, o.Spec.ExclusionList
	message := fmt.Sprintf("successful scan: found %d tags with checksum %s", len(tags.Names), tags.Revision())
	if was == nil || was.Revision != tags.Revision() {
		pass.Event(kube.Event{Reason: "Succeeded", Message: message})
	}
	return kube.Ready(message).At(tags.Revision())
}

// Finalize forgets the tags.
func (r *imageRepository) Finalize(_ context.Context, _ *reflectorv1.ImageRepository, pass *kube.Pass) kube.Result {
	r.env.Tags.set(pass.Key, nil)
	return kube.Ready("removed")
}

// scanner reaches the registry of an image, with its credentials.
func (e *Env) scanner(ctx context.Context, o *reflectorv1.ImageRepository) (*image.Scanner, error) {
	if err := e.plain("", o.Spec.Insecure); err != nil {
		return nil, err
	}
	c, err := e.registry(ctx, o.Namespace, o.Spec.SecretRef, o.Spec.CertSecretRef)
	if err != nil {
		return nil, err
	}
	return image.NewScanner(o.Spec.Image, &image.ScannerOptions{
		Client:  image.Client{Keychain: c.Keychain, TLS: c.TLS, Insecure: o.Spec.Insecure},
		Exclude: o.Spec.ExclusionList,
	})
}
