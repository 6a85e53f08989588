package controlplane

import (
	"encoding/base64"
	"fmt"
)

// KubeconfigYAML returns the administrator's kubeconfig: the server, its certificate authority, and a client certificate
// of the group system:masters. Treat it as a secret.
func (c *ControlPlane) KubeconfigYAML() []byte {
	encode := base64.StdEncoding.EncodeToString
	return fmt.Appendf(nil, `apiVersion: v1
kind: Config
clusters:
- name: gitopskit
  cluster:
    server: %s
    certificate-authority-data: %s
users:
- name: admin
  user:
    client-certificate-data: %s
    client-key-data: %s
contexts:
- name: gitopskit
  context:
    cluster: gitopskit
    user: admin
current-context: gitopskit
`, c.URL(), encode(c.keys.ca.cert), encode(c.keys.admin.cert), encode(c.keys.admin.key))
}

// WriteKubeconfig writes the administrator's kubeconfig to a file of the caller's choice, readable by this user only. The
// file replaces one that is there, in one step; its directory must exist.
func (c *ControlPlane) WriteKubeconfig(path string) error {
	if err := writeSecret(path, c.KubeconfigYAML()); err != nil {
		return &Error{Op: "write kubeconfig", Subject: "to " + path, Err: err}
	}
	return nil
}
