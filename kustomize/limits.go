package kustomize

// Limits bound what a build may cost. A zero field means its default; set a
// field to math.MaxInt or math.MaxInt64 to lift a bound.
type Limits struct {
	// FileBytes is the size of one file. Default 16 MiB: ten times the largest
	// manifest the API server would accept.
	FileBytes int64
	// Bytes is what all reads of one build may add up to; a file that is
	// referenced twice counts twice. Default 128 MiB.
	Bytes int64
	// Files is the number of file reads of one build. Default 20,000. It ends
	// builds whose overlays multiply.
	Files int
	// Objects is the number of objects of the result. Default 50,000.
	Objects int
}

func (l Limits) withDefaults() Limits {
	if l.FileBytes == 0 {
		l.FileBytes = 16 << 20
	}
	if l.Bytes == 0 {
		l.Bytes = 128 << 20
	}
	if l.Files == 0 {
		l.Files = 20_000
	}
	if l.Objects == 0 {
		l.Objects = 50_000
	}
	return l
}
