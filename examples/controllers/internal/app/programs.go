package app

import "github.com/gitopskit/gitopskit/examples/controllers/internal/kinds"

// Programs are the programs by the names of their directories.
func Programs() map[string]Program {
	source := []Kind{Of(kinds.GitRepository), Of(kinds.OCIRepository), Of(kinds.Bucket), Of(kinds.HelmRepository), Of(kinds.HelmChart), Of(kinds.ArtifactGenerator)}
	kustomize, helm := Of(kinds.Kustomization), Of(kinds.HelmRelease)
	reflector, automation := []Kind{Of(kinds.ImageRepository), Of(kinds.ImagePolicy)}, Of(kinds.ImageUpdateAutomation)
	receiver := Of(kinds.Receiver)
	return map[string]Program{
		"source":           {Name: "source-controller", Stores: true, Kinds: source},
		"kustomize":        {Name: "kustomize-controller", Applies: true, Kinds: []Kind{kustomize}},
		"helm":             {Name: "helm-controller", Kinds: []Kind{helm}},
		"notification":     {Name: "notification-controller", Notifies: true, Kinds: []Kind{receiver}},
		"image-reflector":  {Name: "image-reflector-controller", Kinds: reflector},
		"image-automation": {Name: "image-automation-controller", Kinds: []Kind{automation}},
		"all": {Name: "gitopskit", Stores: true, Applies: true, Notifies: true, Kinds: append(append(append([]Kind{}, source...), kustomize, helm),
			append(reflector, automation, receiver)...)},
	}
}
