package update_test

import (
	"context"
	"fmt"
	"testing/fstest"

	"github.com/gitopskit/gitopskit/image"
	"github.com/gitopskit/gitopskit/image/update"
)

func Example() {
	tree := fstest.MapFS{"apps/web.yaml": {Data: []byte(`kind: Deployment
metadata: { name: web }
spec:
    image:   "ghcr.io/org/web:1.1.0"   # {"$imagepolicy": "apps:web"}
    sidecar: proxy:1                   # {"$imagepolicy": "apps:proxy"}
`)}}
	policies := map[string]image.Ref{"apps:web": {Name: "ghcr.io/org/web", Tag: "1.2.0"}}
	plan, err := update.Setters(context.Background(), tree, policies, nil)
	if err != nil {
		fmt.Println(err)
		return
	}
	for _, c := range plan.Changes {
		fmt.Printf("%s:%d %s %s: %s -> %s\n", c.File, c.Line, c.Object.Kind, c.Object.Name, c.Old, c.New)
	}
	for _, s := range plan.Skipped {
		fmt.Printf("%s:%d %s: %s\n", s.File, s.Line, s.Reason, s.Detail)
	}
	fmt.Print(string(plan.Files()["apps/web.yaml"]))
	// Output:
	// apps/web.yaml:4 Deployment web: ghcr.io/org/web:1.1.0 -> ghcr.io/org/web:1.2.0
	// apps/web.yaml:5 UnknownPolicy: there is no policy apps:proxy
	// kind: Deployment
	// metadata: { name: web }
	// spec:
	//     image:   "ghcr.io/org/web:1.2.0"   # {"$imagepolicy": "apps:web"}
	//     sidecar: proxy:1                   # {"$imagepolicy": "apps:proxy"}
}
