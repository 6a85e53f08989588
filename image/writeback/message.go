package writeback

import (
	"cmp"
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"
	"text/template"
	"unicode/utf8"

	"github.com/gitopskit/gitopskit/image/update"
)

// DefaultTemplate is the message when there is no template, as in Flux.
const DefaultTemplate = "Update from image update automation"

// Message makes commit messages. The zero value makes DefaultTemplate.
type Message struct {
	// Template is a template of package text/template, of at most 64 KiB. Empty
	// means DefaultTemplate.
	Template string
	// Automation is .AutomationObject in the template: whoever makes the change.
	Automation Name
	// Values are .Values in the template.
	Values map[string]string
}

// Name names an object of Kubernetes.
type Name struct{ Namespace, Name string }

// String is "namespace/name".
func (n Name) String() string { return n.Namespace + "/" + n.Name }

// Changed is .Changed in a template: what a commit changes, in the shape of Flux.
type Changed struct {
	// FileChanges are the changes by path and object.
	FileChanges map[string]ObjectChanges

	ordered []update.Change
}

// ObjectChanges are the changes by object, which a template knows by its
// .APIVersion, .Kind, .Namespace and .Name.
type ObjectChanges map[update.Object][]Change

// Change is one value before and after.
type Change struct {
	OldValue, NewValue string
	// Setter is the text of the marker, "namespace:name" or
	// "namespace:name:tag".
	Setter string
}

// NewChanged returns what a plan changes, for templates of one's own.
func NewChanged(plan *update.Plan) Changed {
	c := Changed{FileChanges: map[string]ObjectChanges{}, ordered: plan.Changes}
	for _, change := range plan.Changes {
		of := c.FileChanges[change.File]
		if of == nil {
			of = ObjectChanges{}
			c.FileChanges[change.File] = of
		}
		of[change.Object] = append(of[change.Object], Change{change.Old, change.New, change.Setter})
	}
	return c
}

// Changes are all changes, each once, in the order of files and lines.
func (c Changed) Changes() []Change {
	var all []Change
	seen := map[Change]bool{}
	for _, change := range c.ordered {
		if one := (Change{change.Old, change.New, change.Setter}); !seen[one] {
			seen[one] = true
			all = append(all, one)
		}
	}
	return all
}

// Objects are the changes of each object, in whichever files it is.
func (c Changed) Objects() ObjectChanges {
	all := ObjectChanges{}
	for _, file := range slices.Sorted(maps.Keys(c.FileChanges)) {
		for object, changes := range c.FileChanges[file] {
			all[object] = append(all[object], changes...)
		}
	}
	return all
}

// message is a Message that was checked.
type message struct {
	Message
	template *template.Template
}

func (m Message) compile() (*message, error) {
	const longest = 64 << 10
	text := cmp.Or(m.Template, DefaultTemplate)
	if len(text) > longest {
		return nil, fmt.Errorf("Message.Template has %d bytes: at most %d", len(text), longest)
	}
	m.Values = maps.Clone(m.Values)
	t, err := template.New("message").Funcs((&budget{}).functions()).Parse(text)
	if err != nil {
		return nil, fmt.Errorf("Message.Template: %w", err)
	}
	if err := meter(t); err != nil {
		return nil, fmt.Errorf("Message.Template: %w", err)
	}
	return &message{m, t}, nil
}

// render makes the message for a plan.
func (m *message) render(ctx context.Context, plan *update.Plan) (string, error) {
	t, err := m.template.Clone()
	if err != nil {
		return "", fmt.Errorf("%w: %w", ErrTemplate, err)
	}
	b := newBudget(ctx)
	t.Funcs(b.functions()).Funcs(template.FuncMap{tickName: b.tick})
	err = t.Execute(b, struct {
		AutomationObject Name
		Changed          Changed
		Values           map[string]string
	}{m.Automation, NewChanged(plan), m.Values})
	if err != nil {
		return "", m.why(err)
	}
	text := b.out.String()
	if strings.TrimSpace(text) == "" || !utf8.ValidString(text) || strings.ContainsRune(text, 0) {
		return "", fmt.Errorf("%w: the message is empty, not UTF-8 or contains NUL", ErrTemplate)
	}
	return text, nil
}

// why explains what Flux's users may meet.
func (m *message) why(err error) error {
	for field, instead := range map[string]string{
		"can't evaluate field Updated in type struct": ".Updated was removed: use .Changed",
		"can't evaluate field ImageResult in type ":   ".Changed.ImageResult was removed: use .Changed.FileChanges or .Changed.Objects",
	} {
		if strings.Contains(err.Error(), field) {
			return fmt.Errorf("%w: %s", ErrRemovedField, instead)
		}
	}
	return fmt.Errorf("%w: %w", ErrTemplate, err)
}
