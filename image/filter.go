package image

import (
	"errors"
	"fmt"
	"iter"
	"maps"
	"regexp"
	"slices"
	"strconv"
)

// Filter lets another policy see only the tags that match a regular expression,
// or a part of each of them.
type Filter struct {
	// Pattern is a regular expression, not anchored, of at most 1,000 bytes.
	// Empty matches every tag.
	Pattern string
	// Extract is what the policy sees in place of the tag, made of the groups
	// of Pattern: "$1" or "$name". Empty means the tag. Of tags with the same
	// extract the smallest in byte order counts.
	Extract string
	// Policy selects. Required.
	Policy Policy
}

// Select implements Policy. Selection.Value is the extract.
func (f Filter) Select(tags iter.Seq[string]) (Selection, error) {
	on := "filter " + strconv.Quote(short(f.Pattern))
	if f.Policy == nil {
		return Selection{}, invalidPolicy(on, errors.New("Filter.Policy is nil: it says which of the tags is selected"))
	}
	const longest = 1_000
	re, err := compile(f.Pattern, longest)
	if err == nil && len(f.Extract) > longest {
		err = fmt.Errorf("Extract has %d bytes: at most %d", len(f.Extract), longest)
	}
	if err != nil {
		return Selection{}, invalidPolicy(on, err)
	}
	considered, byValue := f.extract(re, tags)
	s, err := f.Policy.Select(slices.Values(slices.Sorted(maps.Keys(byValue))))
	s.Considered = considered
	if errors.Is(err, ErrNoMatch) && len(byValue) == 0 {
		err = noMatch(on, considered)
	}
	if err != nil {
		return s, err
	}
	s.Tag, s.Value = byValue[s.Tag], s.Tag
	return s, nil
}

// extract returns the smallest tag of each value.
func (f Filter) extract(re *regexp.Regexp, tags iter.Seq[string]) (considered int, byValue map[string]string) {
	byValue = map[string]string{}
	for tag := range tags {
		considered++
		groups := re.FindStringSubmatchIndex(tag)
		if groups == nil {
			continue
		}
		value := tag
		if f.Extract != "" {
			value = string(re.ExpandString(nil, f.Extract, tag, groups))
		}
		if old, ok := byValue[value]; !ok || tag < old {
			byValue[value] = tag
		}
	}
	return considered, byValue
}
