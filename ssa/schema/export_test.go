package schema

import "encoding/json"

// Definitions returns the OpenAPI definitions of a set.
func Definitions(s *Set) map[string]json.RawMessage { return s.types().raw }
