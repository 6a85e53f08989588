// Command prepare builds the control plane program that package testenv uses, so that the tests after it need not wait.
//
//	go run github.com/gitopskit/gitopskit/runtime/testenv/prepare
//
// It prints the path of the program on standard output and progress on standard error.
package main

import (
	"context"
	"fmt"
	"os"
	"os/signal"

	"github.com/gitopskit/gitopskit/runtime/testenv"
)

func main() {
	ctx, cancel := signal.NotifyContext(context.Background(), os.Interrupt)
	path, err := testenv.Prepare(ctx, os.Stderr)
	cancel()
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	fmt.Println(path)
}
