package image_test

import (
	"iter"
	"math/rand/v2"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/Masterminds/semver/v3"

	"github.com/gitopskit/gitopskit/image"
)

func TestSelect(t *testing.T) {
	numbers := image.Numerical{}
	for _, test := range []struct {
		name   string
		policy image.Policy
		tags   string
		want   string
	}{
		{"semver", image.SemVer{Range: "1.0.x"}, "1.0.0 1.0.0.1 1.0.0p 1.0.1 1.2.0 0.1.0", "1.0.1"},
		{"semver with v", image.SemVer{Range: "1.0.x"}, "v1.2.3 v1.0.0 v0.1.0", "v1.0.0"},
		{"semver of dates", image.SemVer{Range: ">=2025.0.0"}, "v2025.02.03 v2025.01.30 latest", "v2025.02.03"},
		{"two segments are none", image.SemVer{Range: "*"}, "1.2 2 1.1.0", "1.1.0"},
		{"no pre-release", image.SemVer{Range: "1.x"}, "1.0.0 1.1.0-rc.1", "1.0.0"},
		{"pre-release", image.SemVer{Range: "1.x-0"}, "1.0.0 1.1.0-rc.1", "1.1.0-rc.1"},
		{"equal versions", image.SemVer{Range: "*"}, "1.2.3 v1.2.3", "v1.2.3"},
		{"alphabetical", image.Alphabetical{}, "b a Z c", "c"},
		{"alphabetical descending", image.Alphabetical{Order: image.Descending}, "b a c", "a"},
		{"numerical", numbers, "-1 0 9 10 9.5", "10"},
		{"numerical descending", image.Numerical{Order: image.Descending}, "-1 0 9 10", "-1"},
		{"17 digits", numbers, "20240101123456788 20240101123456789", "20240101123456789"},
		{"40 digits", numbers, strings.Repeat("9", 39) + "8 " + strings.Repeat("9", 40), strings.Repeat("9", 40)},
		{"exponent", numbers, "999 1e3 .5 5. +7", "1e3"},
		{"equal numbers", numbers, "1.0 1 1.00", "1"},
		{"equal numbers descending", image.Numerical{Order: image.Descending}, "1.0 1 1.00", "1"},
		{"filter", image.Filter{Pattern: "^main-", Policy: image.Alphabetical{}}, "main-1 main-2 release-3", "main-2"},
		{"extract", image.Filter{Pattern: `^main-[a-f0-9]+-(?P<ts>[0-9]+)$`, Extract: "$ts", Policy: numbers}, "main-abc-9 main-aaa-10 main-fff-x", "main-aaa-10"},
		{"extract by number", image.Filter{Pattern: `^(.*)-alpine$`, Extract: "$1", Policy: image.SemVer{Range: "*"}}, "1.0.0-alpine 2.0.0", "1.0.0-alpine"},
		{"equal extracts", image.Filter{Pattern: `^[a-z]-(\d+)$`, Extract: "$1", Policy: numbers}, "c-1 a-1 b-1", "a-1"},
		{"nested filters", image.Filter{Pattern: "^a(.*)", Extract: "$1", Policy: image.Filter{Pattern: "b(.*)", Extract: "$1", Policy: numbers}}, "ab1 ab2 ac3 b4", "ab2"},
		{"all", image.Filter{Policy: image.Alphabetical{}}, "a b", "b"},
	} {
		tags := strings.Fields(test.tags)
		for range 50 { // in any order
			rand.Shuffle(len(tags), func(i, j int) { tags[i], tags[j] = tags[j], tags[i] })
			if got, err := test.policy.Select(slices.Values(tags)); err != nil || got.Tag != test.want || got.Considered != len(tags) {
				t.Fatalf("%s of %v: %+v, %v", test.name, tags, got, err)
			}
		}
	}
}

func TestSelectNothing(t *testing.T) {
	for _, test := range []struct {
		name   string
		policy image.Policy
		tags   string
		class  error
		text   string
	}{
		{"no tags", image.SemVer{Range: "1.0.x"}, "", image.ErrNoMatch, "no tags"},
		{"none in range", image.SemVer{Range: "1.0.x"}, "1.2.0 b1.0.0", image.ErrNoMatch, "2 tags"},
		{"nothing to sort", image.Alphabetical{}, "", image.ErrNoMatch, "no tags"},
		{"nothing after the filter", image.Filter{Pattern: "^x", Policy: image.Alphabetical{}}, "a b c", image.ErrNoMatch, `filter "^x": image: no tag matches: 3 tags`},
		{"no number", image.Numerical{}, "1 2 x", image.ErrNoMatch, `"x" is not a number`},
		{"infinity", image.Numerical{}, "inf", image.ErrNoMatch, "inf"},
		{"nan", image.Numerical{}, "nan", image.ErrNoMatch, "nan"},
		{"hexadecimal", image.Numerical{}, "0x10", image.ErrNoMatch, "0x10"},
		{"fraction", image.Numerical{}, "1/3", image.ErrNoMatch, "1/3"},
		{"enormous", image.Numerical{}, "1e999999", image.ErrNoMatch, "1e999999"},
		{"a number as long as a book", image.Numerical{}, strings.Repeat("9", 1001), image.ErrNoMatch, "999..."},
		{"empty range", image.SemVer{}, "1.0.0", image.ErrInvalidPolicy, "empty"},
		{"bad range", image.SemVer{Range: "1x"}, "1.0.0", image.ErrInvalidPolicy, "1x"},
		{"bad range, no tags", image.SemVer{Range: "a"}, "", image.ErrInvalidPolicy, `"a"`},
		{"bad order", image.Alphabetical{Order: "up"}, "1", image.ErrInvalidPolicy, "up"},
		{"bad order of numbers", image.Numerical{Order: "ASC"}, "1", image.ErrInvalidPolicy, "ASC"},
		{"bad pattern", image.Filter{Pattern: "(", Policy: image.Alphabetical{}}, "1", image.ErrInvalidPolicy, "missing closing"},
		{"long pattern", image.Filter{Pattern: strings.Repeat("a", 1001), Policy: image.Alphabetical{}}, "1", image.ErrInvalidPolicy, "at most 1000"},
		{"long extract", image.Filter{Extract: strings.Repeat("a", 1001), Policy: image.Alphabetical{}}, "1", image.ErrInvalidPolicy, "at most 1000"},
		{"no policy", image.Filter{Pattern: "a"}, "1", image.ErrInvalidPolicy, "Filter.Policy"},
		{"bad inner policy", image.Filter{Policy: image.SemVer{}}, "1", image.ErrInvalidPolicy, "empty"},
	} {
		t.Run(test.name, func(t *testing.T) {
			_, err := test.policy.Select(slices.Values(strings.Fields(test.tags)))
			fails(t, err, test.class, test.text)
		})
	}
}

