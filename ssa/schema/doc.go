// Package schema knows the kinds of Kubernetes and of custom resource
// definitions, and checks objects against them as an API server would, with no
// cluster.
//
//	manifests, err := schema.Load(os.DirFS("deploy"), nil, nil)
//	if err != nil {
//		return err // not YAML, or a key twice
//	}
//	set, err := schema.Builtin("1.36")
//	if err != nil {
//		return err
//	}
//	set, err = set.With(manifests.Objects...) // the definitions among them
//	if err != nil {
//		return err // a definition that the API server would refuse
//	}
//	for _, v := range set.Validate(ctx, manifests.Objects, &schema.ValidateOptions{Manifests: manifests}) {
//		fmt.Println(v)
//	}
//
// prints, for instance,
//
//	app/web.yaml:17: Deployment/shop/web: spec.replicass: unknown field, did you mean replicas?
//
// # Sets
//
// A [Set] is made of kinds: those of a Kubernetes version ([Builtin]), those
// that a server publishes ([FromOpenAPI]), and custom resources ([Set.With]).
// It lists them ([Set.Kinds]), maps them to resources ([Set.Mapper]), gives
// their types for server-side apply ([Set.TypeConverter]), and does to objects
// what a server does: [Set.Prune], [Set.Default], [Set.Validate],
// [Set.ValidateUpdate].
//
// The schemas of Kubernetes are those that a server of the release publishes,
// captured by tools/schemas from the release itself and compared with a running
// server by a test. All versions together take 43 KB in a program. [Builtin]
// unpacks one version in some 5 ms and 0.5 MB; the types of a group version
// cost some 10 ms at their first use, and 6 MB for all of them. Definitions are
// validated and compiled once.
//
// # How exact it is
//
// Custom resources: the code of the API server decides, with its limits on the
// cost of rules in CEL, so the verdict is the server's. The functions of CEL
// are those of the newest version, whatever the set is.
//
// Kinds of Kubernetes: unknown fields, types, formats, required fields, allowed
// values, sets and lists with keys, names and labels are the server's verdict
// as well, field by field, which a test shows by breaking objects of some
// forty kinds in thousands of ways. Where it differs from the server:
//
//   - Rules that are code inside the server are not known: ranges of ports,
//     selectors that have to match labels, fields that exclude each other,
//     immutable fields, the syntax of schedules and addresses. Of the refusals
//     of the test, a fifth are of this sort.
//   - A number that does not fit in 32 bits is a fault here. The server cuts off
//     what does not fit, without a word.
//   - Required fields inside status, which an apply resets, may be missing.
//   - A custom resource definition is checked by the code of the server.
//
// Admission is not part of a schema: quota, policies, webhooks.
//
// # Errors
//
// A fault of an object is a [Violation]. Errors are *[Error] and match
// [ErrUnknownVersion], [ErrUnknownKind], [ErrInvalid] or [ErrLimit]; all are
// terminal. Values of Secrets are in no message.
//
// # Concurrency
//
// A Set never changes once it is made and is safe for concurrent use, and so is
// a [Manifests] that nobody decodes into. Objects given are never changed.
//
// # What it does not do
//
// It fetches nothing, neither definitions nor documents of a server. It does
// not convert between versions, and does not know the defaults of the kinds of
// Kubernetes beyond those that are published. It builds no kustomizations: give
// it what was built.
package schema
