package cosign

import (
	"bytes"
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"

	v1 "github.com/google/go-containerregistry/pkg/v1"

	"github.com/gitopskit/gitopskit/source"
	"github.com/gitopskit/gitopskit/source/oci"
)

// The formats of cosign and sigstore.
const (
	payloadMediaType    = "application/vnd.dev.cosign.simplesigning.v1+json"
	signatureAnnotation = "dev.cosignproject.cosign/signature"
	bundleMediaType     = "application/vnd.dev.sigstore.bundle.v0.3+json"
	emptyMediaType      = "application/vnd.oci.empty.v1+json"
	statementMediaType  = "application/vnd.in-toto+json"
	signPredicate       = "https://sigstore.dev/cosign/sign/v1"
)

const (
	// maxSignature is the size of one payload or bundle: both are a few KiB.
	maxSignature = 1 << 20
	// maxTried bounds what others can make us do by adding signatures.
	maxTried = 100
	// maxReasons is how many signatures an error tells about.
	maxReasons = 5
)

// Verify wants a signature of the subject by one of the keys. The evidence
// names the key by the SHA-256 of its DER form, "sha256:<hex>".
func (k *Keys) Verify(ctx context.Context, s *oci.Subject) ([]source.Evidence, error) {
	v := &verification{keys: k, subject: s}
	for _, look := range []func(context.Context) error{v.tagged, v.referring} {
		err := look(ctx)
		if v.signer != "" {
			return []source.Evidence{{Kind: "cosign", Object: "manifest", Signer: v.signer}}, nil
		}
		if err != nil {
			return nil, err
		}
	}
	return nil, v.verdict()
}

// verification looks for a good signature of one subject.
type verification struct {
	keys    *Keys
	subject *oci.Subject
	tried   int
	reasons []error // why signatures do not count
	signer  string
}

// tagged reads the signatures under the tag that belongs to the digest.
func (v *verification) tagged(ctx context.Context) error {
	tag := strings.Replace(v.subject.Digest.String(), ":", "-", 1) + ".sig"
	image, err := v.image(ctx, tag)
	if errors.Is(err, source.ErrNotFound) {
		return nil
	}
	if err != nil {
		return err
	}
	return v.each(ctx, image.Layers, payloadMediaType, func(d v1.Descriptor, payload []byte) (string, error) {
		signature, err := base64.StdEncoding.DecodeString(d.Annotations[signatureAnnotation])
		if err != nil || len(signature) == 0 {
			return "", errors.New("it has no signature in its annotations")
		}
		return v.keys.payload(v.subject.Digest.String(), payload, signature)
	})
}

// referring reads the bundles that refer to the subject.
func (v *verification) referring(ctx context.Context) error {
	all, err := v.subject.Referrers(ctx)
	if err != nil {
		return err
	}
	looked := 0
	for _, d := range all {
		if d.ArtifactType != bundleMediaType && d.ArtifactType != emptyMediaType && d.ArtifactType != "" {
			continue // some registries say the type of the configuration, which a bundle does not need
		}
		if looked++; looked > maxTried {
			return fmt.Errorf("%w: more than %d manifests refer to %s", source.ErrLimit, maxTried, v.subject.Digest)
		}
		image, err := v.image(ctx, d.Digest.String())
		if err != nil {
			return err
		}
		err = v.each(ctx, image.Layers, bundleMediaType, func(_ v1.Descriptor, bundle []byte) (string, error) {
			return v.keys.bundle(v.subject.Digest.String(), bundle)
		})
		if err != nil || v.signer != "" {
			return err
		}
	}
	return nil
}

func (v *verification) image(ctx context.Context, reference string) (*v1.Manifest, error) {
	m, err := v.subject.Manifest(ctx, reference)
	if err != nil {
		return nil, err
	}
	image, err := v1.ParseManifest(bytes.NewReader(m.Data))
	if err != nil {
		return nil, fmt.Errorf("%w: the manifest of signatures %s is malformed: %w", source.ErrUnverified, m.Digest, err)
	}
	return image, nil
}

// each tries signatures until one is good.
func (v *verification) each(ctx context.Context, layers []v1.Descriptor, mediaType string, check func(v1.Descriptor, []byte) (string, error)) error {
	for _, d := range layers {
		if string(d.MediaType) != mediaType {
			continue
		}
		if v.tried++; v.tried > maxTried {
			return fmt.Errorf("%w: %s has more than %d signatures", source.ErrLimit, v.subject.Digest, maxTried)
		}
		data, err := v.subject.Blob(ctx, d, maxSignature)
		if err != nil {
			return err
		}
		if v.signer, err = check(d, data); err == nil {
			return nil
		}
		v.signer = ""
		v.reasons = append(v.reasons, fmt.Errorf("signature %d: %w", v.tried, err))
	}
	return nil
}

