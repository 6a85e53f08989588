package tested

import _ "github.com/onsi/gomega" // want `import of github.com/onsi/gomega: use testing and go-cmp`
