package kustomize

import (
	"fmt"
	"math"
	"time"
)

// jsonValue turns what a YAML decoder returns into the types of unstructured
// content: maps, slices, string, bool, nil, int64 and float64. It reuses maps
// and slices, which belong to the caller.
func jsonValue(v any) (any, error) {
	switch v := v.(type) {
	case map[string]any:
		for k, e := range v {
			e, err := jsonValue(e)
			if err != nil {
				return nil, fmt.Errorf("%s: %w", k, err)
			}
			v[k] = e
		}
		return v, nil
	case []any:
		for i, e := range v {
			e, err := jsonValue(e)
			if err != nil {
				return nil, fmt.Errorf("[%d]: %w", i, err)
			}
			v[i] = e
		}
		return v, nil
	case nil, string, bool, int64:
		return v, nil
	case int:
		return int64(v), nil
	case uint64:
		return float64(v), nil // beyond int64, as encoding/json does
	case float64:
		if math.IsNaN(v) || math.IsInf(v, 0) {
			return nil, fmt.Errorf("%w: JSON has no %v", ErrInvalid, v)
		}
		if v == math.Trunc(v) && math.Abs(v) < 1<<53 {
			return int64(v), nil // 1.0 and 1e3 are written as integers
		}
		return v, nil
	case time.Time: // an unquoted YAML timestamp
		return v.Format(time.RFC3339Nano), nil
	default:
		return nil, fmt.Errorf("%w: a value of type %T is not JSON", ErrInvalid, v)
	}
}
