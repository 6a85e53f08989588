package boltstore

import (
	"encoding/binary"
	"encoding/json"
	"fmt"
	"hash/crc32"
	"math"
	"time"

	rt "github.com/gitopskit/gitopskit/runtime"
)

// record is a state in the file: 4 bytes of checksum over the key and what follows, then JSON.
type record struct {
	Phase       uint8     `json:"phase,omitempty"`
	Outcome     uint8     `json:"outcome,omitempty"`
	Ready       bool      `json:"ready,omitempty"`
	Version     string    `json:"version,omitempty"`
	Revision    string    `json:"revision,omitempty"`
	Token       string    `json:"token,omitempty"`
	Message     string    `json:"message,omitempty"`
	Failures    int       `json:"failures,omitempty"`
	Passes      int       `json:"passes,omitempty"`
	Started     time.Time `json:"started,omitzero"`
	Finished    time.Time `json:"finished,omitzero"`
	LastSuccess time.Time `json:"lastSuccess,omitzero"`
	Due         time.Time `json:"due,omitzero"`
}

// maxMessage bounds the text of an error that is kept.
const maxMessage = 32 << 10

// encode reports false for a state that is too large.
func encode(key []byte, s rt.State) ([]byte, bool) {
	v, err := json.Marshal(record{
		Phase: uint8(s.Phase), Outcome: uint8(s.Outcome), Ready: s.Ready,
		Version: s.Version, Revision: s.Revision, Token: s.Token, Message: s.Message[:min(len(s.Message), maxMessage)],
		Failures: s.Failures, Passes: s.Passes,
		Started: year(s.Started), Finished: year(s.Finished), LastSuccess: year(s.LastSuccess), Due: year(s.Due),
	})
	if err != nil || len(v) > maxRecord-4 {
		return nil, false
	}
	return append(binary.BigEndian.AppendUint32(nil, checksum(key, v)), v...), true
}

// year makes a time one that can be written: years have four digits there.
func year(t time.Time) time.Time {
	if t.IsZero() || t.Year() < 1 || t.Year() > 9998 {
		return time.Time{}
	}
	return t.UTC()
}

func decode(key, v []byte) (rt.State, error) {
	if len(v) < 4 || len(v) > maxRecord {
		return rt.State{}, fmt.Errorf("%w: a record of %d bytes", ErrDamaged, len(v))
	}
	if binary.BigEndian.Uint32(v) != checksum(key, v[4:]) {
		return rt.State{}, fmt.Errorf("%w: wrong checksum", ErrDamaged)
	}
	var r record
	if err := json.Unmarshal(v[4:], &r); err != nil {
		return rt.State{}, fmt.Errorf("%w: %w", ErrDamaged, err)
	}
	return rt.State{
		Phase: rt.Phase(r.Phase), Outcome: rt.Outcome(r.Outcome), Ready: r.Ready,
		Version: r.Version, Revision: r.Revision, Token: r.Token, Message: r.Message,
		Failures: bounded(r.Failures), Passes: bounded(r.Passes),
		Started: r.Started, Finished: r.Finished, LastSuccess: r.LastSuccess, Due: r.Due,
	}, nil
}

func bounded(n int) int { return min(max(n, 0), math.MaxInt32) }

func checksum(key, v []byte) uint32 { return crc32.Update(sum(key), table(), v) }

func sum(v []byte) uint32 { return crc32.Checksum(v, table()) }

// table is that of Castagnoli, for which processors have an instruction.
func table() *crc32.Table { return crc32.MakeTable(crc32.Castagnoli) }
