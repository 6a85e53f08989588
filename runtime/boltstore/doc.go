// Package boltstore keeps the states of the loop of package runtime in a file, so that a restart goes on where the
// process was: keys are due when they were due, and only those that have changed run at once.
//
//	store := &boltstore.Store[string]{Path: "/var/lib/deployer/states.db"}
//	defer store.Close()
//	loop, err := rt.New(deploy, &rt.Options[string]{Store: store})
//	...
//	err = loop.Run(ctx)
//
// The file is a bbolt database of mode 0600 for one process at a time. Each record carries a checksum: one that is
// damaged costs its key only. A file that is damaged itself, for instance cut short, is moved aside, with ".damaged" at
// the end of its name, and a new one is begun. In either case the keys concerned have a pass at once, as new keys
// have.
//
// # Errors
//
// All errors are [*Error], with the operation and the path. The file is opened when it is first needed and an open
// that fails is tried again with the next call, so that a directory that is not there yet, or a disk that is full,
// keeps no process from starting: the loop logs the error and goes on in memory.
//
// # Concurrency
//
// A Store is safe for concurrent use, but each batch is synced to the disk before the next one. One process has the file
// at a time: others fail after Store.Timeout.
//
// # What it does not do
//
// It does not encrypt: states hold revisions and the text of errors. It does not shrink the file.
package boltstore
