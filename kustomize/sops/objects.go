package sops

import (
	"encoding/base64"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
)

// Objects decrypts, in place, the values of Secrets that SOPS has encrypted on
// their own: each value of data that is an encrypted file, whose format
// follows the extension of its key.
//
// An object that is encrypted as a whole is [ErrEncrypted]: its file was not
// read through [Keys.FS]. With nil keys Objects only looks, and a value that
// is encrypted is [ErrEncrypted], too. Objects with the annotation
// [DecryptAnnotation]: disabled are left as they are. Every failure is reported.
func (k *Keys) Objects(objects []*unstructured.Unstructured) error {
	var failed []error
	for _, o := range objects {
		if optedOut(o) {
			continue
		}
		if mac, _, _ := unstructured.NestedString(o.Object, "sops", "mac"); mac != "" {
			failed = append(failed, &Error{describe(o), fmt.Errorf("%w: configure decryption with the key of its file", ErrEncrypted)})
			continue
		}
		if o.GetKind() == "Secret" && o.GetAPIVersion() == "v1" {
			failed = append(failed, k.values(o))
		}
	}
	return errors.Join(failed...)
}

// values decrypts the data of one Secret.
func (k *Keys) values(o *unstructured.Unstructured) error {
	data, _, _ := unstructured.NestedMap(o.Object, "data") // a copy
	var failed []error
	changed := false
	for _, key := range slices.Sorted(maps.Keys(data)) {
		text, _ := data[key].(string)
		raw, err := base64.StdEncoding.DecodeString(text)
		if err != nil || !Encrypted(raw) {
			continue
		}
		name := describe(o) + ": data." + key
		if k == nil {
			failed = append(failed, &Error{name, fmt.Errorf("%w: configure decryption with its key", ErrEncrypted)})
			continue
		}
		plain, err := k.Decrypt(key, raw)
		var of *Error
		if errors.As(err, &of) {
			failed = append(failed, &Error{name, of.Err})
			continue
		}
		data[key], changed = base64.StdEncoding.EncodeToString(plain), true
	}
	if changed {
		o.Object["data"] = data
	}
	return errors.Join(failed...)
}

func optedOut(o *unstructured.Unstructured) bool {
	return strings.EqualFold(o.GetAnnotations()[DecryptAnnotation], "disabled")
}

func describe(o *unstructured.Unstructured) string {
	name := o.GetName()
	if ns := o.GetNamespace(); ns != "" {
		name = ns + "/" + name
	}
	return o.GetKind() + " " + name
}
