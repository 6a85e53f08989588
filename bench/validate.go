package main

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

	"github.com/gitopskit/gitopskit/ssa"
	"github.com/gitopskit/gitopskit/ssa/schema"
)

// definition is of a kind with rules in CEL.
const definition = `
apiVersion: apiextensions.k8s.io/v1
kind: CustomResourceDefinition
metadata: {name: backups.bench.example.com}
spec:
  group: bench.example.com
  scope: Namespaced
  names: {plural: backups, singular: backup, kind: Backup}
  versions:
  - name: v1
    served: true
    storage: true
    schema:
      openAPIV3Schema:
        type: object
        required: [spec]
        properties:
          spec:
            type: object
            required: [keep, targets]
            x-kubernetes-validations:
            - {rule: "self.least <= self.keep", message: least must not exceed keep}
            - {rule: "has(self.schedule) != has(self.interval)", message: one of schedule and interval}
            properties:
              keep: {type: integer, minimum: 1, maximum: 100}
              least: {type: integer, default: 1}
              schedule: {type: string, maxLength: 64}
              interval: {type: string, format: duration}
              targets:
                type: array
                maxItems: 16
                x-kubernetes-list-type: map
                x-kubernetes-list-map-keys: [name]
                x-kubernetes-validations: [{rule: "self.all(t, t.path.startsWith('/'))", message: paths are absolute}]
                items:
                  type: object
                  required: [name, path]
                  properties:
                    name: {type: string, pattern: "^[a-z]+$", maxLength: 20}
                    path: {type: string, maxLength: 200}
`

// measureValidation validates n custom resources without a cluster, several times, and returns the middle of the times.
// The definition is compiled before.
func measureValidation(ctx context.Context, n int) (time.Duration, error) {
	definitions, err := ssa.ReadObjects(strings.NewReader(definition))
	if err != nil {
		return 0, err
	}
	set, err := (&schema.Set{}).With(definitions...)
	if err != nil {
		return 0, err
	}
	objects := make([]*unstructured.Unstructured, n)
	for i := range objects {
		objects[i] = manifest("bench.example.com/v1", "Backup", fmt.Sprint("backup-", i), map[string]any{"spec": map[string]any{
			"keep": int64(7), "schedule": "0 3 * * *",
			"targets": []any{
				map[string]any{"name": "data", "path": "/var/lib/data"},
				map[string]any{"name": "logs", "path": "/var/log"},
			},
		}})
	}
	var times []time.Duration
	for range 6 {
		start := time.Now()
		if faults := set.Validate(ctx, objects, nil); len(faults) > 0 {
			return 0, fmt.Errorf("valid objects are refused: %s", faults[0])
		}
		times = append(times, time.Since(start))
	}
	times = times[1:] // the first compiles
	slices.Sort(times)
	return times[len(times)/2], nil
}
