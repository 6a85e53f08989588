package notify

import (
	"context"
	"encoding/json"
	"strings"
)

// DiscordOptions configure a [Discord]; nil means the defaults.
type DiscordOptions struct {
	HTTPOptions
	// Username is shown as the author; "" means the reporting controller of the event.
	Username string
}

// Discord is a [Sender] that posts messages to a webhook of Discord, in the form of Slack that it takes. It is made by
// [NewDiscord]. The text is part of an embed, in which nobody is notified by a mention. Messages are cut at
// Discord's limits.
type Discord struct {
	*endpoint
	username string
}

var _ Sender = (*Discord)(nil)

// NewDiscord returns a sender for the address of a webhook; "/slack" is added to it unless it is there. The error is a
// [*SendError] that lists all problems with the arguments; no connection is made.
func NewDiscord(address string, o *DiscordOptions) (*Discord, error) {
	if o == nil {
		o = &DiscordOptions{}
	}
	p, err := newEndpoint("discord", address, o.HTTPOptions, nil, nil)
	if err != nil {
		return nil, err
	}
	if !strings.HasSuffix(p.url.Path, "/slack") {
		p.url = p.url.JoinPath("slack")
	}
	return &Discord{endpoint: p, username: o.Username}, nil
}

// Send posts the event. The error is a [*SendError].
func (d *Discord) Send(ctx context.Context, e Event) error {
	m := newSlackMessage(e, slackLimits{message: 3000, fields: 25, value: 1000, total: 1200}, showDiscord)
	if d.username != "" {
		m.Username = d.username
	}
	m.Username = truncate(m.Username, 80)
	body, err := json.Marshal(m)
	if err != nil {
		return d.fail(err, true)
	}
	_, err = d.post(ctx, nil, body)
	return err
}

// showDiscord makes a text neither mention nor link: a zero-width space after the at sign, other characters for the
// brackets.
func showDiscord(s string, limit int) string {
	return truncate(strings.NewReplacer("@", "@\u200b", "<", "‹", ">", "›", "](", "] (").Replace(s), limit)
}
