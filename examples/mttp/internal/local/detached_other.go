//go:build !linux

package local

import "syscall"

// detached is for Linux only: elsewhere an interrupt from the terminal ends
// the controllers too, and the clean-up is the end of the control plane.
func detached() *syscall.SysProcAttr { return nil }
