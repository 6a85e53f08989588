package git

import (
	"bytes"
	"compress/zlib"
	"context"
	"crypto/sha1"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"testing"

	"github.com/gitopskit/gitopskit/source"
)

// packer makes packs, also ones that no Git would make.
type packer struct {
	bytes.Buffer
}

func newPacker(count int) *packer {
	p := &packer{}
	p.WriteString("PACK")
	_ = binary.Write(p, binary.BigEndian, [2]uint32{2, uint32(count)})
	return p
}

// add adds an entry and returns its offset.
func (p *packer) add(kind objKind, size int, base, data []byte) int {
	at := p.Len()
	c := byte(kind)<<4 | byte(size&15)
	for size >>= 4; size > 0; size >>= 7 {
		p.WriteByte(c | 0x80)
		c = byte(size & 0x7f)
	}
	p.WriteByte(c)
	p.Write(base)
	z := zlib.NewWriter(p)
	_, _ = z.Write(data)
	_ = z.Close()
	return at
}

func (p *packer) finish() []byte {
	sum := sha1.Sum(p.Bytes())
	p.Write(sum[:])
	return p.Bytes()
}

var smallLimits = packLimits{object: 1 << 16, total: 1 << 18, objects: 100}

func parse(t testing.TB, data []byte, memory int) (*pack, error) {
	t.Helper()
	s := &spool{dir: t.TempDir(), memory: memory}
	p, err := readPack(context.Background(), bytes.NewReader(data), s, smallLimits)
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
		if left, err := os.ReadDir(s.dir); err != nil || len(left) > 0 {
			t.Errorf("left behind: %v, %v", left, err)
		}
	})
	return p, err
}

// copyAll is a delta that copies n bytes of a base of n bytes and adds a letter.
func copyAll(n int, letter byte) []byte {
	return []byte{byte(n), byte(n + 1), 0x80 | 0x10, byte(n), 1, letter}
}

func chainPack() []byte {
	p := newPacker(4)
	first := p.add(kindBlob, 5, nil, []byte("hello"))
	second := p.Len()
	p.add(kindOfsDelta, 6, []byte{byte(second - first)}, copyAll(5, '1'))
	id := sha1.Sum([]byte("blob 6\x00hello1"))
	p.add(kindRefDelta, 6, id[:], copyAll(6, '2')) // on a delta, by name
	third := p.Len()
	p.add(kindOfsDelta, 6, []byte{byte(third - first)}, copyAll(5, '3'))
	return p.finish()
}

func TestPackDeltas(t *testing.T) {
	for _, memory := range []int{1 << 20, 10} { // in memory, and in a file
		p, err := parse(t, chainPack(), memory)
		if err != nil {
			t.Fatal(err)
		}
		for _, want := range []string{"hello", "hello1", "hello12", "hello3"} {
			sum := sha1.Sum([]byte(fmt.Sprintf("blob %d\x00%s", len(want), want)))
			at, ok := p.byID[oid(sum)]
			if !ok {
				t.Errorf("%s is missing", want)
				continue
			}
			for range 2 { // from the pack, and from the cache of bases
				if got, err := p.object(at); err != nil || string(got) != want || p.entries[at].size != int64(len(want)) {
					t.Errorf("got %q, %v; want %q", got, err, want)
				}
			}
		}
	}
}

func TestPackSpoolWithoutDirectory(t *testing.T) {
	s := &spool{dir: t.TempDir() + "/gone", memory: 10}
	if _, err := readPack(t.Context(), bytes.NewReader(chainPack()), s, smallLimits); err == nil || !strings.Contains(err.Error(), "spool the pack") {
		t.Errorf("got %v", err)
	}
}

