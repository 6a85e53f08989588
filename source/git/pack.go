package git

import (
	"bytes"
	"compress/flate"
	"compress/zlib"
	"context"
	"crypto/sha1" // the pack's trailer; objects are hashed with collision detection
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"hash"
	"io"
	"slices"
	"strconv"

	"github.com/pjbgf/sha1cd"

	"github.com/gitopskit/gitopskit/source"
)

// pack is a received pack: every object's place and name, all checked. Reading
// is safe for concurrent use.
type pack struct {
	data    *spool
	entries []entry // by offset
	byID    map[oid]int32
	bases   baseCache
}

// entry is one object of a pack.
type entry struct {
	id      oid
	kind    objKind
	base    int32 // the entry a delta applies to, or -1
	head    int64 // offset of the entry
	body    int64 // offset of its compressed bytes
	stored  int64 // inflated size of what is stored: the object or the delta
	size    int64 // size of the object
	chain   int   // deltas between this and a whole object
	refBase oid   // base of a REF_DELTA until it is known
}

type oid [20]byte

func (id oid) String() string { return hex.EncodeToString(id[:]) }

func parseOID(s string) (oid, bool) {
	var id oid
	if len(s) != 40 {
		return id, false
	}
	_, err := hex.Decode(id[:], []byte(s))
	return id, err == nil
}

type objKind uint8

// The numbers of Git's pack format.
const (
	kindCommit   objKind = 1
	kindTree     objKind = 2
	kindBlob     objKind = 3
	kindTag      objKind = 4
	kindOfsDelta objKind = 6
	kindRefDelta objKind = 7
)

func (k objKind) String() string {
	switch k {
	case kindCommit:
		return "commit"
	case kindTree:
		return "tree"
	case kindBlob:
		return "blob"
	case kindTag:
		return "tag"
	}
	return "object of kind " + strconv.Itoa(int(k))
}

// maxChain is the longest chain of deltas Git itself allows.
const maxChain = 4095

var errCorrupt = fmt.Errorf("%w: the pack is corrupt", source.ErrUnverified)

func corrupt(format string, args ...any) error {
	return fmt.Errorf("%w: %s", errCorrupt, fmt.Sprintf(format, args...))
}

// packLimits bound what one pack can cost.
type packLimits struct {
	object  int64 // bytes of one object
	total   int64 // bytes of all objects together
	objects int   // their number
}

// readPack reads a whole pack from r, which must end after it, stores it in
// data and checks everything: the trailer, and the hash of each object.
func readPack(ctx context.Context, r io.Reader, data *spool, limits packLimits) (*pack, error) {
	in := newPackStream(r, data)
	p := &pack{data: data, byID: map[oid]int32{}}
	x := &indexer{ctx: ctx, pack: p, in: in, limits: limits, sum: sha1cd.New().(sha1cd.CollisionResistantHash)} //nolint:forcetypeassert // documented by New
	if err := x.scan(); err != nil {
		return nil, err
	}
	if err := in.trailer(); err != nil {
		return nil, err
	}
	if err := x.resolve(); err != nil {
		return nil, err
	}
	return p, nil
}

// indexer turns the stream of a pack into its index.
type indexer struct {
	ctx     context.Context //nolint:containedctx // lives as long as one call
	pack    *pack
	in      *packStream
	limits  packLimits
	sum     sha1cd.CollisionResistantHash
	inflate io.ReadCloser
	total   int64
}

// scan reads the entries in order. Whole objects get their names at once.
func (x *indexer) scan() error {
	var head [12]byte
	if _, err := io.ReadFull(x.in, head[:]); err != nil {
		return eofIsUnexpected(err)
	}
	if version := binary.BigEndian.Uint32(head[4:]); string(head[:4]) != "PACK" || version != 2 && version != 3 {
		return corrupt("it starts with %q", head[:8])
	}
	n := binary.BigEndian.Uint32(head[8:])
	if uint64(n) > uint64(x.limits.objects) {
		return fmt.Errorf("%w: the pack has %d objects, more than %d", source.ErrLimit, n, x.limits.objects)
	}
	x.pack.entries = make([]entry, 0, min(n, 1<<16)) // the count is a claim until the objects arrive
	for i := range n {
		if i%256 == 0 {
			if err := x.ctx.Err(); err != nil {
				return err
			}
		}
		if err := x.entry(); err != nil {
			return err
		}
	}
	return nil
}

