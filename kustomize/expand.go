package kustomize

import (
	"errors"
	"fmt"
	"path"
	"slices"
	"strconv"
	"strings"
	"unicode"
	"unicode/utf8"
)

// ErrUnset: an expression needs a variable that is not set.
var ErrUnset = errors.New("variable is not set")

// Bounds of Expand.
const (
	maxExpanded = 16 << 20 // bytes of a result
	maxNesting  = 64       // expressions inside one another
)

// Expand replaces the expressions of text that begin with ${ by values of
// variables, in the language of Flux, which is close to that of bash:
//
//	${v}                            the value
//	${#v}                           its length in bytes
//	${v^} ${v^^} ${v,} ${v,,}       first or all letters in upper or lower case
//	${v:pos} ${v:pos:len}           part of it, in bytes; negative numbers count from the end
//	${v=d} ${v:=d} ${v:-d} ${v:+d}  the value, or d where it is empty or not set
//	${v:?text}                      the value; an error where v is not set, text where it is empty
//	${v/a/b} ${v//a/b}              the value with the first or every a replaced by b
//	${v/#a/b} ${v/%a/b}             the value with a replaced by b at its begin or end
//	${v#p} ${v##p} ${v%p} ${v%%p}   the value without the shortest or longest match of glob p at its begin or end
//
// d, a, b and p may hold expressions. $${v} stands for the text ${v}, and a $
// before anything but { is left alone. Names are letters, digits and _.
//
// lookup returns the value of a variable and whether it is set. An expression
// whose variable is not set is [ErrUnset], unless it gives a default. Anything
// that is not in the language is [ErrInvalid]; more than 16 MiB of result or
// 64 expressions inside one another is [ErrLimit]. Errors name variables, never values.
func Expand(text string, lookup func(name string) (value string, set bool)) (string, error) {
	e := &expander{rest: text, lookup: lookup}
	var out strings.Builder
	for {
		i := strings.IndexByte(e.rest, '$')
		if i < 0 {
			break
		}
		out.WriteString(e.rest[:i])
		e.rest = e.rest[i:]
		switch {
		case e.skip("$$"):
			out.WriteByte('$')
		case e.skip("${"):
			v, err := e.expression()
			if err != nil {
				return "", err
			}
			out.WriteString(v)
		default:
			e.skip("$")
			out.WriteByte('$')
		}
		if out.Len()+len(e.rest) > maxExpanded {
			return "", tooLarge()
		}
	}
	out.WriteString(e.rest)
	return out.String(), nil
}

// An expander reads an expression and evaluates it at the same time.
type expander struct {
	rest   string // what is not read yet
	lookup func(string) (string, bool)
	depth  int
}

// skip reads prefix if it comes next.
func (e *expander) skip(prefix string) bool {
	rest, ok := strings.CutPrefix(e.rest, prefix)
	e.rest = rest
	return ok
}

// expression evaluates what follows ${, up to and with its }.
func (e *expander) expression() (string, error) {
	if e.depth++; e.depth > maxNesting {
		return "", fmt.Errorf("%w: more than %d expressions inside one another", ErrLimit, maxNesting)
	}
	defer func() { e.depth-- }()
	if e.skip("#") {
		return e.length()
	}
	name := e.name()
	if name == "" {
		return "", fmt.Errorf("%w: an expression has no variable name: write $${ for the text ${", ErrInvalid)
	}
	v, set := e.lookup(name)
	op := e.operator()
	if op == "" && !strings.HasPrefix(e.rest, "}") {
		return "", unclosed(name)
	}
	if !set && !givesDefault(op) {
		return "", unset(name)
	}
	out, err := e.apply(op, v, set, name)
	if err != nil {
		return "", err
	}
	if !e.skip("}") {
		return "", unclosed(name + op)
	}
	return out, nil
}

func unclosed(begin string) error {
	return fmt.Errorf("%w: ${%s is not closed by }, or uses an operator that does not exist", ErrInvalid, begin)
}

