// Package console writes the progress of example programs for people: in
// colour on a terminal, in plain lines elsewhere, such as a log file.
package console

import (
	"context"
	"fmt"
	"io"
	"os"
	"strings"
	"sync"
	"time"

	"github.com/gitopskit/gitopskit/notify"
	"github.com/gitopskit/gitopskit/ssa"
)

// Printer writes lines. It is safe for concurrent use.
type Printer struct {
	// Terminal is true if the output is a terminal, not a file or pipe.
	Terminal bool

	mu     sync.Mutex
	w      io.Writer
	colour bool
}

// New returns a printer to w. It uses colour if w is a terminal and the
// environment variable NO_COLOR is not set.
func New(w io.Writer) *Printer {
	p := &Printer{w: w}
	if f, ok := w.(*os.File); ok {
		info, err := f.Stat()
		p.Terminal = err == nil && info.Mode()&os.ModeCharDevice != 0 && os.Getenv("TERM") != "dumb"
		p.colour = p.Terminal && os.Getenv("NO_COLOR") == ""
	}
	return p
}

const (
	bold, red, green, yellow, dim = "1", "31", "32", "33", "2"
	indent                        = "        "
)

func (p *Printer) paint(colour, text string) string {
	if !p.colour {
		return text
	}
	return "\x1b[" + colour + "m" + text + "\x1b[0m"
}

// Line writes text as it is.
func (p *Printer) Line(text string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	fmt.Fprintln(p.w, text)
}

// Title begins a section.
func (p *Printer) Title(text string) { p.Line("\n" + p.paint(bold, text)) }

// Step reports that something was done.
func (p *Printer) Step(name, format string, args ...any) {
	p.Line(p.paint(green, fmt.Sprintf("%-8s", name)) + fmt.Sprintf(format, args...))
}

// Detail explains the step before.
func (p *Printer) Detail(format string, args ...any) {
	p.Line(p.paint(dim, indent+fmt.Sprintf(format, args...)))
}

// Fail reports an error, over as many lines as it has.
func (p *Printer) Fail(err error) {
	p.Line(p.paint(red, "error   ") + strings.ReplaceAll(err.Error(), "\n", "\n"+indent))
}

// Changes reports a change set, if it has any objects: a summary, and what differs.
func (p *Printer) Changes(step string, set *ssa.ChangeSet, took time.Duration) {
	if len(set.Changes) == 0 {
		return
	}
	p.Step(step, "%s in %s", set.Summary(), took)
	colours := map[ssa.Action]string{ssa.Created: green, ssa.Configured: yellow, ssa.Deleted: red, ssa.Kept: red, ssa.Failed: red}
	for _, c := range set.Changes {
		if colour := colours[c.Action]; colour != "" {
			p.Line(p.paint(colour, indent+strings.ReplaceAll(c.Text(), "\n", "\n"+indent)))
		}
	}
}

// Send writes an event; it makes a Printer a notify.Sender.
func (p *Printer) Send(_ context.Context, e notify.Event) error {
	p.Detail("event %s %s: %s", e.Severity, e.Reason, strings.ReplaceAll(e.Message, "\n", " "))
	return nil
}

// GoOn lists commands to go on with.
func (p *Printer) GoOn(commands ...string) {
	p.Title("How to go on")
	for _, c := range commands {
		p.Line(indent + c)
	}
}

// Since returns the time passed, in milliseconds.
func Since(t time.Time) time.Duration { return time.Since(t).Round(time.Millisecond) }