// verdict says why nothing counted.
func (v *verification) verdict() error {
	if v.tried == 0 {
		return fmt.Errorf("%w: %s is not signed: there is no signature beside it", source.ErrUnverified, v.subject.Digest)
	}
	shown := v.reasons[:min(len(v.reasons), maxReasons)]
	return fmt.Errorf("%w: none of %d signatures of %s counts: %w", source.ErrUnverified, v.tried, v.subject.Digest, errors.Join(shown...))
}

var errNotOurs = errors.New("none of the keys made it")

// payload checks a signature of the classic form and returns its key.
func (k *Keys) payload(digest string, payload, signature []byte) (string, error) {
	id := k.signer(payload, signature)
	if id == "" {
		return "", errNotOurs
	}
	var p struct {
		Critical struct {
			Image struct {
				Digest string `json:"docker-manifest-digest"`
			} `json:"image"`
			Type string `json:"type"`
		} `json:"critical"`
	}
	if err := json.Unmarshal(payload, &p); err != nil {
		return "", errors.New("its payload is malformed")
	}
	if p.Critical.Type != "cosign container image signature" {
		return "", fmt.Errorf("it is a %.60q, not a signature of an image", p.Critical.Type)
	}
	if p.Critical.Image.Digest != digest {
		return "", fmt.Errorf("it is of another manifest, %.80q", p.Critical.Image.Digest)
	}
	return id, nil
}

// bundle checks a sigstore bundle and returns its key.
func (k *Keys) bundle(digest string, data []byte) (string, error) {
	var b struct {
		MediaType string `json:"mediaType"`
		Material  struct {
			Certificate *json.RawMessage `json:"certificate"`
			Chain       *json.RawMessage `json:"x509CertificateChain"`
		} `json:"verificationMaterial"`
		Envelope *struct {
			Payload     []byte `json:"payload"`
			PayloadType string `json:"payloadType"`
			Signatures  []struct {
				Sig []byte `json:"sig"`
			} `json:"signatures"`
		} `json:"dsseEnvelope"`
	}
	if err := json.Unmarshal(data, &b); err != nil {
		return "", errors.New("the bundle is malformed")
	}
	switch {
	case b.MediaType != bundleMediaType:
		return "", fmt.Errorf("a bundle of type %.80q is not supported", b.MediaType)
	case b.Material.Certificate != nil || b.Material.Chain != nil:
		return "", errors.New("it was signed by an identity (keyless), which is not supported")
	case b.Envelope == nil:
		return "", errors.New("the bundle holds no signed statement")
	case b.Envelope.PayloadType != statementMediaType:
		return "", fmt.Errorf("a statement of type %.80q is not supported", b.Envelope.PayloadType)
	case len(b.Envelope.Signatures) != 1:
		return "", fmt.Errorf("the bundle has %d signatures, want one", len(b.Envelope.Signatures))
	}
	id := k.signer(pae(b.Envelope.PayloadType, b.Envelope.Payload), b.Envelope.Signatures[0].Sig)
	if id == "" {
		return "", errNotOurs
	}
	return id, checkStatement(digest, b.Envelope.Payload)
}

// checkStatement wants a statement to be a signature of the digest.
func checkStatement(digest string, payload []byte) error {
	var s struct {
		Type          string `json:"_type"`
		PredicateType string `json:"predicateType"`
		Subject       []struct {
			Digest map[string]string `json:"digest"`
		} `json:"subject"`
	}
	if err := json.Unmarshal(payload, &s); err != nil {
		return errors.New("its statement is malformed")
	}
	if s.Type != "https://in-toto.io/Statement/v1" && s.Type != "https://in-toto.io/Statement/v0.1" {
		return fmt.Errorf("a statement of type %.80q is not supported", s.Type)
	}
	if s.PredicateType != signPredicate {
		return fmt.Errorf("it is an attestation, %.120q, not a signature", s.PredicateType)
	}
	algorithm, hex, _ := strings.Cut(digest, ":")
	for _, subject := range s.Subject {
		if subject.Digest[algorithm] == hex && hex != "" {
			return nil
		}
	}
	var others []string
	for _, subject := range s.Subject[:min(len(s.Subject), maxReasons)] {
		others = append(others, fmt.Sprintf("%.64s", subject.Digest[algorithm]))
	}
	slices.Sort(others)
	return fmt.Errorf("it is of other manifests, %q", others)
}
