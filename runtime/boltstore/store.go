package boltstore

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"iter"
	"os"
	"runtime/debug"
	"sync"
	"time"

	"go.etcd.io/bbolt"
	bolterrors "go.etcd.io/bbolt/errors"

	rt "github.com/gitopskit/gitopskit/runtime"
)

// Store is an rt.Store in a file. It must not be copied, and its fields not be changed, once it is in use.
type Store[K ~string] struct {
	// Path is the file; its directory must exist.
	Path string
	// Timeout is how long to wait for another process that has the file; 0 means 1 second.
	Timeout time.Duration
	// MaxSize bounds the file, in bytes, so that it cannot fill a disk that others need; 0 means 1 GiB.
	MaxSize int64

	mu sync.Mutex
	db *bbolt.DB // nil while closed
}

var _ rt.Store[string] = (*Store[string])(nil)

// Error is what the methods of [Store] return.
type Error struct {
	// Op is "open", "repair", "load", "save", "delete" or "close".
	Op string
	// Path is the file.
	Path string
	// Key is the key of a record that is damaged, "" if the error is not about one.
	Key string
	// Err is what went wrong.
	Err error
}

func (e *Error) Error() string {
	s := "boltstore: " + e.Op + " " + e.Path
	if e.Key != "" {
		s += fmt.Sprintf(": key %q", e.Key)
	}
	return s + ": " + e.Err.Error()
}

// Unwrap returns what went wrong.
func (e *Error) Unwrap() error { return e.Err }

// ErrDamaged is in the errors about records and files that are not what was written.
var ErrDamaged = errors.New("damaged")

// states is the only bucket; its name is the version of the format.
const states = "states.v1"

// maxRecord bounds a record when it is read; the loop's states are far below.
const maxRecord = 1 << 20

// Load yields the states, by key. Damaged records yield errors, and are deleted. When the file is damaged, it is moved
// aside, and one error tells so after what could be read.
func (s *Store[K]) Load(ctx context.Context) iter.Seq2[rt.Saved[K], error] {
	return func(yield func(rt.Saved[K], error) bool) {
		found, errs := s.load(ctx)
		for _, f := range found {
			if !yield(f, nil) {
				return
			}
		}
		for _, err := range errs {
			if !yield(rt.Saved[K]{}, err) {
				return
			}
		}
	}
}

func (s *Store[K]) load(ctx context.Context) (found []rt.Saved[K], errs []error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if err := s.open(); err != nil {
		errs = append(errs, err)
	}
	if s.db == nil {
		return nil, errs
	}
	var bad [][]byte
	err := guarded(func() error {
		return s.db.View(func(tx *bbolt.Tx) error {
			return tx.Bucket([]byte(states)).ForEach(func(k, v []byte) error {
				name := string(bytes.TrimPrefix(k, []byte(prefix)))
				state, err := decode(k, v)
				if err != nil {
					bad = append(bad, bytes.Clone(k))
					errs = append(errs, s.fail("load", name, err))
				} else {
					found = append(found, rt.Saved[K]{Key: K(name), State: state})
				}
				return ctx.Err()
			})
		})
	})
	if err != nil {
		return found, append(errs, s.fail("load", "", err))
	}
	if err := s.drop(bad); err != nil {
		errs = append(errs, err)
	}
	return found, errs
}

// Save keeps the states, all or none of them. Keys of more than 32 KB and states of more than 1 MiB are left out, as
// if they were new: they have a pass after a restart.
func (s *Store[K]) Save(ctx context.Context, saved []rt.Saved[K]) error {
	return s.update(ctx, "save", func(b *bbolt.Bucket) error {
		for _, r := range saved {
			k := raw(r.Key)
			v, ok := encode(k, r.State)
			if len(k) > bbolt.MaxKeySize {
				continue
			}
			if !ok {
				v = nil
			}
			if err := put(b, k, v); err != nil {
				return err
			}
		}
		return nil
	})
}

// Delete drops the states of the keys, of all or of none.
func (s *Store[K]) Delete(ctx context.Context, keys []K) error {
	names := make([][]byte, len(keys))
	for i, k := range keys {
		names[i] = raw(k)
	}
	return s.update(ctx, "delete", func(b *bbolt.Bucket) error { return remove(b, names) })
}

// prefix begins all keys in the file, where there is no empty one.
const prefix = "/"

func raw[K ~string](k K) []byte { return []byte(prefix + string(k)) }

// put replaces a value, or deletes it if v is nil.
func put(b *bbolt.Bucket, k, v []byte) error {
	if v == nil {
		return b.Delete(k)
	}
	return b.Put(k, v)
}

func remove(b *bbolt.Bucket, keys [][]byte) error {
	for _, k := range keys {
		if err := b.Delete(k); err != nil {
			return err
		}
	}
	return nil
}

