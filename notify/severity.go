package notify

import "fmt"

// Severity says how bad an event is; a larger one is worse.
type Severity int8

// The severities.
const (
	// SeverityTrace is a step on the way, of interest when something is being looked into.
	SeverityTrace Severity = -1
	// SeverityInfo is a change or a success; the zero value.
	SeverityInfo Severity = 0
	// SeverityError is a failure.
	SeverityError Severity = 1
)

// ParseSeverity reads trace, info or error; "" is info.
func ParseSeverity(s string) (Severity, error) {
	switch s {
	case "trace":
		return SeverityTrace, nil
	case "info", "":
		return SeverityInfo, nil
	case "error":
		return SeverityError, nil
	}
	return 0, fmt.Errorf("severity %q: want trace, info or error", shorten(s, 32))
}

func (s Severity) String() string {
	switch s {
	case SeverityTrace:
		return "trace"
	case SeverityInfo:
		return "info"
	case SeverityError:
		return "error"
	}
	return fmt.Sprintf("severity(%d)", int8(s))
}

// MarshalText returns trace, info or error, and an error for any other value.
func (s Severity) MarshalText() ([]byte, error) {
	if s < SeverityTrace || s > SeverityError {
		return nil, fmt.Errorf("%v: want SeverityTrace, SeverityInfo or SeverityError", s)
	}
	return []byte(s.String()), nil
}

// UnmarshalText reads what [ParseSeverity] does.
func (s *Severity) UnmarshalText(text []byte) error {
	v, err := ParseSeverity(string(text))
	if err != nil {
		return err
	}
	*s = v
	return nil
}
