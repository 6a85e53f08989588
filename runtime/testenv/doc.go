// Package testenv gives tests a real Kubernetes API server.
package testenv
