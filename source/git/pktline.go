package git

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"strings"

	"github.com/gitopskit/gitopskit/source"
)

// pktKind tells the packets of Git's pkt-line framing apart
// (gitprotocol-common and gitprotocol-v2 in Git's documentation).
type pktKind int

const (
	pktData        pktKind = iota
	pktFlush               // 0000: the end of a message
	pktDelim               // 0001: the end of a section
	pktResponseEnd         // 0002: the end of a stateless response
)

// maxPkt is the longest packet Git allows, with its four bytes of length.
const maxPkt = 65520

// pktReader reads packets. It never reads past the packet it returns but by
// its own buffer, which belongs to the whole conversation.
type pktReader struct {
	r   *bufio.Reader
	buf [maxPkt]byte
}

func newPktReader(r io.Reader) *pktReader { return &pktReader{r: bufio.NewReaderSize(r, 32<<10)} }

// next returns one packet; its payload is valid until the next call. The end
// of the input between packets is io.EOF, within one io.ErrUnexpectedEOF.
func (p *pktReader) next() (pktKind, []byte, error) {
	var head [4]byte
	if _, err := io.ReadFull(p.r, head[:]); err != nil {
		return 0, nil, err
	}
	n := 0
	for _, c := range head {
		d := strings.IndexByte("0123456789abcdef", c)
		if d < 0 {
			return 0, nil, fmt.Errorf("%w: not a packet length: %q", errProtocol, head[:])
		}
		n = n<<4 | d
	}
	switch {
	case n <= 2:
		return pktKind(n + 1), nil, nil
	case n == 3 || n > maxPkt:
		return 0, nil, fmt.Errorf("%w: packet length %q is out of range", errProtocol, head[:])
	}
	data := p.buf[:n-4]
	if _, err := io.ReadFull(p.r, data); err != nil {
		return 0, nil, eofIsUnexpected(err)
	}
	if msg, ok := bytes.CutPrefix(data, []byte("ERR ")); ok {
		return 0, nil, &remoteError{printable(msg)}
	}
	return pktData, data, nil
}

// line is next for packets of text: it returns a string without its newline.
func (p *pktReader) line() (pktKind, string, error) {
	kind, data, err := p.next()
	return kind, string(bytes.TrimSuffix(data, []byte("\n"))), err
}

// pktWriter collects a request.
type pktWriter struct{ bytes.Buffer }

func (w *pktWriter) line(format string, args ...any) {
	text := fmt.Sprintf(format, args...)
	fmt.Fprintf(w, "%04x%s\n", len(text)+5, text)
}

func (w *pktWriter) flush() { w.WriteString("0000") }
func (w *pktWriter) delim() { w.WriteString("0001") }

// errProtocol: the other side does not speak Git.
var errProtocol = fmt.Errorf("%w: not the Git protocol", source.ErrUnavailable)

// remoteError is a refusal in the words of the server.
type remoteError struct{ text string }

func (e *remoteError) Error() string { return "the server says: " + e.text }

func eofIsUnexpected(err error) error {
	if errors.Is(err, io.EOF) {
		return io.ErrUnexpectedEOF
	}
	return err
}

// printable makes text of a server fit for one line of an error.
func printable(text []byte) string {
	if len(text) > 300 {
		text = append(text[:300:300], "..."...)
	}
	s := strings.Map(func(r rune) rune {
		if r < ' ' || r == 0x7f || r == '\ufffd' {
			return ' '
		}
		return r
	}, strings.ToValidUTF8(string(text), " "))
	return strings.Join(strings.Fields(s), " ")
}
