package receiver_test

import (
	"testing"

	flux "github.com/fluxcd/notification-controller/api/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/gitopskit/gitopskit/notify/receiver"
)

// The paths and the names of the types are those of Flux's API, so that hooks can stay where they are.
func TestPathAndTypesAreThoseOfFlux(t *testing.T) {
	for _, tc := range [][3]string{{"token", "web", "apps"}, {"", "", ""}, {"b2d8\n", "a.b-c", "flux-system"}} {
		peer := &flux.Receiver{ObjectMeta: metav1.ObjectMeta{Name: tc[1], Namespace: tc[2]}}
		if got, want := receiver.Path(tc[0], tc[1], tc[2]), peer.GetWebhookPath(tc[0]); got != want {
			t.Errorf("%q: got %s, want %s", tc, got, want)
		}
	}
	for typ, want := range map[receiver.Type]string{
		receiver.Generic: flux.GenericReceiver, receiver.GenericHMAC: flux.GenericHMACReceiver, receiver.GitHub: flux.GitHubReceiver,
		receiver.GitLab: flux.GitLabReceiver, receiver.Bitbucket: flux.BitbucketReceiver, receiver.Harbor: flux.HarborReceiver,
		receiver.DockerHub: flux.DockerHubReceiver,
	} {
		if string(typ) != want {
			t.Errorf("got %s, want %s", typ, want)
		}
	}
	for _, typ := range []string{flux.GenericOIDCReceiver, flux.QuayReceiver, flux.GCRReceiver, flux.NexusReceiver, flux.ACRReceiver, flux.CDEventsReceiver} {
		if _, err := receiver.New(receiver.Type(typ), []byte(token), nil, nil); err == nil {
			t.Errorf("%s is not refused", typ)
		}
	}
}
