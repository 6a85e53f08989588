package receiver_test

import (
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"

	"github.com/gitopskit/gitopskit/notify/receiver"
)

func Example() {
	const token = "b2d8e5f7a0c14d3e"
	r, err := receiver.New(receiver.GitHub, []byte(token), func(_ context.Context, h receiver.Hook) error {
		fmt.Println(h.Event, h.Repository, h.Ref, h.Commit)
		return nil
	}, &receiver.Options{Events: []string{"push"}})
	if err != nil {
		fmt.Println(err)
		return
	}
	var mux receiver.Mux
	path := receiver.Path(token, "web", "apps")
	if err := mux.Set("apps/web", path, r); err != nil {
		fmt.Println(err)
		return
	}

	// What GitHub does.
	body := `{"ref":"refs/heads/main","after":"4f2a9c1b","repository":{"full_name":"acme/shop"}}`
	mac := hmac.New(sha256.New, []byte(token))
	mac.Write([]byte(body))
	call := httptest.NewRequest(http.MethodPost, path, strings.NewReader(body))
	call.Header.Set("Content-Type", "application/json")
	call.Header.Set("X-GitHub-Event", "push")
	call.Header.Set("X-Hub-Signature-256", "sha256="+hex.EncodeToString(mac.Sum(nil)))
	answer := httptest.NewRecorder()
	mux.ServeHTTP(answer, call)
	fmt.Println(answer.Code)
	// Output:
	// push acme/shop refs/heads/main 4f2a9c1b
	// 200
}
