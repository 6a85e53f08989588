// Command lint reports mistakes in the Go code of every module of the repository. It checks correctness and the
// project's own rules, never layout. Run it from the repository:
//
//	go -C tools run ./lint             # all modules
//	go -C tools run ./lint ./ssa/...   # some packages of the module at the root
//
// The analysis runs under go vet, which caches it for each package: a second run over unchanged code takes seconds.
//
// A finding that is right to ignore is ignored where it stands, by name and with the reason:
//
//	defer f.Close() //nolint:errcheck // it was only read
//
// A comment on a line of its own covers the declaration or statement below it. A comment without a name, without a
// reason, with a name nobody answers to, or with nothing to ignore is itself a finding.
package main
