package ssa

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"regexp"
	"slices"
	"strings"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
)

// Classes of failure, for errors.Is. Every error of a request matches exactly
// one of them or a context error.
var (
	// ErrInvalid: the object was refused, here or by the API server: a missing
	// name, an unknown field, a value out of range, a policy that denies it.
	ErrInvalid = errors.New("invalid object")
	// ErrUnknownKind: the cluster does not serve the kind, and the set holds
	// no definition of it.
	ErrUnknownKind = errors.New("unknown kind")
	// ErrForbidden: the API server refused the credentials, or what they may do.
	ErrForbidden = errors.New("not allowed")
	// ErrConflict: somebody else changed the same thing meanwhile. Try again.
	ErrConflict = errors.New("conflict")
	// ErrUnavailable: no answer, or an answer that says the server cannot
	// serve now. Try again.
	ErrUnavailable = errors.New("cluster unavailable")
	// ErrForeign: the object belongs to another owner or tool.
	ErrForeign = errors.New("object belongs to somebody else")
	// ErrGuarded: a prune would delete more than its guard allows.
	ErrGuarded = errors.New("not deleted")
	// ErrOtherCluster: the inventory is of another cluster than the client's.
	ErrOtherCluster = errors.New("another cluster")
	// ErrNotReady: objects did not become ready, or not gone, in time.
	ErrNotReady = errors.New("not ready")
)

// ObjectError says which operation failed on which object.
type ObjectError struct {
	// Op is "read", "validate", "apply", "recreate", "delete", "watch" or "wait".
	Op     string
	Object ObjectID
	// Err matches one of the classes above. For Secrets it holds the reason
	// and the fields the API server named but not its text, which may repeat
	// values.
	Err error

	after time.Duration
}

// RetryAfter returns how long the API server asked to wait before the next try, 0
// if it did not.
func (e *ObjectError) RetryAfter() time.Duration { return e.after }

func (e *ObjectError) Error() string { return fmt.Sprintf("%s %s: %s", e.Op, e.Object, e.Err) }

// Unwrap returns the cause.
func (e *ObjectError) Unwrap() error { return e.Err }

// objectError wraps what the API server answered about an object.
func objectError(op string, id ObjectID, err error) error {
	if already := (*ObjectError)(nil); err == nil || errors.As(err, &already) {
		return err
	}
	class := classify(err)
	seconds, _ := apierrors.SuggestsClientDelay(err)
	if id.Kind == "Secret" && id.Group == "" {
		err = withoutValues(err)
	}
	if class != nil {
		err = fmt.Errorf("%w: %w", class, err)
	}
	return &ObjectError{Op: op, Object: id, Err: err, after: time.Duration(seconds) * time.Second}
}

// classify returns the class of an error, nil if it has one or is the context's.
func classify(err error) error {
	for _, class := range []error{ErrInvalid, ErrUnknownKind, ErrForbidden, ErrConflict, ErrUnavailable, ErrForeign, ErrGuarded, ErrOtherCluster, ErrNotReady, context.Canceled, context.DeadlineExceeded} {
		if errors.Is(err, class) {
			return nil
		}
	}
	var status apierrors.APIStatus
	switch {
	case meta.IsNoMatchError(err):
		return ErrUnknownKind
	case isUnserved(err):
		return ErrUnknownKind
	case isUntyped(err), isUndeclared(err):
		return ErrInvalid
	case apierrors.IsUnauthorized(err), apierrors.IsForbidden(err) && !isNamespaceTerminating(err):
		return ErrForbidden
	case apierrors.IsConflict(err), apierrors.IsAlreadyExists(err), isNamespaceTerminating(err):
		return ErrConflict
	case apierrors.IsTimeout(err), apierrors.IsServerTimeout(err), apierrors.IsTooManyRequests(err),
		apierrors.IsServiceUnavailable(err), apierrors.IsInternalError(err), apierrors.IsUnexpectedServerError(err):
		return ErrUnavailable
	case errors.As(err, &status) && status.Status().Code >= 500:
		return ErrUnavailable
	case errors.As(err, &status):
		return ErrInvalid
	}
	return ErrUnavailable // no answer at all
}

// isUnserved reports a 404 that is about the resource and not about an object:
// the kind is no longer served, or not in this version.
func isUnserved(err error) bool {
	var status apierrors.APIStatus
	if !apierrors.IsNotFound(err) || !errors.As(err, &status) {
		return false
	}
	details := status.Status().Details
	return details == nil || details.Name == ""
}

// isUntyped reports the answer to an object that does not fit the schema of
// its kind, such as an unknown field, which comes as an internal error.
func isUntyped(err error) bool {
	return err != nil && strings.Contains(err.Error(), "failed to create typed patch object")
}

// deniedByRBAC reports that the identity may not do what was asked, as opposed
// to a refusal by admission, which has the same reason.
func deniedByRBAC(err error) bool { return denied.MatchString(err.Error()) }

var denied = regexp.MustCompile(`cannot \w+ resource "`)

// isMissingNamespace reports that the namespace of an object does not exist.
func isMissingNamespace(err error) bool {
	var status apierrors.APIStatus
	if !apierrors.IsNotFound(err) || !errors.As(err, &status) {
		return false
	}
	details := status.Status().Details
	return details != nil && details.Kind == "namespaces"
}

func isNamespaceTerminating(err error) bool {
	return apierrors.HasStatusCause(err, "NamespaceTerminating")
}

var fieldPath = regexp.MustCompile(`^\.?[A-Za-z0-9_.\-\[\]/]{1,253}:`)

// withoutValues keeps of an error about a Secret what cannot hold its values:
// the reason and the names of fields.
func withoutValues(err error) error {
	var status apierrors.APIStatus
	if !errors.As(err, &status) {
		return err // not from the API server: a network or context error
	}
	s := status.Status()
	var fields []string
	if s.Details != nil {
		for _, cause := range s.Details.Causes {
			fields = append(fields, cause.Field)
		}
	}
	if len(fields) == 0 {
		for part := range strings.FieldsSeq(s.Message) {
			if f := fieldPath.FindString(part); strings.HasPrefix(f, ".") {
				fields = append(fields, strings.TrimSuffix(f, ":"))
			}
		}
	}
	slices.Sort(fields)
	fields = slices.Compact(fields)
	text := fmt.Sprintf("the API server answered %d %s", s.Code, s.Reason)
	if len(fields) > 0 {
		text += " about " + strings.Join(fields, ", ")
	}
	return errors.New(text + " (its text is withheld because it may repeat secret values)")
}

// isGap reports an error after which a watch has to start from a new list.
func isGap(err error) bool { return apierrors.IsResourceExpired(err) || apierrors.IsGone(err) }

// isTransient reports an error that time may heal.
func isTransient(err error) bool {
	var netErr net.Error
	return errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) || errors.As(err, &netErr) ||
		errors.Is(classify(err), ErrUnavailable)
}
