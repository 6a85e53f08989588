package local

import "syscall"

// detached has a process end with this one, however that ends, and not get the
// signals of a terminal's keys, which are for this one.
func detached() *syscall.SysProcAttr {
	return &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL}
}
