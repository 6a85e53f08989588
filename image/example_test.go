package image_test

import (
	"context"
	"fmt"
	"net/http/httptest"
	"strings"

	"github.com/gitopskit/gitopskit/image"
	"github.com/gitopskit/gitopskit/internal/registry"
)

func Example() {
	srv := registry.New()
	srv.Tag("org/app", srv.PutImage("org/app", nil), "1.0.0", "1.2.0", "2.0.0-rc.1", "main-8", "main-11")
	web := httptest.NewServer(srv)
	defer web.Close()
	ctx, name := context.Background(), web.Listener.Addr().String()+"/org/app"

	scanner, err := image.NewScanner(name, &image.ScannerOptions{Client: image.Client{Insecure: true}})
	if err != nil {
		fmt.Println(err)
		return
	}
	tags, err := scanner.Scan(ctx)
	if err != nil {
		fmt.Println(err)
		return
	}
	for _, policy := range []image.Policy{
		image.SemVer{Range: "1.x"},
		image.Filter{Pattern: `^main-(\d+)$`, Extract: "$1", Policy: image.Numerical{}},
	} {
		selected, err := policy.Select(tags.All())
		fmt.Println(selected.Tag, err)
	}
	ref, err := scanner.Reflect(ctx, image.IfNotPresent, image.Ref{}, image.Ref{Name: name, Tag: "1.2.0"})
	fmt.Println(strings.HasPrefix(ref.Digest, "sha256:"), err)
	// Output:
	// 1.2.0 <nil>
	// main-11 <nil>
	// true <nil>
}