func TestPackRefuses(t *testing.T) {
	huge := make([]byte, 1<<17)
	for _, test := range []struct {
		name string
		make func() []byte
		want error
	}{
		{"empty", func() []byte { return nil }, nil},
		{"not a pack", func() []byte { return []byte("JUNK00000000") }, errCorrupt},
		{"version", func() []byte { return []byte("PACK\x00\x00\x00\x09\x00\x00\x00\x00") }, errCorrupt},
		{"count", func() []byte { return newPacker(1 << 30).finish() }, source.ErrLimit},
		{"missing objects", func() []byte { return newPacker(1).finish() }, nil},
		{"kind", func() []byte { p := newPacker(1); p.add(5, 1, nil, []byte("x")); return p.finish() }, errCorrupt},
		{"more than it says", func() []byte { p := newPacker(1); p.add(kindBlob, 1, nil, []byte("xyz")); return p.finish() }, errCorrupt},
		{"less than it says", func() []byte { p := newPacker(1); p.add(kindBlob, 9, nil, []byte("xyz")); return p.finish() }, errCorrupt},
		{"large object", func() []byte { p := newPacker(1); p.add(kindBlob, len(huge), nil, huge); return p.finish() }, source.ErrLimit},
		{"bomb", func() []byte { p := newPacker(1); p.add(kindBlob, 10, nil, huge); return p.finish() }, errCorrupt},
		{"total", func() []byte {
			p := newPacker(9)
			for range 9 {
				p.add(kindBlob, 1<<15, nil, huge[:1<<15])
			}
			return p.finish()
		}, source.ErrLimit},
		{"thin", func() []byte {
			p := newPacker(1)
			p.add(kindRefDelta, 6, make([]byte, 20), copyAll(5, 'x'))
			return p.finish()
		}, errCorrupt},
		{"offset outside", func() []byte {
			p := newPacker(1)
			p.add(kindOfsDelta, 6, []byte{99}, copyAll(5, 'x'))
			return p.finish()
		}, errCorrupt},
		{"offset to itself", func() []byte {
			p := newPacker(1)
			p.add(kindOfsDelta, 6, []byte{0}, copyAll(5, 'x'))
			return p.finish()
		}, errCorrupt},
		{"large delta", func() []byte {
			p := newPacker(2)
			at := p.add(kindBlob, 5, nil, []byte("hello"))
			p.add(kindOfsDelta, 6, []byte{byte(p.Len() - at)}, []byte{5, 0xff, 0xff, 0xff, 0x7f, 0})
			return p.finish()
		}, source.ErrLimit},
		{"delta of another base", func() []byte { return deltaPack([]byte{6, 7, 0x90, 6, 1, 'x'}) }, errCorrupt},
		{"delta copies from outside", func() []byte { return deltaPack([]byte{5, 6, 0x91, 4, 5, 1, 'x'}) }, errCorrupt},
		{"delta makes more", func() []byte { return deltaPack([]byte{5, 2, 0x90, 5, 1, 'x'}) }, errCorrupt},
		{"delta makes less", func() []byte { return deltaPack([]byte{5, 20, 0x90, 5, 1, 'x'}) }, errCorrupt},
		{"delta instruction zero", func() []byte { return deltaPack([]byte{5, 1, 0, 'x'}) }, errCorrupt},
		{"delta cut", func() []byte { return deltaPack([]byte{5, 9, 9, 'x'}) }, errCorrupt},
		{"delta without size", func() []byte { return deltaPack([]byte{5}) }, errCorrupt},
		{"trailer", func() []byte { d := chainPack(); d[len(d)-1]++; return d }, errCorrupt},
		{"bytes after the end", func() []byte { return append(chainPack(), 'x') }, errCorrupt},
	} {
		_, err := parse(t, test.make(), 1<<20)
		if err == nil || test.want != nil && !errors.Is(err, test.want) {
			t.Errorf("%s: got %v, want %v", test.name, err, test.want)
		}
	}
	for i, good := 0, chainPack(); i < len(good); i++ {
		if _, err := parse(t, good[:i], 1<<20); err == nil {
			t.Errorf("the first %d of %d bytes are a pack", i, len(good))
		}
		bad := bytes.Clone(good)
		bad[i] ^= 0xff
		if _, err := parse(t, bad, 1<<20); err == nil {
			t.Errorf("byte %d may be anything", i)
		}
	}
}

func deltaPack(delta []byte) []byte {
	p := newPacker(2)
	at := p.add(kindBlob, 5, nil, []byte("hello"))
	p.add(kindOfsDelta, len(delta), []byte{byte(p.Len() - at)}, delta)
	return p.finish()
}

// A pack in which each delta builds on the one before must not need memory or
// time for more than one object at a time.
func TestPackLongChain(t *testing.T) {
	const n = 90
	p := newPacker(n)
	last := p.add(kindBlob, 5, nil, []byte("hello"))
	for i := 1; i < n; i++ {
		at := p.Len()
		p.add(kindOfsDelta, 6, []byte{byte(at - last)}, copyAll(4+i, 'x'))
		last = at
	}
	parsed, err := parse(t, p.finish(), 1<<20)
	if err != nil {
		t.Fatal(err)
	}
	if got, err := parsed.object(n - 1); err != nil || string(got) != "hello"+strings.Repeat("x", n-1) {
		t.Errorf("got %q, %v", got, err)
	}
}

func FuzzPack(f *testing.F) {
	f.Add(chainPack())
	f.Add(newPacker(0).finish())
	f.Fuzz(func(t *testing.T, data []byte) {
		p, err := readPack(t.Context(), bytes.NewReader(data), &spool{memory: 1 << 24}, smallLimits)
		if err != nil {
			return
		}
		for i := range p.entries {
			if got, err := p.object(int32(i)); err != nil || int64(len(got)) != p.entries[i].size {
				t.Errorf("object %d: %d bytes, %v", i, len(got), err)
			}
		}
	})
}

