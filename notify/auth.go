package notify

import (
	"encoding/base64"
	"errors"
	"strings"
)

// checkToken returns what is wrong with a token that is sent in a header; it is not shown.
func checkToken(token string) error {
	if strings.ContainsFunc(token, func(r rune) bool { return isControl(r) || r == ' ' || r == '\t' }) {
		return errors.New("the token has a space or a control character: check for a line end after it")
	}
	return nil
}

// bearerHeader lists the headers that a sender with this token sets itself.
func bearerHeader(token string) []string {
	if token == "" {
		return nil
	}
	return []string{"Authorization"}
}

// bearer returns the header that carries a token, nil if there is none.
func bearer(token string) map[string]string {
	if token == "" {
		return nil
	}
	return map[string]string{"Authorization": "Bearer " + token}
}

// credentials returns the header that carries a token or a user and password, nil if there are none, what in it is
// secret, and what is wrong with them.
func credentials(token, user, password string) (map[string]string, []string, error) {
	switch {
	case token != "" && (user != "" || password != ""):
		return nil, nil, errors.New("there are a Token and a Username or Password: give one of them")
	case token != "":
		return bearer(token), []string{token}, checkToken(token)
	case user == "" && password == "":
		return nil, nil, nil
	case user == "" || password == "":
		return nil, nil, errors.New("there is only one of Username and Password: give both")
	case strings.Contains(user, ":"):
		return nil, nil, errors.New("the Username has a colon, which basic authentication does not allow")
	}
	basic := base64.StdEncoding.EncodeToString([]byte(user + ":" + password))
	return map[string]string{"Authorization": "Basic " + basic}, []string{user, password, basic}, nil
}
