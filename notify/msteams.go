package notify

import (
	"context"
	"encoding/json"
	"errors"
	"strings"
)

// MSTeams is a [Sender] that posts Adaptive Cards to a workflow of Microsoft Teams. It is made by [NewMSTeams]. Text of
// the event cannot hold links of its own. Messages are cut so that the card stays below the limit of 28 KB.
//
// The connectors of Office 365, at *.webhook.office.com, take another format; their addresses are refused.
type MSTeams struct{ *endpoint }

var _ Sender = (*MSTeams)(nil)

// NewMSTeams returns a sender for the address of a workflow. The error is a [*SendError] that lists all problems with
// the arguments; no connection is made.
func NewMSTeams(address string, o *HTTPOptions) (*MSTeams, error) {
	if o == nil {
		o = &HTTPOptions{}
	}
	u, _, _ := parseAddress(address)
	var problem error
	if u != nil && strings.HasSuffix(u.Hostname(), ".webhook.office.com") {
		problem = errors.New("connectors of Office 365 are not supported: make a workflow in Teams, and give its address")
	}
	p, err := newEndpoint("msteams", address, *o, nil, nil, problem)
	if err != nil {
		return nil, err
	}
	return &MSTeams{p}, nil
}

type teamsMessage struct {
	Type        string            `json:"type"`
	Attachments []teamsAttachment `json:"attachments"`
}

type teamsAttachment struct {
	ContentType string    `json:"contentType"`
	Content     teamsCard `json:"content"`
}

type teamsCard struct {
	Schema  string            `json:"$schema"`
	Type    string            `json:"type"`
	Version string            `json:"version"`
	MSTeams map[string]string `json:"msteams"`
	Body    []teamsContainer  `json:"body"`
}

type teamsContainer struct {
	Type  string `json:"type"`
	Items []any  `json:"items"`
}

type teamsText struct {
	Type   string `json:"type"`
	Text   string `json:"text"`
	Size   string `json:"size,omitempty"`
	Weight string `json:"weight,omitempty"`
	Color  string `json:"color,omitempty"`
	Wrap   bool   `json:"wrap"`
}

type teamsFacts struct {
	Type  string      `json:"type"`
	Facts []teamsFact `json:"facts"`
}

type teamsFact struct {
	Title string `json:"title"`
	Value string `json:"value"`
}

// Send posts the event. The error is a [*SendError].
func (m *MSTeams) Send(ctx context.Context, e Event) error {
	body, err := json.Marshal(newTeamsMessage(e))
	if err != nil {
		return m.fail(err, true)
	}
	_, err = m.post(ctx, nil, body)
	return err
}

func newTeamsMessage(e Event) teamsMessage {
	text := teamsText{Type: "TextBlock", Text: escapeCard(truncateJSON(e.Message, 18_000)), Wrap: true}
	if e.Severity > SeverityInfo {
		text.Color = "attention"
	}
	items := []any{
		teamsText{Type: "TextBlock", Text: escapeCard(truncateJSON(title(e), 500)), Size: "large", Weight: "bolder", Wrap: true}, text,
	}
	facts := teamsFacts{Type: "FactSet"}
	for _, f := range fieldsWithin(e, 20, 500, 2000) {
		facts.Facts = append(facts.Facts, teamsFact{escapeCard(truncateJSON(f.name, 300)), escapeCard(truncateJSON(f.value, 600))})
	}
	if len(facts.Facts) > 0 {
		items = append(items, facts)
	}
	return teamsMessage{Type: "message", Attachments: []teamsAttachment{{
		ContentType: "application/vnd.microsoft.card.adaptive",
		Content: teamsCard{
			Schema: "http://adaptivecards.io/schemas/adaptive-card.json", Type: "AdaptiveCard", Version: "1.4",
			MSTeams: map[string]string{"width": "Full"}, Body: []teamsContainer{{Type: "Container", Items: items}},
		},
	}}}
}

// escapeCard makes a text hold no links: the Markdown of cards has them in brackets.
func escapeCard(s string) string { return strings.NewReplacer("[", `\[`, "]", `\]`).Replace(s) }

// truncateJSON cuts a text so that its JSON form has at most about limit bytes.
func truncateJSON(s string, limit int) string {
	n := 0
	for i, r := range s {
		switch {
		case r < ' ' || r == '<' || r == '>' || r == '&' || r == '\u2028' || r == '\u2029':
			n += 6
		case r == '"' || r == '\\' || r == '[' || r == ']':
			n += 3
		default:
			n += len(string(r))
		}
		if n > limit-len(truncated) {
			return s[:i] + truncated
		}
	}
	return s
}
