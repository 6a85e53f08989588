// Package check holds the dashboards and alerts of package observe to what
// Prometheus makes of them: its parser, its engine and its rules. It is a module
// of its own because Prometheus is large. It has tests only.
package check
