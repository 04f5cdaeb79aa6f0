// A vcsim for the contract tests: govmomi's simulator, as Debian packages it as a library, with a small inventory.
// It prints the address it listens on, and ends when its standard input is closed.
package main

import (
	"crypto/tls"
	"flag"
	"fmt"
	"io"
	"log"
	"net/url"
	"os"

	"github.com/vmware/govmomi/simulator"
	_ "github.com/vmware/govmomi/vapi/simulator"
)

func main() {
	version := flag.String("api-version", "7.0.3.0", "vSphere API version to announce")
	user := flag.String("user", "", "user@domain")
	password := flag.String("password", "", "password")
	flag.Parse()

	model := simulator.VPX()
	model.Datacenter = 1
	model.Cluster = 1
	model.ClusterHost = 3
	model.Host = 0
	model.Machine = 2
	model.Portgroup = 1
	model.Autostart = false
	model.ServiceContent.About.ApiVersion = *version
	if err := model.Create(); err != nil {
		log.Fatal(err)
	}
	model.Service.TLS = new(tls.Config)
	model.Service.RegisterEndpoints = true
	model.Service.Listen = &url.URL{Host: "127.0.0.1:0", User: url.UserPassword(*user, *password)}
	server := model.Service.NewServer()
	defer server.Close()
	fmt.Println(server.URL.Host)
	_, _ = io.Copy(io.Discard, os.Stdin)
}
