package source_test

import (
	"errors"
	"io/fs"
	"testing"
	"testing/fstest"

	"github.com/gitopskit/gitopskit/source"
)

func TestMemory(t *testing.T) {
	tree, err := source.Memory(map[string][]byte{"a": []byte("1"), "dir/b": []byte("2"), "dir/c/d": nil})
	if err != nil {
		t.Fatal(err)
	}
	if err := fstest.TestFS(tree, "a", "dir/b", "dir/c/d"); err != nil {
		t.Error(err)
	}
	if data, err := fs.ReadFile(tree, "dir/b"); err != nil || string(data) != "2" {
		t.Errorf("dir/b = %q, %v", data, err)
	}
	for _, files := range []map[string][]byte{{"../a": nil}, {"/a": nil}, {".": nil}, {"a": nil, "a/b": nil}} {
		if _, err := source.Memory(files); !errors.Is(err, source.ErrUnsafePath) {
			t.Errorf("%v: %v", files, err)
		}
	}
}
