package boltstore

import (
	"encoding/binary"
	"errors"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// FuzzRecord reads anything as a record, with a wrong and with a right checksum. What is accepted is written and read
// again without a change.
func FuzzRecord(f *testing.F) {
	f.Add([]byte("/key"), []byte("\x00\x00\x00\x00{}"))
	f.Add([]byte("/"), []byte("    {\"passes\":-1,\"failures\":99999999999,\"due\":\"2026-01-02T03:04:05Z\"}"))
	f.Fuzz(func(t *testing.T, key, v []byte) {
		if _, err := decode(key, v); err != nil && !errors.Is(err, ErrDamaged) {
			t.Error(err)
		}
		if len(v) < 4 {
			return
		}
		binary.BigEndian.PutUint32(v, checksum(key, v[4:]))
		s, err := decode(key, v)
		if err != nil {
			return
		}
		again, ok := encode(key, s)
		if !ok {
			return
		}
		back, err := decode(key, again)
		if err != nil {
			t.Fatal(err)
		}
		if s.Passes != back.Passes || s.Failures != back.Failures || s.Outcome != back.Outcome || s.Ready != back.Ready {
			t.Errorf("got %+v, want %+v", back, s)
		}
		if s.Due.Year() > 1 && s.Due.Year() < 9998 && !cmp.Equal(s.Due, back.Due) {
			t.Errorf("due %v, then %v", s.Due, back.Due)
		}
	})
}
