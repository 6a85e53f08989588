package app

import (
	"flag"
	"io"
	"strings"
	"testing"
)

// TestGates: the gates of Flux are known, those that would not be honoured are refused all at once, others do not exist.
func TestGates(t *testing.T) {
	for text, want := range map[string]string{
		"": "",
		"CacheSecretsAndConfigMaps=true,DisableStatusPollerCache=false,AdditiveCELDependencyCheck=true": "",
		"StrictPostBuildSubstitutions=true": "",
		"StrictPostBuildSubstitutions=false,ObjectLevelWorkloadIdentity=true": "-feature-gates: ObjectLevelWorkloadIdentity=true is not supported: there are no identities of clouds yet\n" +
			"-feature-gates: StrictPostBuildSubstitutions=false is not supported: a variable without a value is an error",
		"Nonsense=true": `there is no feature gate "Nonsense"`,
	} {
		o := &Options{}
		f := flag.NewFlagSet("test", flag.ContinueOnError)
		f.SetOutput(io.Discard)
		o.Bind(f)
		var err error
		if text != "" {
			err = f.Parse([]string{"-feature-gates=" + text})
		}
		if err == nil {
			err = o.checkGates()
		}
		if got := strings.TrimSpace(errorText(err)); want == "" && got != "" || !strings.Contains(got, want) {
			t.Errorf("%s: %s", text, got)
		}
	}
}

func errorText(err error) string {
	if err == nil {
		return ""
	}
	return err.Error()
}
