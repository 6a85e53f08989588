package lib

import (
	"context"
	_ "embed"
	"errors"
	"flag" // want `import of flag: flags belong to programs`
	"fmt"
	"io"
	"log" // want `import of log: return values`
	"log/slog"
	"os"
	"os/exec" // want `import of os/exec: use a library`
	"regexp"
	"testing" // want `import of testing: take the few methods needed`
	"time"
)

var ErrGone = errors.New("gone")

var pattern = regexp.MustCompile("a+")

var _ io.Reader = (*os.File)(nil)

//go:embed lib.go
var source string

var cache = map[string]int{} // want `cache is state of the whole process`

var (
	a, b = 1, 2            // want `a is state` `b is state`
	typed  *os.PathError    // want `typed is state`
)

func init() {} // want `init runs behind the back`

type server struct{}

func (server) init() {}

func Work(ctx context.Context, w io.Writer, l *slog.Logger) error {
	_ = os.Getenv("HOME")      // want `os.Getenv in a library: the environment belongs to programs`
	look := os.LookupEnv       // want `os.LookupEnv in a library`
	_, _ = look("HOME")
	ctx = context.Background() // want `context.Background in a library: take a context`
	fmt.Println(source)        // want `fmt.Println in a library: libraries do not print`
	fmt.Fprintln(w, pattern)
	time.Sleep(time.Second)    // want `time.Sleep in a library`
	if a == b {
		panic("no")            // want `panic in a library: return an error`
	}
	if a > b {
		os.Exit(1)             // want `os.Exit in a library`
	}
	log.Println(cache, typed, flag.Args())
	_ = testing.Testing
	panic := func(string) {}
	panic("a function of the same name is fine")
	return exec.CommandContext(ctx, "true").Run()
}
