package sops

import "errors"

var (
	// ErrNoKey: no identity of the keys opens the data key of the file.
	ErrNoKey = errors.New("no key opens it")
	// ErrDamaged: the file was changed after it was encrypted, or is not what
	// SOPS writes.
	ErrDamaged = errors.New("damaged or changed after encryption")
	// ErrEncrypted: an object is still encrypted.
	ErrEncrypted = errors.New("still encrypted")
	// ErrUnsupported: a kind of key that this package does not have.
	ErrUnsupported = errors.New("not supported")
	// ErrInvalid: the keys cannot be read.
	ErrInvalid = errors.New("invalid keys")
	// ErrLimit: an encrypted file is larger than [MaxFileBytes].
	ErrLimit = errors.New("limit exceeded")
)

// Error says what could not be decrypted, and why.
type Error struct {
	// Name is the file, the object, or the entry of the keys.
	Name string
	// Err is the cause.
	Err error
}

func (e *Error) Error() string { return "sops: " + e.Name + ": " + e.Err.Error() }

// Unwrap returns the cause.
func (e *Error) Unwrap() error { return e.Err }
