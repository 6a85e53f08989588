package sops_test

import (
	"context"
	"fmt"
	"os"

	"github.com/gitopskit/gitopskit/kustomize"
	"github.com/gitopskit/gitopskit/kustomize/sops"
)

func Example() {
	key, err := os.ReadFile("testdata/example/test.agekey")
	if err != nil {
		fmt.Println(err)
		return
	}
	keys, err := sops.ParseKeys(map[string][]byte{"test.agekey": key})
	if err != nil {
		fmt.Println(err)
		return
	}
	objects, err := kustomize.Build(context.Background(), keys.FS(os.DirFS("testdata/example")), ".", nil)
	if err != nil {
		fmt.Println(err)
		return
	}
	fmt.Println(objects[0].GetName(), objects[0].Object["stringData"])
	// Output: login map[password:correct horse]
}
