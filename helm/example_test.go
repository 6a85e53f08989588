package helm_test

import (
	"context"
	"fmt"
	"testing/fstest"

	"github.com/gitopskit/gitopskit/helm"
)

func Example() {
	ctx := context.Background()
	files := fstest.MapFS{ // or os.Root, embed.FS, the artifact of a source
		"Chart.yaml":       {Data: []byte("apiVersion: v2\nname: web\nversion: 1.0.0\n")},
		"values.yaml":      {Data: []byte("replicas: 1\n")},
		"templates/a.yaml": {Data: []byte("apiVersion: v1\nkind: ConfigMap\nmetadata:\n  name: {{ .Release.Name }}\ndata:\n  replicas: \"{{ .Values.replicas }}\"\n")},
	}
	chart, err := helm.Load(ctx, files, ".", nil)
	if err != nil {
		fmt.Println(err)
		return
	}
	lookup := func(_ context.Context, _, _ string) (map[string][]byte, error) { // from a cluster, a directory, …
		return map[string][]byte{"values.yaml": []byte("replicas: 2\n")}, nil
	}
	values, err := helm.Compose(ctx, lookup, map[string]any{"replicas": 3}, helm.Reference{Kind: "ConfigMap", Name: "defaults"})
	if err != nil {
		fmt.Println(err)
		return
	}
	result, err := helm.Render(ctx, chart, helm.Release{Name: "shop", Namespace: "apps"}, values, nil)
	if err != nil {
		fmt.Println(err)
		return
	}
	for _, o := range result.Objects {
		fmt.Println(o.GetKind(), o.GetName(), o.Object["data"])
	}
	// Output: ConfigMap shop map[replicas:3]
}
