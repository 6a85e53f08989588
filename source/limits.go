package source

import "fmt"

// Unlimited turns a field of Limits off.
const Unlimited = -1

// Limits bound what a hostile or mistaken upstream can cost. The zero value
// stands for the defaults named at each field; Unlimited turns one off.
// Reaching a limit is an ErrLimit that names it.
type Limits struct {
	// Download is the number of bytes received for one operation: 256 MiB, as
	// much as a large monorepo without its history.
	Download int64
	// Unpacked is the total size of all files in bytes: 512 MiB, so that a
	// small download cannot fill memory or disk.
	Unpacked int64
	// File is the size of the largest file in bytes: 64 MiB, far above any
	// manifest and any chart.
	File int64
	// Files is the number of files and directories: 100,000.
	Files int
	// Depth is how many directories may be nested: 64.
	Depth int
}

// OrDefaults returns the limits with each zero field set to its default and
// each unlimited one to the largest value, so that an implementation can
// simply compare.
func (l Limits) OrDefaults() Limits {
	const maxInt64, maxInt = 1<<63 - 1, int(^uint(0) >> 1)
	return Limits{
		Download: orDefault(l.Download, 256<<20, maxInt64),
		Unpacked: orDefault(l.Unpacked, 512<<20, maxInt64),
		File:     orDefault(l.File, 64<<20, maxInt64),
		Files:    orDefault(l.Files, 100_000, maxInt),
		Depth:    orDefault(l.Depth, 64, maxInt),
	}
}

func orDefault[T int | int64](v, def, most T) T {
	switch {
	case v == 0:
		return def
	case v < 0:
		return most
	}
	return v
}

// Validate returns an ErrInvalidSpec for a negative field that is not Unlimited.
func (l Limits) Validate() error {
	for name, v := range map[string]int64{
		"Download": l.Download, "Unpacked": l.Unpacked, "File": l.File, "Files": int64(l.Files), "Depth": int64(l.Depth),
	} {
		if v < Unlimited {
			return fmt.Errorf("%w: limit %s is %d: use source.Unlimited for no limit", ErrInvalidSpec, name, v)
		}
	}
	return nil
}
