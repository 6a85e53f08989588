package helmrepo

import (
	"bufio"
	"bytes"
	"io"
	"strings"
)

// sliced is what slice found out about an index.
type sliced struct {
	// known says that the index has the layout that Helm writes, so that the
	// rest can be relied on.
	known bool
	// version says that there is an apiVersion.
	version bool
	// text is the entry of the chart, nil if there is none.
	text []byte
}

// maxLine bounds one line of an index that is sliced.
const maxLine = 1 << 20

// slice cuts the entry of one chart out of an index, line by line: an index of
// many megabytes is mostly about other charts, and parsing YAML takes many times
// its size. It knows the layout that Helm and everybody else writes, block
// style with entries at the outermost level, and says so when it sees another.
func slice(r io.Reader, name string) sliced {
	s := &slicer{name: name}
	in := bufio.NewScanner(r)
	in.Buffer(make([]byte, 0, 64<<10), maxLine)
	for in.Scan() {
		if !s.line(in.Bytes()) {
			return sliced{}
		}
	}
	if in.Err() != nil || !s.entries {
		return sliced{}
	}
	return sliced{known: true, version: s.version, text: s.text}
}

type slicer struct {
	name    string
	version bool
	entries bool // "entries:" was there
	inside  bool // and what follows belongs to it
	indent  int  // of the names of charts; zero before the first
	ours    bool // the last name was the one we look for
	text    []byte
}

// line looks at one line, and says whether it is one of the layout.
func (s *slicer) line(line []byte) bool {
	line = bytes.TrimSuffix(line, []byte("\r"))
	content := bytes.TrimLeft(line, " ")
	indent := len(line) - len(content)
	switch {
	case bytes.ContainsAny(content, "\r\u0085\u2028\u2029"):
		return false // to YAML these end a line
	case len(content) == 0 || content[0] == '#':
		s.keep(line)
		return true
	case content[0] == '\t':
		return false
	case indent == 0:
		return s.outermost(content)
	case !s.inside:
		return true // part of something else
	case s.indent == 0:
		s.indent = indent
	case indent < s.indent:
		return false
	}
	if indent == s.indent && content[0] != '-' {
		if s.ours = false; !s.chart(content) {
			return false
		}
	}
	s.keep(line)
	return true
}

func (s *slicer) keep(line []byte) {
	if s.ours && s.inside {
		s.text = append(append(s.text, line...), '\n')
	}
}

// outermost looks at a line without indentation.
func (s *slicer) outermost(content []byte) bool {
	if string(content) == "---" && !s.entries && !s.version {
		return true
	}
	key, value, ok := cutKey(content)
	s.inside, s.ours = false, false
	switch {
	case !ok:
		return false
	case key == "apiVersion":
		s.version = value != "" && value != `""` && value != "''" && value != "null" && value != "~"
	case key == "entries":
		if value != "" || s.entries {
			return false
		}
		s.entries, s.inside = true, true
	case strings.HasPrefix(value, "|") || strings.HasPrefix(value, ">"):
		return false
	}
	return true
}

// chart looks at the name of a chart.
func (s *slicer) chart(content []byte) bool {
	key, value, ok := cutKey(content)
	if !ok || value != "" && value != "[]" && value != "null" {
		return false
	}
	if key == s.name {
		if s.text != nil {
			return false // it is there twice
		}
		s.ours, s.text = true, []byte{}
	}
	return true
}

// cutKey splits "key: value". Quotes may be around keys, without escapes.
func cutKey(line []byte) (key, value string, ok bool) {
	text := strings.TrimRight(string(line), " \t")
	if quote := text[0]; quote == '"' || quote == '\'' {
		end := strings.IndexByte(text[1:], quote)
		if end < 0 || strings.ContainsRune(text[:end+1], '\\') {
			return "", "", false
		}
		key, text = text[1:end+1], text[end+2:]
		if !strings.HasPrefix(text, ":") {
			return "", "", false
		}
		text = text[1:]
	} else {
		end := strings.IndexByte(text, ':')
		if end <= 0 || strings.Trim(text[:end], "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789._-/") != "" || text[0] == '-' {
			return "", "", false
		}
		key, text = text[:end], text[end+1:]
	}
	if text != "" && text[0] != ' ' {
		return "", "", false
	}
	value = strings.TrimSpace(text)
	if strings.HasPrefix(value, "#") {
		value = ""
	}
	return key, value, true
}
