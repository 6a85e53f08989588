package notify

import (
	"context"
	"encoding/json"
	"errors"
	"slices"
	"strings"
	"time"
)

// AlertmanagerOptions configure an [Alertmanager]; nil means the defaults.
type AlertmanagerOptions struct {
	HTTPOptions
	// Token authenticates; or Username and Password do, of which both are needed.
	Token, Username, Password string
	// Labels are keys of the metadata that become labels of the alert, by which Alertmanager routes. What they hold
	// must be the same in the event that tells of the failure and in that of its end, or the alert is not resolved.
	// The other metadata become annotations.
	Labels []string
	// Expires is how long an alert fires unless it is resolved or repeated; 0 leaves it to Alertmanager, whose
	// resolve_timeout is 5 minutes by default.
	Expires time.Duration
	// Resolves decides which events end the alert of their object; nil means those that are no errors and whose
	// reason is neither Progressing nor DependencyNotReady. Traces never do.
	Resolves func(Event) bool
}

// Alertmanager is a [Sender] that keeps one alert for each object at an Alertmanager of Prometheus: an error fires it,
// and a later success resolves it. It is made by [NewAlertmanager].
//
// The labels are alertname, which is Flux and the kind, severity, which is always error, kind, name, namespace and
// reportingcontroller, and those that the options choose. The message, the reason and the other metadata are
// annotations, so that the alert stays the same when they change. Where a key has characters that are not
// allowed in names of labels, it has underscores.
type Alertmanager struct {
	*endpoint
	header map[string]string
	o      AlertmanagerOptions
}

var _ Sender = (*Alertmanager)(nil)

// NewAlertmanager returns a sender for the address of the API, as https://host/api/v2/alerts. The error is a
// [*SendError] that lists all problems with the arguments; no connection is made.
func NewAlertmanager(address string, o *AlertmanagerOptions) (*Alertmanager, error) {
	if o == nil {
		o = &AlertmanagerOptions{}
	}
	header, secrets, problem := credentials(o.Token, o.Username, o.Password)
	problems := []error{problem}
	if o.Expires < 0 {
		problems = append(problems, errors.New("Expires is negative"))
	}
	var own []string
	if header != nil {
		own = []string{"Authorization"}
	}
	p, err := newEndpoint("alertmanager", address, o.HTTPOptions, own, secrets, problems...)
	if err != nil {
		return nil, err
	}
	a := &Alertmanager{endpoint: p, header: header, o: *o}
	a.o.Labels = slices.Clone(o.Labels)
	return a, nil
}

type alert struct {
	Labels      map[string]string `json:"labels"`
	Annotations map[string]string `json:"annotations"`
	StartsAt    *time.Time        `json:"startsAt,omitempty"`
	EndsAt      *time.Time        `json:"endsAt,omitempty"`
}

// Send fires or resolves the alert of the event's object; nothing is sent for other events. The error is a
// [*SendError].
func (a *Alertmanager) Send(ctx context.Context, e Event) error {
	if err := ctx.Err(); err != nil {
		return a.fail(err, false)
	}
	failed := e.Severity > SeverityInfo
	if !failed && !a.resolves(e) {
		return nil
	}
	at := e.Timestamp
	if at.IsZero() {
		at = time.Now()
	}
	at = at.UTC()
	one := a.describe(e)
	switch {
	case !failed:
		one.EndsAt = &at
	default:
		one.StartsAt = &at
		if a.o.Expires > 0 {
			end := at.Add(a.o.Expires)
			one.EndsAt = &end
		}
	}
	body, err := json.Marshal([]alert{one})
	if err != nil {
		return a.fail(err, true)
	}
	_, err = a.post(ctx, a.header, body)
	return err
}

func (a *Alertmanager) resolves(e Event) bool {
	if e.Severity < SeverityInfo {
		return false
	}
	if a.o.Resolves != nil {
		return a.o.Resolves(e)
	}
	return e.Reason != progressing && e.Reason != "DependencyNotReady"
}

// describe returns the alert of an event without its times.
func (a *Alertmanager) describe(e Event) alert {
	one := alert{
		Labels: map[string]string{}, Annotations: map[string]string{"message": e.Message, "reason": e.Reason},
	}
	for key, value := range e.Metadata {
		name := labelName(key)
		if slices.Contains(a.o.Labels, key) {
			one.Labels[name] = value
		} else if name != "message" && name != "reason" {
			one.Annotations[name] = value
		}
	}
	for name, value := range map[string]string{
		"alertname": "Flux" + e.InvolvedObject.Kind, "severity": "error", "kind": e.InvolvedObject.Kind,
		"name": e.InvolvedObject.Name, "namespace": e.InvolvedObject.Namespace, "reportingcontroller": e.ReportingController,
	} {
		if value != "" {
			one.Labels[name] = value
		}
	}
	return one
}

// labelName replaces what a name of Prometheus may not hold.
func labelName(key string) string {
	name := strings.Map(func(r rune) rune {
		if r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= '0' && r <= '9' || r == '_' {
			return r
		}
		return '_'
	}, key)
	if name == "" || name[0] >= '0' && name[0] <= '9' {
		return "_" + name
	}
	return name
}
