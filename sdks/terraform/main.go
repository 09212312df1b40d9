// The Terraform provider of License Metering.
package main

import (
	"fmt"
	"os"

	"license-metering.example/terraform-provider-licensemetering/internal/provider"
	"license-metering.example/terraform-provider-licensemetering/internal/tfplugin"
)

func main() {
	if len(os.Args) == 2 && os.Args[1] == "--version" {
		fmt.Println("terraform-provider-licensemetering", provider.Version)
		return
	}
	if err := tfplugin.Serve(provider.New()); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}
