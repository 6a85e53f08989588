package image

import (
	"errors"
	"fmt"
	"iter"
	"math/big"
	"regexp"
	"strconv"
	"strings"

	"github.com/Masterminds/semver/v3"
)

// Policy selects one of an image's tags. The selection is the same in whatever
// order the tags come. When none is what the policy wants, the error is an
// ErrNoMatch; a policy that can never select anything says so with an
// ErrInvalidPolicy, also when there are no tags.
type Policy interface {
	Select(tags iter.Seq[string]) (Selection, error)
}

// PolicyFunc is a function as a Policy.
type PolicyFunc func(tags iter.Seq[string]) (Selection, error)

// Select calls f.
func (f PolicyFunc) Select(tags iter.Seq[string]) (Selection, error) { return f(tags) }

// Selection is what a policy selected, and out of what. With an ErrNoMatch it
// still has the numbers.
type Selection struct {
	// Tag is the selected tag.
	Tag string
	// Value is what the policy compared: the tag, or what a Filter extracted
	// of it.
	Value string
	// Considered is how many tags there were.
	Considered int
	// Matched is how many of them were candidates.
	Matched int
}

// Order says which end of the order of tags is wanted. Empty is Ascending.
type Order string

// The orders, as Flux spells them.
const (
	Ascending  Order = "asc"  // the greatest is selected: the last of them in ascending order
	Descending Order = "desc" // the smallest is selected
)

func (o Order) check() error {
	if o != "" && o != Ascending && o != Descending {
		return fmt.Errorf("order %q: want %q or %q", short(string(o)), Ascending, Descending)
	}
	return nil
}

// SemVer selects the highest version in a range. Versions have three segments,
// with or without "v", and may have leading zeros, so that dates are versions
// too; tags that are no version are passed over. Pre-releases match only a range
// that names one, such as ">=1.0.0-0".
type SemVer struct {
	// Range is a constraint such as "1.x", "^1.2" or ">=1.0.0 <2.0.0". Required.
	Range string
}

// Select implements Policy.
func (p SemVer) Select(tags iter.Seq[string]) (Selection, error) {
	on := "range " + strconv.Quote(short(p.Range))
	want, err := semver.NewConstraint(p.Range)
	if p.Range == "" {
		err = errors.New("the range is empty")
	}
	if err != nil {
		return Selection{}, invalidPolicy(on, err)
	}
	var best *semver.Version
	return choose(tags, on, func(old, tag string) (better, candidate bool, err error) {
		if strings.Count(tag, ".") < 2 {
			return false, false, nil
		}
		v, err := semver.NewVersion(tag)
		if err != nil || !want.Check(v) {
			return false, false, nil //nolint:nilerr // a tag that is no version
		}
		if best == nil || v.GreaterThan(best) || v.Equal(best) && tag > old {
			best, better = v, true
		}
		return better, true, nil
	})
}

// Alphabetical selects the last tag in byte order, or the first. The zero value
// selects the last.
type Alphabetical struct {
	Order Order
}

// Select implements Policy.
func (p Alphabetical) Select(tags iter.Seq[string]) (Selection, error) {
	const on = "alphabetical order"
	if err := p.Order.check(); err != nil {
		return Selection{}, invalidPolicy(on, err)
	}
	first := true
	return choose(tags, on, func(old, tag string) (better, candidate bool, err error) {
		better = first || (tag > old) != (p.Order == Descending)
		first = false
		return better, true, nil
	})
}

// Numerical selects the highest number, or the lowest. Numbers are decimal, with
// or without sign, fraction and exponent, and of any length. One tag that is no
// number is an error, because with a Filter there is none. The zero value
// selects the highest.
type Numerical struct {
	Order Order
}

// Select implements Policy.
func (p Numerical) Select(tags iter.Seq[string]) (Selection, error) {
	const on = "numerical order"
	if err := p.Order.check(); err != nil {
		return Selection{}, invalidPolicy(on, err)
	}
	var best *big.Rat
	return choose(tags, on, func(old, tag string) (better, candidate bool, err error) {
		v, ok := number(tag)
		if !ok {
			return false, false, fmt.Errorf("%w: %q is not a number: put a Filter before the policy that extracts numbers only", ErrNoMatch, short(tag))
		}
		better = best == nil
		if !better {
			order := v.Cmp(best)
			if p.Order == Descending {
				order = -order
			}
			better = order > 0 || order == 0 && tag < old
		}
		if better {
			best = v
		}
		return better, true, nil
	})
}

var numberForm = regexp.MustCompile(`^[+-]?(?:[0-9]+\.?[0-9]*|\.[0-9]+)(?:[eE]([+-]?[0-9]{1,6}))?$`)

// number reads a decimal number exactly. An exponent that no floating point
// number has is refused, because its digits would have to be written out.
func number(s string) (*big.Rat, bool) {
	const longest, greatest = 1_000, 400
	m := numberForm.FindStringSubmatch(s)
	if m == nil || len(s) > longest {
		return nil, false
	}
	if e, err := strconv.Atoi(m[1]); m[1] != "" && (err != nil || e > greatest || e < -greatest) {
		return nil, false
	}
	return new(big.Rat).SetString(s)
}

// choose goes through the tags. better is asked for each, with the best one so
// far, and says whether it is better and whether it is a candidate at all.
func choose(tags iter.Seq[string], on string, better func(old, tag string) (better, candidate bool, err error)) (Selection, error) {
	var s Selection
	for tag := range tags {
		s.Considered++
		yes, candidate, err := better(s.Tag, tag)
		if err != nil {
			return Selection{Considered: s.Considered, Matched: s.Matched}, &Error{Op: "select", On: on, Err: err}
		}
		if candidate {
			s.Matched++
		}
		if yes {
			s.Tag, s.Value = tag, tag
		}
	}
	if s.Matched == 0 {
		return s, noMatch(on, s.Considered)
	}
	return s, nil
}

func noMatch(on string, considered int) error {
	err := fmt.Errorf("%w: there are no tags", ErrNoMatch)
	if considered > 0 {
		err = fmt.Errorf("%w: %d tags, none of them fits", ErrNoMatch, considered)
	}
	return &Error{Op: "select", On: on, Err: err}
}

func invalidPolicy(on string, err error) error {
	return &Error{Op: "select", On: on, Err: fmt.Errorf("%w: %w", ErrInvalidPolicy, err)}
}
