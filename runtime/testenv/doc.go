// Package testenv gives tests a real Kubernetes API server, and programs one to show something with. There is nothing to
// install: the server is built from Go modules when it is first needed, and kept.
//
//	func TestApply(t *testing.T) {
//		env := testenv.Start(t)
//		client, err := dynamic.NewForConfig(env.Config())
//		if err != nil {
//			t.Fatal(err)
//		}
//		configMaps := client.Resource(gvr).Namespace(env.Namespace)
//		// ...
//	}
//
// Start gives the test a namespace of its own in a server that all tests of the process share; it has controllers and two
// simulated nodes, on which pods become ready though nothing runs. StartServer gives the test a server of its own. Launch is
// for programs that are not tests. Tests fail when there is no server; they are never skipped.
//
// # Where the server comes from
//
// The first of these that applies is used:
//
//   - Options.Binary, or the program that the environment variable GITOPSKIT_CONTROLPLANE names;
//   - the programs etcd and kube-apiserver in the directory that KUBEBUILDER_ASSETS names. They are an API server alone, so
//     only a server without controllers and nodes is made of them;
//   - the program github.com/gitopskit/gitopskit/runtime/controlplane/cmd/controlplane, built by the go command from the source
//     beside this package, or from the released module.
//
// # The first build
//
// It compiles 2300 packages, which takes some seven minutes on two cores, downloads of modules aside; progress with an
// estimate is shown. The program is kept in the user's cache directory, below gitopskit/controlplane, under a name made
// from toolchain, platform and source. Any number of test processes may need it at once: one builds, the others wait for
// it. A test whose time limit is nearly reached gives up with an error that says so; what has been compiled is kept by the
// go command. To build before the tests, run
//
//	go run github.com/gitopskit/gitopskit/runtime/testenv/prepare
//
// # What a server leaves behind
//
// Nothing: it ends with Stop, after the test, or, like the shared one, when the process ends, even when that is killed; its
// files go with it. While the shared server runs, two goroutines of this package do; see Goroutine for leak detectors.
//
// # Errors
//
// Every error is an *Error that says what to do, with the end of the log when a program ended. It matches ErrNoBinary
// or ErrExited where one of these applies.
//
// # What it does not do
//
// It has no client for Kubernetes' objects: use the one you test with. It installs no definitions and loads no manifests.
// It does not run containers.
package testenv
