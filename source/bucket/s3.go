package bucket

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"iter"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/minio/minio-go/v7"
	"github.com/minio/minio-go/v7/pkg/credentials"

	"github.com/gitopskit/gitopskit/source"
)

// S3Options are the optional parts of S3.
type S3Options struct {
	// AccessKey and SecretKey sign the requests, with SessionToken if there is
	// one. All empty means anonymous.
	AccessKey, SecretKey, SessionToken string
	// Region is the region of the bucket. Empty means to ask the server.
	Region string
	// PlainHTTP turns encryption off.
	PlainHTTP bool
	// CAs are certificates in PEM that are trusted besides the system's.
	CAs []byte
	// TLS is the configuration of https; its client certificates make mutual
	// TLS. It is copied. Nil means the default.
	TLS *tls.Config
	// Proxy returns the proxy of a request, as that of http.Transport does: of the
	// scheme http, https or socks5. Nil means none; no environment variable is
	// read.
	Proxy func(*http.Request) (*url.URL, error)
	// Transport sends the requests in place of one of our own. It excludes CAs,
	// TLS and Proxy. Nil means one of our own.
	Transport http.RoundTripper
}

// S3 is a Lister of a bucket of an S3 server. Make one with NewS3.
type S3 struct {
	client *minio.Client
	bucket string
	idle   func()
}

var _ Lister = (*S3)(nil)

// NewS3 returns a lister for the bucket of a server, which is named by host and
// port, without scheme. It checks all that can be checked without a network and
// returns every problem at once, as a source.ErrInvalidSpec.
func NewS3(endpoint, bucket string, opts *S3Options) (*S3, error) {
	if opts == nil {
		opts = &S3Options{}
	}
	var errs []error
	if strings.Contains(endpoint, "://") || strings.ContainsAny(endpoint, "/@") {
		errs = append(errs, errors.New("the endpoint is a host and a port, without scheme, path and credentials"))
		endpoint = "invalid"
	}
	if len(bucket) < 3 || len(bucket) > 63 || strings.Trim(bucket, "abcdefghijklmnopqrstuvwxyz0123456789.-") != "" || strings.Contains(bucket, "..") {
		errs = append(errs, fmt.Errorf("bucket %q: want 3 to 63 lower case letters, digits, dots and dashes", bucket))
	}
	if (opts.AccessKey == "") != (opts.SecretKey == "") || opts.SessionToken != "" && opts.AccessKey == "" {
		errs = append(errs, errors.New("AccessKey and SecretKey go together, and a SessionToken needs both"))
	}
	s := &S3{bucket: bucket, idle: func() {}}
	transport, err := opts.transport(s)
	if err != nil {
		errs = append(errs, err)
	}
	creds := credentials.NewStaticV4(opts.AccessKey, opts.SecretKey, opts.SessionToken)
	if opts.AccessKey == "" {
		creds = credentials.NewStatic("", "", "", credentials.SignatureAnonymous)
	}
	s.client, err = minio.New(endpoint, &minio.Options{
		Creds: creds, Secure: !opts.PlainHTTP, Transport: transport, Region: opts.Region, MaxRetries: 3,
	})
	if err != nil {
		errs = append(errs, err)
	}
	if len(errs) > 0 {
		return nil, &source.Error{Op: "new", Source: "bucket " + bucket, Err: fmt.Errorf("%w: %w", source.ErrInvalidSpec, errors.Join(errs...))}
	}
	return s, nil
}

func (o *S3Options) transport(s *S3) (http.RoundTripper, error) {
	if o.Transport != nil {
		if o.CAs != nil || o.TLS != nil || o.Proxy != nil {
			return nil, errors.New("Transport excludes CAs, TLS and Proxy: configure the transport itself")
		}
		return o.Transport, nil
	}
	config := o.TLS.Clone()
	if config == nil {
		config = &tls.Config{}
	}
	if o.CAs != nil {
		pool := x509.NewCertPool()
		if config.RootCAs != nil {
			pool = config.RootCAs.Clone()
		} else if system, err := x509.SystemCertPool(); err == nil {
			pool = system
		}
		if !pool.AppendCertsFromPEM(o.CAs) {
			return nil, errors.New("CAs holds no certificate in PEM")
		}
		config.RootCAs = pool
	}
	own := &http.Transport{
		TLSClientConfig: config, Proxy: o.Proxy, ForceAttemptHTTP2: true, MaxIdleConnsPerHost: parallel, MaxResponseHeaderBytes: 64 << 10,
		TLSHandshakeTimeout: 30 * time.Second, DisableCompression: true,
	}
	s.idle = own.CloseIdleConnections
	return own, nil
}

// CloseIdleConnections gives up connections that are not in use.
func (s *S3) CloseIdleConnections() { s.idle() }

// List implements Lister.
func (s *S3) List(ctx context.Context, prefix string) iter.Seq2[Object, error] {
	return func(yield func(Object, error) bool) {
		ctx, cancel := context.WithCancel(ctx)
		defer cancel()
		for o := range s.client.ListObjectsIter(ctx, s.bucket, minio.ListObjectsOptions{Prefix: prefix, Recursive: true}) {
			if o.Err != nil {
				yield(Object{}, s.fail(o.Err))
				return
			}
			if !yield(Object{o.Key, strings.Trim(o.ETag, `"`), o.Size}, nil) {
				return
			}
		}
	}
}

// Get implements Lister: one conditional request.
func (s *S3) Get(ctx context.Context, o Object) (io.ReadCloser, error) {
	var opts minio.GetObjectOptions
	if err := opts.SetMatchETag(o.ETag); err != nil {
		return nil, fmt.Errorf("%w: object %q has no ETag", source.ErrUnavailable, o.Key)
	}
	r, info, _, err := minio.Core{Client: s.client}.GetObject(ctx, s.bucket, o.Key, opts)
	if err != nil {
		return nil, s.fail(err)
	}
	if strings.Trim(info.ETag, `"`) != o.ETag { // a server that ignores conditions
		return nil, errors.Join(changed(o.Key), r.Close())
	}
	return r, nil
}

func changed(key string) error {
	return fmt.Errorf("%w: object %q has changed since it was listed", source.ErrNotFound, key)
}

// fail gives an error of the client its class.
func (s *S3) fail(err error) error {
	var wrapped *url.Error
	if errors.As(err, &wrapped) {
		return fmt.Errorf("%w: %w", source.ErrUnavailable, wrapped.Err) // without the URL
	}
	res := minio.ToErrorResponse(err)
	class := source.ErrUnavailable
	switch {
	case res.Code == minio.PreconditionFailed:
		return changed(res.Key)
	case res.Code == minio.NoSuchBucket, res.Code == minio.NoSuchKey, res.StatusCode == http.StatusNotFound:
		class = source.ErrNotFound
	case res.StatusCode == http.StatusUnauthorized, res.StatusCode == http.StatusForbidden:
		class = source.ErrUnauthorized
	case res.Code == "" && res.StatusCode == 0:
		return fmt.Errorf("%w: %w", class, err)
	}
	return fmt.Errorf("%w: bucket %s: the server answered %s %s", class, s.bucket, res.Code, short(res.Message))
}

// short makes text of a server fit for one line of an error.
func short(text string) string {
	text = strings.Join(strings.Fields(strings.ToValidUTF8(text, " ")), " ")
	if len(text) > 200 {
		text = text[:200] + "..."
	}
	return text
}