func unset(name string) error { return fmt.Errorf("%w: %q", ErrUnset, name) }

// length evaluates ${#name}.
func (e *expander) length() (string, error) {
	name := e.name()
	if name == "" || !e.skip("}") {
		return "", fmt.Errorf("%w: ${#%s needs a variable name and }", ErrInvalid, name)
	}
	v, set := e.lookup(name)
	if !set {
		return "", unset(name)
	}
	return strconv.Itoa(len(v)), nil
}

func (e *expander) name() string {
	end := strings.IndexFunc(e.rest, func(r rune) bool { return r != '_' && !unicode.IsLetter(r) && !unicode.IsDigit(r) })
	if end < 0 {
		end = len(e.rest)
	}
	name := e.rest[:end]
	e.rest = e.rest[end:]
	return name
}

// operators, longer ones first.
func operators() []string {
	return []string{
		":=", ":-", ":+", ":?", ":", "=", "^^", "^", ",,", ",",
		"//", "/#", "/%", "/", "##", "#", "%%", "%",
	}
}

func (e *expander) operator() string {
	for _, op := range operators() {
		if e.skip(op) {
			return op
		}
	}
	return ""
}

func givesDefault(op string) bool {
	return op == "=" || op == ":=" || op == ":-" || op == ":+" || op == ":?"
}

// apply reads the arguments of op and returns its result for the value v.
func (e *expander) apply(op, v string, set bool, name string) (string, error) {
	switch op {
	case "=", ":=", ":-", ":+", ":?":
		return e.fallback(op, v, set, name)
	case ":":
		return e.substring(v)
	case "^":
		return first(v, unicode.ToUpper), nil
	case "^^":
		return strings.ToUpper(v), nil
	case ",":
		return first(v, unicode.ToLower), nil
	case ",,":
		return strings.ToLower(v), nil
	case "/", "//", "/#", "/%":
		return e.replace(op, v)
	case "#", "##", "%", "%%":
		pattern, err := e.argument("}", false)
		if err != nil {
			return "", err
		}
		return trim(v, op, pattern)
	}
	return v, nil
}

func first(s string, change func(rune) rune) string {
	r, n := utf8.DecodeRuneInString(s)
	if n == 0 {
		return s
	}
	return string(change(r)) + s[n:]
}

// fallback evaluates the operators that give a default.
func (e *expander) fallback(op, v string, set bool, name string) (string, error) {
	if op == ":?" && !set {
		return "", unset(name)
	}
	var b strings.Builder
	for !strings.HasPrefix(e.rest, "}") {
		part, err := e.argument("}", false)
		if err != nil {
			return "", err
		}
		if b.Len()+len(part) > maxExpanded {
			return "", tooLarge()
		}
		b.WriteString(part)
	}
	if v != "" {
		return v, nil
	}
	return b.String(), nil
}

// substring evaluates the part after ${v: of ${v:pos} and ${v:pos:len}.
func (e *expander) substring(v string) (string, error) {
	start, err := e.argument(":}", false)
	if err != nil {
		return "", err
	}
	length := ""
	if e.skips(":") {
		if length, err = e.argument("}", false); err != nil {
			return "", err
		}
	}
	pos, err := strconv.Atoi(start)
	if err != nil {
		return v, nil //nolint:nilerr // as in bash
	}
	if pos < 0 {
		pos = max(0, len(v)+pos)
	}
	if pos >= len(v) {
		return "", nil
	}
	if length == "" {
		return v[pos:], nil
	}
	n, err := strconv.Atoi(length)
	switch {
	case err != nil:
		return v, nil //nolint:nilerr // as in bash
	case n < 0:
		return v[pos:max(pos, len(v)+n)], nil
	}
	return v[pos : pos+min(n, len(v)-pos)], nil
}

