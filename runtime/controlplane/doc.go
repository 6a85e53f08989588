// Package controlplane runs a real Kubernetes control plane from Go modules alone.
package controlplane