func (x *indexer) entry() error {
	e := entry{head: x.in.offset(), base: -1}
	if err := x.header(&e); err != nil {
		return eofIsUnexpected(err)
	}
	if e.stored > x.limits.object {
		return fmt.Errorf("%w: an object of %d bytes, the largest file may have %d", source.ErrLimit, e.stored, x.limits.object)
	}
	e.body = x.in.offset()
	if e.kind == kindOfsDelta || e.kind == kindRefDelta {
		if err := x.delta(&e); err != nil {
			return err
		}
		x.pack.entries = append(x.pack.entries, e)
		return nil
	}
	x.start(e.kind, e.stored)
	if err := x.body(x.sum, e.stored); err != nil {
		return err
	}
	e.size = e.stored
	x.pack.entries = append(x.pack.entries, e)
	return x.name(int32(len(x.pack.entries) - 1))
}

// header reads kind, size and base of an entry.
func (x *indexer) header(e *entry) error {
	c, err := x.in.ReadByte()
	if err != nil {
		return err
	}
	e.kind = objKind(c >> 4 & 7)
	size, shift := int64(c&15), uint(4)
	for c&0x80 != 0 {
		if c, err = x.in.ReadByte(); err != nil {
			return err
		}
		if shift > 55 {
			return corrupt("an object's size overflows")
		}
		size |= int64(c&0x7f) << shift
		shift += 7
	}
	e.stored = size
	switch e.kind {
	case kindCommit, kindTree, kindBlob, kindTag:
		return nil
	case kindRefDelta:
		_, err := io.ReadFull(x.in, e.refBase[:])
		return err
	case kindOfsDelta:
		return x.offsetBase(e)
	}
	return corrupt("unknown %v at offset %d", e.kind, e.head)
}

func (x *indexer) offsetBase(e *entry) error {
	var back int64
	for i := 0; ; i++ {
		c, err := x.in.ReadByte()
		if err != nil {
			return err
		}
		back = back<<7 | int64(c&0x7f)
		if c&0x80 == 0 {
			break
		}
		if back++; i > 7 {
			return corrupt("a delta's base offset overflows")
		}
	}
	at, ok := slices.BinarySearchFunc(x.pack.entries, e.head-back, func(e entry, off int64) int {
		return int(min(max(e.head-off, -1), 1))
	})
	if !ok {
		return corrupt("the delta at offset %d has no base", e.head)
	}
	e.base = int32(at)
	return nil
}

// delta reads over a delta and keeps the size of what it makes.
func (x *indexer) delta(e *entry) error {
	head := make(headWriter, 0, 20) // room for two sizes
	if err := x.body(&head, e.stored); err != nil {
		return err
	}
	_, rest, ok1 := deltaSize(head)
	size, _, ok2 := deltaSize(rest)
	if !ok1 || !ok2 {
		return corrupt("the delta at offset %d has no size", e.head)
	}
	if size > x.limits.object {
		return fmt.Errorf("%w: an object of %d bytes, the largest file may have %d", source.ErrLimit, size, x.limits.object)
	}
	e.size = size
	return nil
}

// body inflates exactly size bytes of the stream into w.
func (x *indexer) body(w io.Writer, size int64) error {
	if x.inflate == nil {
		z, err := zlib.NewReader(x.in)
		if err != nil {
			return inflateError(err)
		}
		x.inflate = z
	} else if err := x.inflate.(zlib.Resetter).Reset(x.in, nil); err != nil { //nolint:forcetypeassert // documented by NewReader
		return inflateError(err)
	}
	n, err := io.Copy(w, io.LimitReader(x.inflate, size+1))
	if err != nil {
		return inflateError(err)
	}
	if n != size {
		return corrupt("an object of %d bytes inflates to %d or more", size, n)
	}
	return nil
}

