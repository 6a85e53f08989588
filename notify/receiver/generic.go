package receiver

import "net/http"

// generic takes any body.
type generic struct{}

func (generic) verify(http.Header, []byte, []byte) error { return nil }

func (generic) read(http.Header, *Hook) error { return nil }

// genericHMAC takes any body that is signed.
type genericHMAC struct{ generic }

func (genericHMAC) verify(header http.Header, body, token []byte) error {
	return verifyHMAC(header, body, token, "X-Signature")
}
