// Package writeback commits what image/update plans, as Flux's
// ImageUpdateAutomation does.
//
//	w, err := writeback.New(repository, writeback.Person{Name: "Robot", Email: "robot@example.com"}, &writeback.Options{
//		Message:    writeback.Message{Template: "update {{ range .Changed.Changes }}{{ .NewValue }} {{ end }}"},
//		PushBranch: "image-updates",
//	})
//	if err != nil {
//		return err // everything that is wrong with the options, at once
//	}
//	result, err := w.Write(ctx, func(ctx context.Context, tree fs.FS) (*update.Plan, error) {
//		return update.Setters(ctx, tree, policies, nil)
//	})
//	if err == nil && result.Changed() {
//		log.Info("pushed", "revision", result.Revision, "branch", result.Branch)
//	}
//
// A Repository is anything with a Fetch and a Push; the example has the forty
// lines that make one of package source/git.
//
// # Writing
//
// Write fetches the branch, asks for a plan, and pushes one commit with all of
// its files. When nothing has to change, there is no commit. When somebody else
// pushed in between, everything is done again on what is there now, the plan
// included, so that several automations share a branch. Nothing is ever pushed
// over commits that were not seen.
//
// With Options.PushBranch the commit goes to another branch, which is made if it
// does not exist. If it does, the commit goes on top of what is there: a change
// that waits there already is not made twice.
//
// # Messages
//
// A Message is a template of package text/template with the data of Flux:
// .AutomationObject, .Changed and .Values. Of the functions of Sprig those are
// there that depend on their arguments only and are cheap. Loops, recursion,
// values and the output are bounded, so that no template can cost more than a
// second or so. All orders are fixed: the same change has the same message.
// .Updated, which Flux removed, is an ErrRemovedField.
//
// # Errors
//
// Errors are *Error: ErrInvalid for options, and ErrRemovedField, both terminal;
// ErrTemplate for a message that cannot be made; ErrMoved when others were
// faster each time; or what the repository or the plan reported.
//
// # Concurrency
//
// A Writer is safe for concurrent use if its Repository and Signer are.
//
// The package does not open pull requests, force a push or rebase.
package writeback
