package notify

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"regexp"
	"strings"
)

// SlackPostMessage is the address of Slack's bot API, where [NewSlack] needs a token and a channel.
const SlackPostMessage = "https://slack.com/api/chat.postMessage"

// SlackOptions configure a [Slack]; nil means the defaults.
type SlackOptions struct {
	HTTPOptions
	// Token authenticates a bot; none for incoming webhooks, whose address is their secret.
	Token string
	// Channel is where the message goes; "" is that of the webhook.
	Channel string
	// Username is shown as the author; "" means the reporting controller of the event.
	Username string
}

// Slack is a [Sender] that posts messages to Slack, or to a server that takes the same format such as Mattermost: by an
// incoming webhook, or by the bot API. It is made by [NewSlack]. Text of the event is shown as it is: it can neither
// mention anyone nor hold links of its own. Messages are cut at Slack's limits.
type Slack struct {
	*endpoint
	o SlackOptions
}

var _ Sender = (*Slack)(nil)

// NewSlack returns a sender for the address of a webhook, or for [SlackPostMessage]. The error is a [*SendError] that
// lists all problems with the arguments; no connection is made.
func NewSlack(address string, o *SlackOptions) (*Slack, error) {
	if o == nil {
		o = &SlackOptions{}
	}
	problems := []error{checkToken(o.Token)}
	if strings.HasSuffix(address, "/api/chat.postMessage") && (o.Token == "" || o.Channel == "") {
		problems = append(problems, errors.New("the bot API needs a Token and a Channel"))
	}
	p, err := newEndpoint("slack", address, o.HTTPOptions, bearerHeader(o.Token), []string{o.Token, o.Channel}, problems...)
	if err != nil {
		return nil, err
	}
	return &Slack{endpoint: p, o: *o}, nil
}

// slackMessage is the JSON form of a message with an attachment, which several chat servers take.
type slackMessage struct {
	Channel     string            `json:"channel,omitempty"`
	Username    string            `json:"username,omitempty"`
	Attachments []slackAttachment `json:"attachments"`
}

type slackAttachment struct {
	Color      string       `json:"color"`
	Fallback   string       `json:"fallback,omitempty"`
	AuthorName string       `json:"author_name"`
	Text       string       `json:"text"`
	MrkdwnIn   []string     `json:"mrkdwn_in"`
	Fields     []slackField `json:"fields,omitempty"`
}

type slackField struct {
	Title string `json:"title"`
	Value string `json:"value"`
	Short bool   `json:"short"`
}

// slackLimits are what a chat server takes, in characters.
type slackLimits struct{ message, fields, value, total int }

// newSlackMessage returns the message of an event. Every text of the event passes through show, which cuts and escapes.
func newSlackMessage(e Event, l slackLimits, show func(text string, limit int) string) slackMessage {
	a := slackAttachment{
		Color: "good", AuthorName: show(title(e), 256), Text: show(e.Message, l.message), MrkdwnIn: []string{"text"},
	}
	if e.Severity > SeverityInfo {
		a.Color = "danger"
	}
	for _, f := range fieldsWithin(e, l.fields, l.value, l.total) {
		a.Fields = append(a.Fields, slackField{Title: show(f.name, 256), Value: show(f.value, l.value)})
	}
	return slackMessage{Username: e.ReportingController, Attachments: []slackAttachment{a}}
}

// showSlack makes a text neither mention nor link: those need angle brackets.
func showSlack(s string, limit int) string {
	return strings.NewReplacer("&", "&amp;", "<", "&lt;", ">", "&gt;").Replace(truncate(s, limit))
}

// Send posts the event. The error is a [*SendError], also if Slack answers 200 and says in the body that it failed.
func (s *Slack) Send(ctx context.Context, e Event) error {
	m := newSlackMessage(e, slackLimits{message: 30_000, fields: 20, value: 2000, total: 6000}, showSlack)
	m.Channel = s.o.Channel
	if s.o.Username != "" {
		m.Username = s.o.Username
	}
	m.Attachments[0].Fallback = showSlack(title(e)+": "+firstLine(e.Message), 500)
	body, err := json.Marshal(m)
	if err != nil {
		return s.fail(err, true)
	}
	answer, err := s.post(ctx, bearer(s.o.Token), body)
	if err != nil {
		return err
	}
	return s.judgeAnswer(answer)
}

var slackCode = regexp.MustCompile(`^[a-z_]{1,64}$`)

// judgeAnswer makes an error of an answer that says in its body that it is none. Webhooks answer "ok", which is no JSON.
func (s *Slack) judgeAnswer(answer []byte) error {
	var a struct {
		OK    *bool  `json:"ok"`
		Error string `json:"error"`
	}
	if err := json.Unmarshal(answer, &a); err != nil || a.OK == nil || *a.OK {
		return nil //nolint:nilerr // what is no JSON is the answer of a webhook
	}
	code := a.Error
	if !slackCode.MatchString(code) {
		code = "an error"
	}
	switch code {
	case "ratelimited", "rate_limited", "internal_error", "fatal_error", "service_unavailable", "request_timeout":
		return s.fail(fmt.Errorf("answer 200 with %s", code), false)
	}
	return s.fail(fmt.Errorf("answer 200 with %s: check the channel, and the token and its scopes", code), true)
}
