package lib

import (
	"os/exec"
	"testing"
)

func TestWork(t *testing.T) {
	if err := exec.CommandContext(t.Context(), "true").Run(); err != nil {
		t.Fatal(err)
	}
}
