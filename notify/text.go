package notify

import (
	"maps"
	"slices"
	"strings"
	"unicode"
)

// title names the object of an event as Flux does: the kind in lower case, the name, and the namespace.
func title(e Event) string {
	o := e.InvolvedObject
	text := strings.ToLower(o.Kind) + "/" + o.Name
	if o.Namespace != "" {
		text += "." + o.Namespace
	}
	return text
}

// field is a name and a value for people.
type field struct{ name, value string }

// fields returns the metadata of an event by name, the summary first.
func fields(e Event) []field {
	var list []field
	if summary, ok := e.Metadata["summary"]; ok {
		list = append(list, field{"summary", summary})
	}
	for _, name := range slices.Sorted(maps.Keys(e.Metadata)) {
		if name != "summary" {
			list = append(list, field{name, e.Metadata[name]})
		}
	}
	return list
}

// fieldsWithin returns as many fields as the limits of a destination allow: their number, the length of a value, and
// of all together, in characters.
func fieldsWithin(e Event, count, value, total int) []field {
	var list []field
	for _, f := range fields(e) {
		f.name, f.value = truncate(f.name, 256), truncate(f.value, value)
		total -= len(f.name) + len(f.value)
		if len(list) == count || total < 0 {
			break
		}
		list = append(list, f)
	}
	return list
}

const truncated = " (truncated)"

// truncate cuts a text that is longer than limit characters, and says so at its end.
func truncate(s string, limit int) string {
	if len(s) <= limit {
		return s
	}
	n, cut := 0, 0
	for i := range s {
		if n == limit-len(truncated) {
			cut = i
		}
		if n == limit {
			return s[:cut] + truncated
		}
		n++
	}
	return s
}

// firstLine returns a text up to the end of its first line.
func firstLine(s string) string {
	line, _, _ := strings.Cut(s, "\n")
	return line
}

// words takes a reason such as ReconciliationSucceeded apart, in lower case.
func words(reason string) string {
	var b strings.Builder
	runes := []rune(reason)
	for i, r := range runes {
		starts := unicode.IsUpper(r) && i > 0 &&
			(!unicode.IsUpper(runes[i-1]) || i+1 < len(runes) && unicode.IsLower(runes[i+1]))
		if starts {
			b.WriteByte(' ')
		}
		b.WriteRune(unicode.ToLower(r))
	}
	return b.String()
}

// progressing is the reason of events that tell of a step and not of a result.
const progressing = "Progressing"
