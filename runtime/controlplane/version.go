package controlplane

import (
	"runtime/debug"

	apimachineryversion "k8s.io/apimachinery/pkg/version"
	"k8s.io/component-base/compatibility"
)

// kubernetesVersion is the version of k8s.io/kubernetes in go.mod; a test holds the two together.
const kubernetesVersion = "v1.36.3"

// KubernetesVersion returns the version of Kubernetes this package is built from, such as "v1.36.3". It is what the
// server reports at /version. When another module selects a newer k8s.io/kubernetes, it is that version.
func KubernetesVersion() string {
	info, ok := debug.ReadBuildInfo()
	if !ok {
		return kubernetesVersion
	}
	for _, m := range info.Deps {
		if m.Path == "k8s.io/kubernetes" {
			return m.Version
		}
	}
	return kubernetesVersion
}

// ModuleVersion returns the version of this module as recorded in the running program: "(devel)" when it is built from a
// checkout, or "unknown" without build information.
func ModuleVersion() string {
	const path = "github.com/gitopskit/gitopskit/runtime/controlplane"
	info, ok := debug.ReadBuildInfo()
	if !ok {
		return "unknown"
	}
	if info.Main.Path == path {
		return info.Main.Version
	}
	for _, m := range info.Deps {
		if m.Path == path {
			return m.Version
		}
	}
	return "unknown"
}

// trueVersion is an effective version that reports the release it is built from. Kubernetes takes that from variables set
// by linker flags, which a program installed with "go install" does not have: it would report v0.0.0-master.
type trueVersion struct {
	compatibility.EffectiveVersion
	gitVersion string
}

// Info returns what the server answers at /version.
func (v trueVersion) Info() *apimachineryversion.Info {
	info := v.EffectiveVersion.Info()
	if info == nil {
		return nil
	}
	info.GitVersion = v.gitVersion
	info.GitCommit, info.GitTreeState, info.BuildDate = "", "", ""
	return info
}