// replace evaluates the part after the operator of ${v/a/b} and its kin.
func (e *expander) replace(op, v string) (string, error) {
	old, err := e.argument("/", true)
	if err != nil {
		return "", err
	}
	if !e.skips("/") {
		return "", fmt.Errorf("%w: a replacement lacks its second slash", ErrInvalid)
	}
	if strings.HasPrefix(e.rest, "}") {
		switch op {
		case "/":
			return strings.Replace(v, old, "", 1), nil
		case "//":
			return strings.ReplaceAll(v, old, ""), nil
		}
		return v, nil // the reference does nothing here
	}
	with, err := e.argument("}", true)
	if err != nil {
		return "", err
	}
	switch op {
	case "/":
		return strings.Replace(v, old, with, 1), nil
	case "//":
		return e.replaceAll(v, old, with)
	case "/#":
		if rest, ok := strings.CutPrefix(v, old); ok {
			return with + rest, nil
		}
	case "/%":
		if rest, ok := strings.CutSuffix(v, old); ok {
			return rest + with, nil
		}
	}
	return v, nil
}

// replaceAll keeps a replacement from multiplying without bound.
func (e *expander) replaceAll(v, old, with string) (string, error) {
	if n := strings.Count(v, old); len(v)+n*(len(with)-len(old)) > maxExpanded {
		return "", tooLarge()
	}
	return strings.ReplaceAll(v, old, with), nil
}

func tooLarge() error {
	return fmt.Errorf("%w: the expansion is larger than %d bytes", ErrLimit, maxExpanded)
}

// skips reads all c that come next and reports whether there was one.
func (e *expander) skips(c string) bool {
	n := len(e.rest)
	e.rest = strings.TrimLeft(e.rest, c)
	return len(e.rest) < n
}

// argument reads one argument: an expression, or text up to a byte of end or
// to an expression. With escapes, a backslash before / or \ and a $ before $
// are dropped.
func (e *expander) argument(end string, escapes bool) (string, error) {
	if e.skip("${") {
		return e.expression()
	}
	var b strings.Builder
	for e.rest != "" && !strings.HasPrefix(e.rest, "${") {
		if escapes && (strings.HasPrefix(e.rest, `\/`) || strings.HasPrefix(e.rest, `\\`) || strings.HasPrefix(e.rest, "$$")) {
			e.rest = e.rest[1:]
		} else if strings.IndexByte(end, e.rest[0]) >= 0 {
			break
		}
		b.WriteByte(e.rest[0])
		e.rest = e.rest[1:]
	}
	if b.Len() == 0 {
		return "", fmt.Errorf("%w: an operator lacks its argument", ErrInvalid)
	}
	return b.String(), nil
}

// Bounds of patterns, in bytes: the effort grows with the square of the value
// and with the pattern.
const (
	maxTrimmed = 1 << 10 // of a value that patterns are tried on
	maxPattern = 256
)

// trim evaluates ${v#p}, ${v##p}, ${v%p} and ${v%%p}. A pattern that is not
// well-formed matches nothing.
func trim(v, op, pattern string) (string, error) {
	if len(v) > maxTrimmed || len(pattern) > maxPattern {
		return "", fmt.Errorf("%w: # and %% work on values of up to %d bytes and patterns of up to %d", ErrLimit, maxTrimmed, maxPattern)
	}
	suffix := op[0] == '%'
	if suffix {
		v, pattern = reverse(v), reverse(pattern)
	}
	n := matching(v, pattern, len(op) == 2)
	if v = v[n:]; suffix {
		v = reverse(v)
	}
	return v, nil
}

// matching returns the length of the longest or shortest begin of v, but not
// the empty one, that matches pattern; 0 if there is none.
func matching(v, pattern string, longest bool) int {
	// A slash is nothing special here, other than for package path.
	v, pattern = strings.ReplaceAll(v, "/", "\x00"), strings.ReplaceAll(pattern, "/", "\x00")
	found := 0
	for n := len(v); n > 0; n-- {
		ok, err := path.Match(pattern, v[:n])
		if err != nil {
			return 0
		}
		if ok {
			found = n
			if longest {
				break
			}
		}
	}
	return found
}

func reverse(s string) string {
	r := []rune(s)
	slices.Reverse(r)
	return string(r)
}
