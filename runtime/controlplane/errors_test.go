package controlplane

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"strings"
	"syscall"
	"testing"
)

// What the system says about a directory is kept, and what to do is added.
func TestStorageError(t *testing.T) {
	for cause, say := range map[syscall.Errno]string{
		syscall.ENOSPC:  "the disk is full",
		syscall.EDQUOT:  "quota",
		syscall.EROFS:   "read-only",
		syscall.EACCES:  "cannot be written by this user",
		syscall.EPERM:   "cannot be written by this user",
		syscall.ENOTDIR: "a part of the path is a file",
	} {
		err := error(storageError("/some/dir", fmt.Errorf("outer: %w", &fs.PathError{Op: "mkdir", Path: "/some/dir/etcd", Err: cause})))
		if !errors.Is(err, cause) || !strings.Contains(err.Error(), say) || !strings.Contains(err.Error(), "/some/dir/etcd") {
			t.Errorf("%v: %v", cause, err)
		}
	}
}

// A full disk is met by the first file that is written; /dev/full is one, for everybody including root.
func TestDiskFull(t *testing.T) {
	full, err := os.OpenFile("/dev/full", os.O_WRONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer full.Close() //nolint:errcheck // what is written is lost by intent
	err = storageError("/dev/full", writeAt(full, "text"))
	if !errors.Is(err, syscall.ENOSPC) || !strings.Contains(err.Error(), "free some space") {
		t.Errorf("got %v", err)
	}
}

// The log of a child is bounded in lines and in their length.
func TestTail(t *testing.T) {
	var all strings.Builder
	log := &tail{next: &all}
	for i := range 100 {
		fmt.Fprintf(log, "line %d %s\n", i, strings.Repeat("x", 10*i))
	}
	fmt.Fprint(log, "unfinished")
	got := strings.Split(log.String(), "\n")
	if len(got) != tailLines || !strings.HasPrefix(got[0], "line 80 ") || len(got[tailLines-1]) > tailLineBytes+len("…") {
		t.Errorf("kept %d lines from %.10q", len(got), got[0])
	}
	if !strings.HasSuffix(all.String(), "unfinished") || strings.Count(all.String(), "\n") != 100 {
		t.Error("not everything was passed on")
	}
}
