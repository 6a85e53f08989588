package meter

import (
	"bufio"
	"fmt"
	"io"
	"strconv"
	"strings"
)

// maxBody bounds what is read of a metrics endpoint: a busy API server with
// many kinds has some ten MiB.
const maxBody = 256 << 20

// sample is one line of the text format of Prometheus.
type sample struct {
	name   string
	labels map[string]string
	value  float64
}

// scan reads the samples of some metrics from text and skips all other lines
// unread: an API server has ten thousands of them.
func scan(r io.Reader, use func(sample), names ...string) error {
	limited := &io.LimitedReader{R: r, N: maxBody}
	lines := bufio.NewScanner(limited)
	lines.Buffer(make([]byte, 0, 64<<10), 1<<20)
	for lines.Scan() {
		line := lines.Text()
		for _, name := range names {
			rest, ok := strings.CutPrefix(line, name)
			if !ok || rest == "" || rest[0] != '{' && rest[0] != ' ' && rest[0] != '\t' {
				continue
			}
			s, err := parse(name, rest)
			if err != nil {
				return fmt.Errorf("metrics: %w", err)
			}
			use(s)
			break
		}
	}
	if err := lines.Err(); err != nil {
		return fmt.Errorf("metrics: %w", err)
	}
	if limited.N <= 0 {
		return fmt.Errorf("metrics: more than %d MiB", maxBody>>20)
	}
	return nil
}

// parse reads what follows the name: labels, value, and a time that is ignored.
func parse(name, rest string) (sample, error) {
	s := sample{name: name, labels: map[string]string{}}
	if strings.HasPrefix(rest, "{") {
		var err error
		if rest, err = labels(rest[1:], s.labels); err != nil {
			return s, fmt.Errorf("%s: %w", name, err)
		}
	}
	fields := strings.Fields(rest)
	if len(fields) == 0 {
		return s, fmt.Errorf("%s: no value", name)
	}
	value, err := strconv.ParseFloat(fields[0], 64)
	if err != nil {
		return s, fmt.Errorf("%s: value: %w", name, err)
	}
	s.value = value
	return s, nil
}

// labels reads name="value" pairs up to the brace and returns what follows it.
func labels(text string, into map[string]string) (string, error) {
	for {
		text = strings.TrimLeft(text, " ,")
		if rest, end := strings.CutPrefix(text, "}"); end {
			return rest, nil
		}
		name, rest, ok := strings.Cut(text, "=")
		if !ok || !strings.HasPrefix(rest, `"`) {
			return "", fmt.Errorf("no label in %.40q", text)
		}
		value, rest, err := quoted(rest[1:])
		if err != nil {
			return "", err
		}
		into[strings.TrimSpace(name)] = value
		text = rest
	}
}

// quoted reads up to the closing quote.
func quoted(text string) (value, rest string, err error) {
	var out strings.Builder
	for i := 0; i < len(text); i++ {
		switch c := text[i]; c {
		case '"':
			return out.String(), text[i+1:], nil
		case '\\':
			i++
			if i == len(text) {
				break
			}
			if text[i] == 'n' {
				out.WriteByte('\n')
			} else {
				out.WriteByte(text[i])
			}
		default:
			out.WriteByte(c)
		}
	}
	return "", "", fmt.Errorf("no closing quote in %.40q", text)
}