func (x *indexer) start(kind objKind, size int64) {
	x.sum.Reset()
	fmt.Fprintf(x.sum, "%s %d\x00", kind, size)
}

// name gives the entry whose bytes were hashed its object id.
func (x *indexer) name(at int32) error {
	e := &x.pack.entries[at]
	sum, collision := x.sum.CollisionResistantSum(nil)
	if collision {
		return corrupt("the %s %x is part of a SHA-1 collision attack", e.kind, sum)
	}
	if x.total += e.size; x.total > x.limits.total {
		return fmt.Errorf("%w: the objects have more than %d bytes", source.ErrLimit, x.limits.total)
	}
	e.id = oid(sum)
	x.pack.byID[e.id] = at
	return nil
}

// inflateError tells a connection that broke from bytes that are wrong.
func inflateError(err error) error {
	switch {
	case errors.Is(err, zlib.ErrChecksum), errors.Is(err, zlib.ErrDictionary), errors.Is(err, zlib.ErrHeader):
		return corrupt("%v", err)
	case errors.Is(err, io.EOF):
		return io.ErrUnexpectedEOF
	}
	var bad flate.CorruptInputError
	if errors.As(err, &bad) {
		return corrupt("%v", err)
	}
	return err
}

// headWriter keeps the first bytes that fit its capacity.
type headWriter []byte

func (w *headWriter) Write(p []byte) (int, error) {
	*w = append(*w, p[:min(len(p), cap(*w)-len(*w))]...)
	return len(p), nil
}

// packStream is the pack on its way in: buffered, hashed, stored.
type packStream struct {
	r      io.Reader
	store  io.Writer
	sum    hash.Hash
	buf    []byte
	pos    int // next byte to hand out
	hashed int // bytes of buf in the sum
	end    int
	start  int64 // offset of buf[0]
}

func newPackStream(r io.Reader, store io.Writer) *packStream {
	return &packStream{r: r, store: store, sum: sha1.New(), buf: make([]byte, 64<<10)}
}

func (s *packStream) offset() int64 { return s.start + int64(s.pos) }

func (s *packStream) fill() error {
	s.sum.Write(s.buf[s.hashed:s.pos])
	s.start += int64(s.pos)
	s.pos, s.hashed, s.end = 0, 0, 0
	for s.end == 0 {
		n, err := s.r.Read(s.buf)
		s.end = n
		if n == 0 && err != nil {
			return err
		}
	}
	_, err := s.store.Write(s.buf[:s.end])
	return err
}

func (s *packStream) ReadByte() (byte, error) {
	if s.pos == s.end {
		if err := s.fill(); err != nil {
			return 0, err
		}
	}
	c := s.buf[s.pos]
	s.pos++
	return c, nil
}

func (s *packStream) Read(p []byte) (int, error) {
	if s.pos == s.end {
		if err := s.fill(); err != nil {
			return 0, err
		}
	}
	n := copy(p, s.buf[s.pos:s.end])
	s.pos += n
	return n, nil
}

// trailer compares the pack's own checksum and wants the end of the stream.
func (s *packStream) trailer() error {
	s.sum.Write(s.buf[s.hashed:s.pos])
	s.hashed = s.pos
	want := s.sum.Sum(nil)
	got := make([]byte, len(want))
	if _, err := io.ReadFull(s, got); err != nil {
		return eofIsUnexpected(err)
	}
	if !bytes.Equal(got, want) {
		return corrupt("its checksum is %x, its content sums to %x", got, want)
	}
	if _, err := s.ReadByte(); !errors.Is(err, io.EOF) {
		if err == nil {
			return corrupt("bytes follow its end")
		}
		return err
	}
	return nil
}
