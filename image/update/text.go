package update

import (
	"bytes"
	"regexp"
	"strings"
	"unicode/utf8"

	"go.yaml.in/yaml/v3"
)

// text finds the bytes of nodes.
type text struct {
	data  []byte
	lines []int // where each line starts
}

func newText(data []byte) text {
	t := text{data: data, lines: []int{0}}
	if bytes.HasPrefix(data, []byte("\ufeff")) {
		t.lines[0] = len("\ufeff")
	}
	for i := 0; i < len(data); {
		r, size := utf8.DecodeRune(data[i:])
		i += size
		switch {
		case r == '\r' && i < len(data) && data[i] == '\n':
		case r == '\n', r == '\r', r == '\u0085', r == '\u2028', r == '\u2029': // as YAML has it
			t.lines = append(t.lines, i)
		}
	}
	return t
}

// offset is where a node starts; columns are characters.
func (t text) offset(n *yaml.Node) (int, bool) {
	if n.Line < 1 || n.Line > len(t.lines) {
		return 0, false
	}
	at := t.lines[n.Line-1]
	for range n.Column - 1 {
		_, size := utf8.DecodeRune(t.data[at:])
		if size == 0 {
			return 0, false
		}
		at += size
	}
	return at, true
}

// extent is the bytes of a scalar, quotes included, or why there are none that
// can be replaced.
func (t text) extent(n *yaml.Node) (start, end int, reason Reason, detail string) {
	if n.Style&(yaml.LiteralStyle|yaml.FoldedStyle) != 0 {
		return 0, 0, MultiLine, "the value is a block of text: write it on one line"
	}
	at, ok := t.offset(n)
	if !ok {
		return 0, 0, Unsafe, "the value was not found"
	}
	at = t.afterProperties(at)
	rest := t.data[at:]
	var size int
	switch {
	case n.Style&yaml.DoubleQuotedStyle != 0:
		size = quoted(rest, '"')
	case n.Style&yaml.SingleQuotedStyle != 0:
		size = quoted(rest, '\'')
	case n.Value == "":
		return 0, 0, NoValue, "the value is empty: write any text, or quotes"
	case bytes.HasPrefix(rest, []byte(n.Value)):
		size = len(n.Value)
	default:
		return 0, 0, MultiLine, "the value has several lines: write it on one"
	}
	if size < 0 {
		return 0, 0, Unsafe, "the end of the value was not found"
	}
	if bytes.ContainsAny(rest[:size], "\r\n") {
		return 0, 0, MultiLine, "the value has several lines: write it on one"
	}
	return at, at + size, "", ""
}

// afterProperties is where a value starts that has an anchor or a tag.
func (t text) afterProperties(at int) int {
	for at < len(t.data) && (t.data[at] == '&' || t.data[at] == '!') {
		n := bytes.IndexAny(t.data[at:], " \t\r\n")
		if n < 0 {
			return at
		}
		at += n
		for at < len(t.data) && strings.IndexByte(" \t\r\n", t.data[at]) >= 0 {
			at++
		}
	}
	return at
}

// quoted is the length of a quoted scalar, or -1.
func quoted(s []byte, quote byte) int {
	if len(s) == 0 || s[0] != quote {
		return -1
	}
	for i := 1; i < len(s); i++ {
		switch {
		case quote == '"' && s[i] == '\\':
			i++
		case s[i] != quote:
		case quote == '\'' && i+1 < len(s) && s[i+1] == quote:
			i++
		default:
			return i + 1
		}
	}
	return -1
}

// notString are the forms that some version of YAML takes for a number, a time,
// a boolean or null: of integers, of fractions, and of base 60.
var notString = regexp.MustCompile(`^(?i:[-+]?(?:0b[01_]+|0o?[0-7_]+|0x[0-9a-f_]+|[0-9][0-9_]*)` +
	`|[-+]?(?:[0-9][0-9_]*)?\.?[0-9_]*(?:e[-+]?[0-9]+)?` +
	`|[-+]?[0-9][0-9_]*(?::[0-5]?[0-9])+(?:\.[0-9_]*)?` +
	`|[-+]?\.inf|\.nan|y|yes|n|no|on|off|true|false|null|~)$`)

// staysString says whether a value is the same string without quotes.
func staysString(value string) bool {
	if notString.MatchString(value) {
		return false
	}
	var n yaml.Node
	err := yaml.Unmarshal([]byte(value), &n)
	return err == nil && len(n.Content) == 1 && n.Content[0].Kind == yaml.ScalarNode && n.Content[0].Tag == "!!str" && n.Content[0].Value == value
}
