package testenv_test

import (
	"testing"

	"github.com/gitopskit/gitopskit/runtime/testenv"
)

func TestStart(t *testing.T) {
	e := testenv.Start(t)
	t.Log(e.Namespace, e.Config().Host, e.Server.Version())
}
