// Package schema knows the kinds of Kubernetes and of custom resource
// definitions, and checks objects against them with no cluster.
//
//	set, err := schema.Builtin("1.36")
//	if err != nil {
//		return err
//	}
//	manifests, err := schema.Load(os.DirFS("deploy"), nil, nil)
//	if err != nil {
//		return err // not YAML, or a key twice
//	}
//	set, err = set.With(manifests.Objects...) // the definitions among them
//	if err != nil {
//		return err
//	}
//	for _, v := range set.Validate(ctx, manifests.Objects, &schema.ValidateOptions{Manifests: manifests}) {
//		fmt.Println(v) // app/web.yaml:17: Deployment/shop/web: spec.replicass: unknown field, did you mean replicas?
//	}
package schema
