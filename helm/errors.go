package helm

import (
	"context"
	"errors"
	"io/fs"
)

var (
	// ErrInvalid: the chart is broken: no Chart.yaml, bad YAML, a dependency
	// that is not in charts/.
	ErrInvalid = errors.New("invalid chart")
	// ErrLibrary: the chart is of type library, which only other charts can use.
	ErrLibrary = errors.New("library chart")
	// ErrUnsupported: the chart needs something that is refused here, such as
	// an apiVersion other than v1 and v2, or symbolic links.
	ErrUnsupported = errors.New("unsupported chart")
	// ErrKubeVersion: the chart does not accept the version of Kubernetes.
	ErrKubeVersion = errors.New("incompatible Kubernetes version")
	// ErrUnsafePath: a file of the chart has a name that leaves it.
	ErrUnsafePath = errors.New("unsafe path")
	// ErrLimit: a bound of [LoadLimits] or [RenderLimits] was reached.
	ErrLimit = errors.New("limit exceeded")
	// ErrSchema: the values do not fit values.schema.json, or that cannot be used.
	ErrSchema = errors.New("values do not fit the schema of the chart")
	// ErrTemplate: a template failed, or its output is not a manifest.
	ErrTemplate = errors.New("template failed")
	// ErrRelease: the release has no name that Helm accepts, or no namespace.
	ErrRelease = errors.New("invalid release")
	// ErrNotFound: a referenced ConfigMap or Secret does not exist.
	ErrNotFound = errors.New("object not found")
	// ErrKeyNotFound: a referenced ConfigMap or Secret lacks the key.
	ErrKeyNotFound = errors.New("key not found")
	// ErrValues: values cannot be read or set: not YAML, a bad target path, a
	// kind other than ConfigMap and Secret.
	ErrValues = errors.New("invalid values")
)

// Error says what failed, for which chart, and why.
type Error struct {
	// Op is "load" or "render".
	Op string
	// Chart is the name of the chart, or the directory while it has none.
	Chart string
	// Path is the file at fault inside the chart; empty when it is not known.
	Path string
	// Err is the cause: one of the classes of this package, a context error,
	// or what the file system returned, such as [fs.ErrNotExist].
	Err error
}

func (e *Error) Error() string {
	text := "helm: " + e.Op
	if e.Chart != "" {
		text += " " + e.Chart
	}
	if e.Path != "" {
		text += ": " + e.Path
	}
	return text + ": " + e.Err.Error()
}

// Unwrap returns the cause.
func (e *Error) Unwrap() error { return e.Err }

// Terminal reports whether only another chart or other values can help. It is
// false when the call was cancelled or the chart could not be read.
func (e *Error) Terminal() bool {
	if errors.Is(e.Err, context.Canceled) || errors.Is(e.Err, context.DeadlineExceeded) {
		return false
	}
	for _, class := range []error{
		ErrInvalid, ErrLibrary, ErrUnsupported, ErrKubeVersion, ErrUnsafePath, ErrLimit, ErrSchema, ErrTemplate, ErrRelease, fs.ErrNotExist,
	} {
		if errors.Is(e.Err, class) {
			return true
		}
	}
	return false
}
