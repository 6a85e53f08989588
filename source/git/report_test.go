package git

import (
	"errors"
	"strings"
	"testing"

	"github.com/gitopskit/gitopskit/source"
)

func report(lines ...string) string {
	var w pktWriter
	for _, line := range lines {
		w.line("%s", line)
	}
	w.flush()
	return w.String()
}

func TestReport(t *testing.T) {
	moves := []move{{ref: "refs/heads/main"}, {ref: "refs/heads/b"}}
	for name, test := range map[string]struct {
		text    string
		refused string
		err     error
	}{
		"ok":             {report("unpack ok", "ok refs/heads/main", "ok refs/heads/b"), "", nil},
		"options":        {report("unpack ok", "ok refs/heads/main", "option refname refs/heads/x", "ok refs/heads/b"), "", nil},
		"unpack":         {report("unpack index-pack abnormal exit", "ng refs/heads/main unpacker error"), "index-pack abnormal exit; the server says: fatal: bad", nil},
		"one of two":     {report("unpack ok", "ng refs/heads/main protected branch hook declined", "ng refs/heads/b atomic"), "refs/heads/main: protected branch hook declined", nil},
		"nothing on one": {report("unpack ok", "ok refs/heads/main"), "", errProtocol},
		"nothing":        {report(), "", errProtocol},
		"garbage":        {report("hello"), "", errProtocol},
		"cut":            {strings.TrimSuffix(report("unpack ok"), "0000"), "", source.ErrUnavailable},
		"error":          {"0010ERR no space", "", &remoteError{"no space"}},
	} {
		words := &tail{}
		_, _ = words.Write([]byte("fatal: bad"))
		refused, err := readReport(newPktReader(strings.NewReader(test.text)), moves, words)
		if refused != nil && (test.refused == "" || !errors.Is(refused, ErrRejected) || !strings.Contains(refused.Error(), test.refused)) || refused == nil && test.refused != "" {
			t.Errorf("%s: refused %v, want %q", name, refused, test.refused)
		}
		if (err == nil) != (test.err == nil) {
			t.Errorf("%s: %v, want %v", name, err, test.err)
		}
	}
}

func FuzzReport(f *testing.F) {
	f.Add([]byte(report("unpack ok", "ok refs/heads/main")))
	f.Add([]byte(report("unpack ok", "ng refs/heads/main no")))
	f.Fuzz(func(t *testing.T, data []byte) {
		refused, err := readReport(newPktReader(strings.NewReader(string(data))), []move{{ref: "refs/heads/main"}}, &tail{})
		if refused == nil && err == nil && !strings.Contains(string(data), "ok refs/heads/main") {
			t.Errorf("%q counts as success", data)
		}
	})
}
