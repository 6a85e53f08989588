package kube

import (
	"cmp"
	"slices"
	"strconv"
	"strings"

	"github.com/gitopskit/gitopskit/runtime/status"
)

// Conceal has values, such as those of Secrets that the pass has read, left out
// of all that is told from now on: messages of conditions, events, and errors,
// in which others may quote them. Each becomes "***". What is everywhere is not
// concealed: values of less than four bytes, true, false and null.
func (p *Pass) Conceal(values ...string) {
	for _, v := range values {
		v = strings.TrimSpace(v)
		const shortest = 4
		if len(v) < shortest || v == "true" || v == "false" || v == "null" {
			continue
		}
		p.hidden = append(p.hidden, v)
		if quoted := strings.Trim(strconv.Quote(v), `"`); quoted != v {
			p.hidden = append(p.hidden, quoted)
		}
	}
	p.mask = nil
}

// conceal returns a text without the values that are not to be told.
func (p *Pass) conceal(text string) string {
	if len(p.hidden) == 0 {
		return text
	}
	if p.mask == nil {
		slices.SortFunc(p.hidden, func(a, b string) int { return cmp.Or(cmp.Compare(len(b), len(a)), strings.Compare(a, b)) })
		p.hidden = slices.Compact(p.hidden)
		pairs := make([]string, 0, 2*len(p.hidden))
		for _, v := range p.hidden {
			pairs = append(pairs, v, "***") // of those that begin at one place the longest is taken
		}
		p.mask = strings.NewReplacer(pairs...)
	}
	return p.mask.Replace(text)
}

// concealed is the result without the values that are not to be told.
func (p *Pass) concealed(r Result) Result {
	if len(p.hidden) == 0 {
		return r
	}
	r.outcome.Message = p.conceal(r.outcome.Message)
	if r.err != nil {
		r.err = &concealedError{p.conceal(r.err.Error()), r.err}
	}
	return r
}

// concealConditions takes the values out of the conditions of an object.
func (p *Pass) concealConditions(obj status.Object) {
	if len(p.hidden) == 0 {
		return
	}
	conditions := slices.Clone(obj.GetConditions())
	for i := range conditions {
		conditions[i].Message = p.conceal(conditions[i].Message)
	}
	obj.SetConditions(conditions)
}

// concealedError is an error whose text may be told.
type concealedError struct {
	text string
	err  error
}

func (e *concealedError) Error() string { return e.text }
func (e *concealedError) Unwrap() error { return e.err }