// replies is a server that says the same whatever it is asked.
type replies struct{ first, then []byte }

func (r replies) advertisement(context.Context) (io.Reader, error) {
	return bytes.NewReader(r.first), nil
}
func (r replies) request(context.Context, []byte) (io.Reader, error) {
	return bytes.NewReader(r.then), nil
}
func (replies) Close() error { return nil }

func FuzzProtocol(f *testing.F) {
	const id = "5394cb7f48332b2de7c17dd8b8384bbc84b7e738"
	v2 := "000eversion 2\n000cls-refs\n0012fetch=shallow\n0000"
	f.Add([]byte(v2), []byte("0049"+id+" HEAD symref-target:refs/heads\n0000"))
	f.Add([]byte(v2), []byte("000dpackfile\n0005\x010000"))
	f.Add([]byte("001e# service=git-upload-pack\n00000045"+id+" HEAD\x00side-band-64k symref\n0000"), []byte("0008NAK\n0005\x010000"))
	f.Fuzz(func(t *testing.T, first, then []byte) {
		s, err := openSession(t.Context(), replies{first, then}, 1<<20)
		if err != nil {
			return
		}
		_, _ = s.list(t.Context(), "refs/", "HEAD")
		if r, err := s.fetch(t.Context(), want{ids: []oid{{}}, depth: 1}); err == nil {
			_, _ = readPack(t.Context(), r, &spool{memory: 1 << 20}, smallLimits)
		}
	})
}

func FuzzObjects(f *testing.F) {
	f.Add([]byte("tree 5394cb7f48332b2de7c17dd8b8384bbc84b7e738\nauthor A <a@b> 1 +0000\ncommitter A <a@b> 1 +0000\n\nsubject\n"))
	f.Add([]byte("100644 a\x0012345678901234567890"))
	f.Add([]byte("object 5394cb7f48332b2de7c17dd8b8384bbc84b7e738\ntype commit\ntag v1\ntagger A <a@b> 1 +0000\n\nsubject\n"))
	f.Add([]byte("[example.com]:22 ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIE7tkTMpKrRsqOH4tGzYwJZp4TsMlqR5A8bDkWQzCnNn\n"))
	f.Fuzz(func(t *testing.T, data []byte) {
		if c, err := parseCommit(data); err == nil {
			c.metadata(oid{})
		}
		_, _ = parseTag(data)
		if entries, err := parseTree(data); err == nil {
			for _, e := range entries {
				unsafeName(e.name)
			}
		}
		if known, err := parseKnownHosts(data); err == nil {
			known.algorithms("example.com:22")
		}
	})
}

// CVE-2026-45022: an object that two readers could understand differently is refused.
func TestParseCommitRefuses(t *testing.T) {
	const tree = "tree 5394cb7f48332b2de7c17dd8b8384bbc84b7e738\n"
	const people = "author A <a@b> 1 +0000\ncommitter A <a@b> 1 +0000\n"
	if _, err := parseCommit([]byte(tree + people + "gpgsig -----BEGIN\n x\n\nsubject")); err != nil {
		t.Error(err)
	}
	for name, text := range map[string]string{
		"no tree": people + "\n", "second tree": tree + tree + people + "\n", "tree later": tree + people + tree + "\n", "garbage first": "x y\n" + tree + people + "\n",
		"short hash": "tree 5394\n" + people + "\n", "parent later": tree + people + "parent 5394cb7f48332b2de7c17dd8b8384bbc84b7e738\n\n",
		"no author": tree + "committer A <a@b> 1 +0000\n\n", "second author": tree + people + "author A <a@b> 1 +0000\n\n", "empty": "",
	} {
		if c, err := parseCommit([]byte(text)); !errors.Is(err, errCorrupt) {
			t.Errorf("%s: got %+v, %v", name, c, err)
		}
	}
}

func TestUnsafeName(t *testing.T) {
	for _, name := range []string{"", ".", "..", "a/b", "a\x00b", ".git", "\\", "\xff"} {
		if unsafeName(name) == "" {
			t.Errorf("%q is safe", name)
		}
	}
}

func TestWildcard(t *testing.T) {
	for pattern, names := range map[string]map[string]bool{
		"*.example.com": {"a.example.com": true, "a.b.example.com": true, "example.com": false},
		"?.x":           {"a.x": true, "ab.x": false},
		"*":             {"": true, "a": true},
		"a*b*c":         {"abc": true, "aXbYbZc": true, "ac": false, "abcd": false},
		"":              {"": true, "a": false},
	} {
		for name, want := range names {
			if got := wildcard(pattern, name); got != want {
				t.Errorf("wildcard(%q, %q) = %v", pattern, name, got)
			}
		}
	}
}
