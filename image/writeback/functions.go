package writeback

import (
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strings"
	"text/template"

	"github.com/Masterminds/sprig/v3"
)

// pure are the functions of Sprig that templates may use: their results depend
// on their arguments only, they are cheap, and they change nothing. What is not
// here is unknown to a template: the time, chance, the environment, the network,
// keys and certificates, and what makes long values of short ones.
func pure() []string {
	return strings.Fields(`
		abbrev abbrevboth trunc trim upper lower title untitle substr trimAll trimSuffix trimPrefix nospace initials swapcase
		snakecase camelcase kebabcase contains hasPrefix hasSuffix quote squote cat replace plural toString toStrings
		wrap split splitList splitn join sortAlpha
		atoi int int64 float64 add add1 sub div mod mul max min ceil floor round
		default empty coalesce all any compact ternary
		fromJson toJson toPrettyJson toRawJson mustFromJson mustToJson
		typeOf typeIs kindOf kindIs deepEqual base dir clean ext isAbs b64enc b64dec
		list tuple dict get hasKey pluck pick omit append prepend first rest last initial reverse uniq without has slice concat dig
		sha1sum sha256sum adler32sum semver semverCompare fail
		regexMatch regexFind regexFindAll regexReplaceAll regexReplaceAllLiteral regexSplit regexQuoteMeta
		mustRegexMatch mustRegexFind mustRegexFindAll mustRegexReplaceAll mustRegexReplaceAllLiteral mustRegexSplit`)
}

// multiplies names the functions whose result may be as long as the product of
// their arguments.
func multiplies(name string) bool {
	switch name {
	case "replace", "join", "printf", "regexReplaceAll", "mustRegexReplaceAll", "regexReplaceAllLiteral", "mustRegexReplaceAllLiteral", "html", "js", "urlquery":
		return true
	}
	return false
}

// functions are what a template may call, besides the cheap ones of package
// text/template.
func (b *budget) functions() template.FuncMap {
	all := template.FuncMap{}
	library := sprig.HermeticTxtFuncMap()
	for _, name := range pure() {
		if f, ok := library[name]; ok {
			all[name] = b.guard(name, f)
		}
	}
	for name, f := range map[string]any{
		"print": fmt.Sprint, "println": fmt.Sprintln, "printf": printf,
		"html": template.HTMLEscaper, "js": template.JSEscaper, "urlquery": template.URLQueryEscaper,
		"keys": keys, "repeat": repeat, "indent": indent, "nindent": nindent,
	} {
		all[name] = b.guard(name, f)
	}
	return all
}

// wideFormat are widths and repeated arguments, which make long texts of short ones.
var wideFormat = regexp.MustCompile(`%[^a-zA-Z%]*(?:[0-9]{4}|\*|\[)`)

func printf(format string, args ...any) (string, error) {
	if wideFormat.MatchString(format) {
		return "", fmt.Errorf("the format %q has a width of more than three digits, a star or an index", format)
	}
	return fmt.Sprintf(format, args...), nil
}

// keys are sorted, other than Sprig's, so that messages are stable.
func keys(dicts ...map[string]any) []string {
	var all []string
	for _, d := range dicts {
		all = append(all, slices.Sorted(maps.Keys(d))...)
	}
	return all
}

func repeat(count int, s string) (string, error) {
	if count < 0 || count > maxValue || count*len(s) > maxValue {
		return "", errBudget
	}
	return strings.Repeat(s, count), nil
}

func indent(spaces int, s string) (string, error) {
	if spaces < 0 || spaces > 100 {
		return "", fmt.Errorf("%d spaces: want 0 to 100", spaces)
	}
	pad := strings.Repeat(" ", spaces)
	return pad + strings.ReplaceAll(s, "\n", "\n"+pad), nil
}

func nindent(spaces int, s string) (string, error) {
	s, err := indent(spaces, s)
	return "\n" + s, err
}