func (s *Store[K]) update(ctx context.Context, op string, change func(*bbolt.Bucket) error) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if err := ctx.Err(); err != nil {
		return s.fail(op, "", err)
	}
	if err := s.open(); err != nil && s.db == nil {
		return err
	}
	err := guarded(func() error {
		return s.db.Update(func(tx *bbolt.Tx) error { return change(tx.Bucket([]byte(states))) })
	})
	switch {
	case errors.Is(err, ErrDamaged):
		return s.repair(err)
	case err != nil:
		return s.fail(op, "", err)
	}
	return nil
}

// drop deletes damaged records.
func (s *Store[K]) drop(keys [][]byte) error {
	if len(keys) == 0 {
		return nil
	}
	err := guarded(func() error {
		return s.db.Update(func(tx *bbolt.Tx) error { return remove(tx.Bucket([]byte(states)), keys) })
	})
	if err != nil {
		return s.fail("repair", "", err)
	}
	return nil
}

// Close closes the file; a later call opens it again.
func (s *Store[K]) Close() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.db == nil {
		return nil
	}
	db := s.db
	s.db = nil
	if err := db.Close(); err != nil {
		return s.fail("close", "", err)
	}
	return nil
}

func (s *Store[K]) fail(op, key string, err error) error {
	return &Error{Op: op, Path: s.Path, Key: key, Err: err}
}

// open opens the file. If that is damaged it begins a new one; the error tells so although there is a database then.
func (s *Store[K]) open() error {
	if s.db != nil {
		return nil
	}
	err := s.openFile()
	switch {
	case err == nil:
		return nil
	case errors.Is(err, ErrDamaged):
		return s.repair(err)
	}
	return s.fail("open", "", err)
}

// repair puts a new file in the place of one that is damaged, which is kept under another name.
func (s *Store[K]) repair(cause error) error {
	if s.db != nil {
		_ = guarded(s.db.Close)
		s.db = nil
	}
	if err := os.Rename(s.Path, s.Path+".damaged"); err != nil {
		return s.fail("repair", "", errors.Join(cause, err))
	}
	if err := s.openFile(); err != nil {
		return s.fail("repair", "", errors.Join(cause, err))
	}
	return s.fail("repair", "", fmt.Errorf("%w: moved to %s.damaged, begun anew", cause, s.Path))
}

func (s *Store[K]) openFile() error {
	timeout, size := s.Timeout, s.MaxSize
	if timeout == 0 {
		timeout = time.Second
	}
	if size == 0 {
		size = 1 << 30
	}
	if info, err := os.Stat(s.Path); err == nil && !info.Mode().IsRegular() {
		return fmt.Errorf("%s, want a file", info.Mode().Type())
	}
	var db *bbolt.DB
	err := guarded(func() (err error) {
		db, err = bbolt.Open(s.Path, 0o600, &bbolt.Options{
			Timeout: timeout, MaxSize: int(size), FreelistType: bbolt.FreelistMapType, NoStatistics: true,
		})
		return err
	})
	if err != nil {
		return s.judge(err)
	}
	if err := guarded(func() error { return check(db, s.Path) }); err != nil {
		_ = guarded(db.Close)
		return err
	}
	s.db = db
	return nil
}

// judge tells whether it is the content of the file for which it cannot be opened.
func (s *Store[K]) judge(err error) error {
	var path *fs.PathError
	if errors.Is(err, bolterrors.ErrTimeout) || errors.Is(err, ErrDamaged) || errors.As(err, &path) {
		return err
	}
	for _, kind := range []error{bolterrors.ErrInvalid, bolterrors.ErrVersionMismatch, bolterrors.ErrChecksum} {
		if errors.Is(err, kind) {
			return fmt.Errorf("%w: %w", ErrDamaged, err)
		}
	}
	if info, e := os.Stat(s.Path); e == nil && info.Size() > 0 && info.Size() < minSize() {
		return fmt.Errorf("%w: %w", ErrDamaged, err)
	}
	return err
}

// minSize is the size of a new file: two pages of headers, a list of free pages, and a leaf.
func minSize() int64 { return 4 * int64(os.Getpagesize()) }

// check reads all records and everything that leads to them, and makes the bucket.
func check(db *bbolt.DB, path string) error {
	err := db.View(func(tx *bbolt.Tx) error {
		if info, err := os.Stat(path); err != nil || info.Size() < tx.Size() {
			return fmt.Errorf("%w: the file is shorter than its %d bytes", ErrDamaged, tx.Size())
		}
		b := tx.Bucket([]byte(states))
		if b == nil {
			return nil
		}
		return b.ForEach(func(_, v []byte) error {
			sum(v)
			return nil
		})
	})
	if err != nil {
		return err
	}
	return db.Update(func(tx *bbolt.Tx) error {
		_, err := tx.CreateBucketIfNotExists([]byte(states))
		return err
	})
}

// guarded takes panics of the database, and faults where its file has been cut short, for a damaged file.
func guarded(f func() error) (err error) {
	defer debug.SetPanicOnFault(debug.SetPanicOnFault(true))
	defer func() {
		if v := recover(); v != nil {
			err = fmt.Errorf("%w: %v", ErrDamaged, v)
		}
	}()
	return f()
}
