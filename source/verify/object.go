package verify

import (
	"bytes"
	"errors"
	"fmt"
	"strings"
)

// signed is an object taken apart: what was signed, and the signature.
type signed struct {
	object    string // "commit" or "tag"
	kind      string
	payload   []byte
	signature []byte
}

var errUnsigned = errors.New("it is not signed")

// split takes a commit or tag object apart as Git does, and refuses whatever
// two readers could understand in two ways.
func split(object []byte) (*signed, error) {
	var s *signed
	var err error
	switch {
	case bytes.HasPrefix(object, []byte("tree ")):
		s, err = splitCommit(object)
	case bytes.HasPrefix(object, []byte("object ")):
		s, err = splitTag(object)
	default:
		return nil, errors.New("the object is neither a commit nor a tag")
	}
	if err != nil {
		return nil, err
	}
	return s, s.classify()
}

// splitCommit cuts the header "gpgsig" out, whose further lines start with a space.
func splitCommit(object []byte) (*signed, error) {
	head, message, ok := bytes.Cut(object, []byte("\n\n"))
	if !ok || bytes.IndexByte(object, 0) >= 0 {
		return nil, errors.New("the commit is malformed")
	}
	s := &signed{object: "commit"}
	found, inside := 0, false
	for line := range strings.SplitSeq(string(head), "\n") {
		text, more := strings.CutPrefix(line, " ")
		if !more {
			key, value, _ := strings.Cut(line, " ")
			if key == "gpgsig-sha256" {
				return nil, errors.New("it has the signature of a SHA-256 repository, which is not supported")
			}
			inside, text = key == "gpgsig", value
			if inside {
				found++
			}
		}
		if inside {
			s.signature = append(append(s.signature, text...), '\n')
			continue
		}
		s.payload = append(append(s.payload, line...), '\n')
	}
	if found > 1 {
		return nil, errors.New("the commit has more than one signature")
	}
	if found == 0 {
		return nil, errUnsigned
	}
	s.payload = append(append(s.payload, '\n'), message...)
	return s, nil
}

// splitTag cuts off the signature, which ends the message.
func splitTag(object []byte) (*signed, error) {
	if bytes.IndexByte(object, 0) >= 0 || !bytes.Contains(object, []byte("\n\n")) {
		return nil, errors.New("the tag is malformed")
	}
	head, _, _ := bytes.Cut(object, []byte("\n\n"))
	if bytes.Contains(head, []byte("\ngpgsig")) {
		return nil, errors.New("the tag has a signature in its header, which is not supported")
	}
	at := bytes.Index(object[len(head):], []byte("\n-----BEGIN "))
	if at < 0 {
		return nil, errUnsigned
	}
	at += len(head) + 1
	return &signed{object: "tag", payload: object[:at], signature: object[at:]}, nil
}

// classify finds out the kind of the signature, which must be one block and
// nothing else.
func (s *signed) classify() error {
	first, _, _ := strings.Cut(string(s.signature), "\n")
	end := ""
	switch first {
	case "-----BEGIN PGP SIGNATURE-----":
		s.kind, end = KindPGP, "-----END PGP SIGNATURE-----\n"
	case "-----BEGIN SSH SIGNATURE-----":
		s.kind, end = KindSSH, "-----END SSH SIGNATURE-----\n"
	case "-----BEGIN SIGNED MESSAGE-----":
		return errors.New("it has an X.509 signature, which is not supported")
	default:
		return fmt.Errorf("it has a signature of an unknown kind: %.40q", first)
	}
	text := string(bytes.TrimRight(s.signature, "\n")) + "\n"
	if strings.Count(text, "-----BEGIN ") != 1 || strings.Count(text, "-----END ") != 1 || !strings.HasSuffix(text, "\n"+end) {
		return errors.New("its signature is not one block, or something follows it")
	}
	return nil
}
