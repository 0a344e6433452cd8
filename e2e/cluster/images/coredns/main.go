// CoreDNS with only the plugins that the local cluster's Corefile names; the stock build also compiles every cloud's SDK.
package main

import (
	"github.com/coredns/coredns/core/dnsserver"
	"github.com/coredns/coredns/coremain"

	_ "github.com/coredns/coredns/plugin/errors"
	_ "github.com/coredns/coredns/plugin/health"
	_ "github.com/coredns/coredns/plugin/hosts"
	_ "github.com/coredns/coredns/plugin/kubernetes"
	_ "github.com/coredns/coredns/plugin/ready"
	_ "github.com/coredns/coredns/plugin/template"
)

func main() {
	// Plugins run in this order, whatever the order in the Corefile.
	dnsserver.Directives = []string{"errors", "health", "ready", "hosts", "kubernetes", "template"}
	coremain.Run()
}