// What Flux's semver policy does, on the same library, is what SemVer does.
func TestSemVerAsFlux(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 2))
	ranges := []string{"1.0.x", "^1.0", "=1.0.0", "~1.0", ">=1.0", ">0,<2.0", "*", ">=1.0.0-0", "1 || 3", "1.0.0 - 2.1.0"}
	parts := []string{"0", "1", "2", "01", "3-rc.1", "1-alpha", "x", "10", "1_2"}
	for range 2_000 {
		var tags []string
		for range 8 {
			tag := strings.Repeat("v", r.IntN(2)) + parts[r.IntN(len(parts))]
			for range r.IntN(4) {
				tag += "." + parts[r.IntN(len(parts))]
			}
			tags = append(tags, tag)
		}
		slices.Sort(tags)
		slices.Reverse(tags) // the order of Flux's store
		text := ranges[r.IntN(len(ranges))]
		want := ""
		constraint, err := semver.NewConstraint(text)
		if err != nil {
			t.Fatal(err)
		}
		var latest *semver.Version
		for _, tag := range tags {
			v, err := semver.NewVersion(tag)
			if len(strings.SplitN(tag, ".", 3)) == 3 && err == nil && constraint.Check(v) && (latest == nil || v.GreaterThan(latest)) {
				want, latest = tag, v
			}
		}
		if got, _ := (image.SemVer{Range: text}).Select(slices.Values(tags)); got.Tag != want {
			t.Fatalf("%s of %v: %q, want %q", text, tags, got.Tag, want)
		}
	}
}

// Where floating point is exact, so are the numbers of Flux.
func TestNumericalAsFlux(t *testing.T) {
	r := rand.New(rand.NewPCG(3, 4))
	for range 2_000 {
		var tags []string
		for range 6 {
			tags = append(tags, strconv.FormatFloat(float64(r.IntN(2000)-1000)/8, 'g', -1, 64))
		}
		slices.Sort(tags)
		slices.Reverse(tags)
		for _, order := range []image.Order{image.Ascending, image.Descending} {
			var want string
			var value float64
			for i, tag := range tags {
				v, err := strconv.ParseFloat(tag, 64)
				if err != nil {
					t.Fatal(err)
				}
				if i == 0 || order == image.Ascending && v >= value || order == image.Descending && v <= value {
					want, value = tag, v
				}
			}
			if got, err := (image.Numerical{Order: order}).Select(slices.Values(tags)); err != nil || got.Tag != want {
				t.Fatalf("%s of %v: %q, want %q, %v", order, tags, got.Tag, want, err)
			}
		}
	}
}

func TestPolicyFunc(t *testing.T) {
	first := image.PolicyFunc(func(tags iter.Seq[string]) (image.Selection, error) {
		for tag := range tags {
			return image.Selection{Tag: tag, Matched: 1}, nil
		}
		return image.Selection{}, image.ErrNoMatch
	})
	got, err := image.Filter{Pattern: "-(.)", Extract: "$1", Policy: first}.Select(slices.Values([]string{"x-b", "y-a"}))
	if err != nil || got != (image.Selection{Tag: "y-a", Value: "a", Considered: 2, Matched: 1}) {
		t.Error(got, err)
	}
}

func FuzzPolicies(f *testing.F) {
	f.Add("1.x", `^v?(\d+)`, "$1", "1.0.0 v2 main-3")
	f.Add("*", "", "", "1 2 1e3")
	f.Fuzz(func(t *testing.T, rng, pattern, extract, list string) {
		tags := strings.Fields(list)
		reversed := slices.Clone(tags)
		slices.Reverse(reversed)
		for _, policy := range []image.Policy{image.SemVer{Range: rng}, image.Numerical{}, image.Alphabetical{Order: image.Descending}} {
			policy = image.Filter{Pattern: pattern, Extract: extract, Policy: policy}
			got, err := policy.Select(slices.Values(tags))
			again, errAgain := policy.Select(slices.Values(reversed))
			if got.Tag != again.Tag || (err == nil) != (errAgain == nil) {
				t.Errorf("%+v, %v or %+v, %v", got, err, again, errAgain)
			}
			if err == nil && !slices.Contains(tags, got.Tag) {
				t.Errorf("%q is none of %q", got.Tag, tags)
			}
		}
	})
}
