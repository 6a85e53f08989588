package helm

import (
	"math"
	"time"
)

// LoadLimits bound what loading a chart may cost. A zero field means its
// default; set a field to math.MaxInt or math.MaxInt64 to lift a bound.
type LoadLimits struct {
	// Archive is the size of the compressed archive. Default 64 MiB.
	Archive int64
	// Unpacked is what all files add up to, those of packed dependencies
	// included. Default 100 MiB, as in Helm.
	Unpacked int64
	// File is the size of one file. Default 5 MiB, as in Helm.
	File int64
	// Files is the number of files, those of packed dependencies included.
	// Default 20,000.
	Files int
	// Depth is how many charts may be packed in one another. Default 16.
	Depth int
}

func (l LoadLimits) withDefaults() LoadLimits {
	if l.Archive == 0 {
		l.Archive = 64 << 20
	}
	if l.Unpacked == 0 {
		l.Unpacked = 100 << 20
	}
	if l.File == 0 {
		l.File = 5 << 20
	}
	if l.Files == 0 {
		l.Files = 20_000
	}
	if l.Depth == 0 {
		l.Depth = 16
	}
	return l
}

// tar is the size of the largest stream that holds a chart within the limits:
// 2 KiB a file for its header and padding.
func (l LoadLimits) tar() int64 {
	if overhead := 2048 * (int64(l.Files) + 1); overhead > 0 && l.Unpacked < math.MaxInt64-overhead {
		return l.Unpacked + overhead
	}
	return math.MaxInt64
}

// RenderLimits bound what a render may cost. A zero field means its default.
type RenderLimits struct {
	// Time is how long the templates may run. Default one minute: large
	// charts take less than a second.
	Time time.Duration
	// Output is the size of everything the templates write. Default 64 MiB:
	// a release of Helm must fit into 1 MiB compressed.
	Output int64
	// Objects is the number of objects, hooks and definitions. Default 20,000.
	Objects int
}

func (l RenderLimits) withDefaults() RenderLimits {
	if l.Time == 0 {
		l.Time = time.Minute
	}
	if l.Output == 0 {
		l.Output = 64 << 20
	}
	if l.Objects == 0 {
		l.Objects = 20_000
	}
	return l
}
