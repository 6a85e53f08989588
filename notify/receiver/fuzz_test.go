package receiver_test

import (
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"net/http"
	"testing"

	"github.com/gitopskit/gitopskit/notify/receiver"
)

// Whatever a caller sends who knows the token, no reader fails in another way than by an error; and who does not know
// it gets nothing read.
func FuzzVerify(f *testing.F) {
	for _, s := range samples() {
		f.Add(string(s.typ), s.want.Event, s.header["Content-Type"], []byte(s.body))
	}
	f.Fuzz(func(t *testing.T, typ, event, contentType string, body []byte) {
		handle := func(context.Context, receiver.Hook) error { return nil }
		r, err := receiver.New(receiver.Type(typ), []byte(token), handle, nil)
		if err != nil {
			return
		}
		mac := hmac.New(sha256.New, []byte(token))
		mac.Write(body)
		signature := "sha256=" + hex.EncodeToString(mac.Sum(nil))
		header := http.Header{
			"Content-Type": {contentType}, "X-Github-Event": {event}, "X-Gitlab-Event": {event}, "X-Event-Key": {event},
			"X-Signature": {signature}, "X-Hub-Signature": {signature}, "X-Gitlab-Token": {token}, "Authorization": {token},
		}
		h, err := r.Verify(header, body)
		if err == nil && h.Type != receiver.Type(typ) {
			t.Errorf("got type %s", h.Type)
		}
		for _, name := range []string{"X-Signature", "X-Hub-Signature", "X-Gitlab-Token", "Authorization"} {
			header.Set(name, "sha256=00")
		}
		if _, err := r.Verify(header, body); err == nil && typ != string(receiver.Generic) && typ != string(receiver.DockerHub) {
			t.Error("verified without the token")
		}
	})
}
