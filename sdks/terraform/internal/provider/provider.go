// Package provider is the Terraform provider of License Metering: its resources and data sources, over the metering API.
package provider

import (
	"context"
	"errors"
	"net"
	"net/netip"
	"net/url"
	"os"
	"strings"
	"sync/atomic"

	"license-metering.example/terraform-provider-licensemetering/internal/api"
	"license-metering.example/terraform-provider-licensemetering/internal/cty"
	"license-metering.example/terraform-provider-licensemetering/internal/tfplugin"
)

// Version is the provider's, as its users see it.
const Version = "0.1.0"

// Environment variables that stand in for what the configuration does not say.
const (
	urlVariable   = "METER_API_URL"
	tokenVariable = "METER_API_TOKEN"
)

// Provider answers Terraform.
type Provider struct {
	client atomic.Pointer[api.Client]
	// unready says why there is no client.
	unready atomic.Pointer[string]
	ctx     context.Context
	cancel  context.CancelFunc
}

// New makes a provider that is not configured yet.
func New() *Provider {
	ctx, cancel := context.WithCancel(context.Background())
	return &Provider{ctx: ctx, cancel: cancel}
}

// Stop ends the requests that are under way.
func (p *Provider) Stop() { p.cancel() }

// Schemas are all that the provider knows.
func (p *Provider) Schemas() tfplugin.Schemas {
	schemas := tfplugin.Schemas{
		Provider:    providerSchema,
		Resources:   map[string]tfplugin.Schema{},
		DataSources: map[string]tfplugin.Schema{},
	}
	for name, resource := range resources {
		schemas.Resources[name] = resource.schema()
	}
	for name, source := range dataSources {
		schemas.DataSources[name] = source.schema
	}
	return schemas
}

var providerSchema = tfplugin.Schema{
	Description: "Licenses, customers, webhook endpoints and API tokens of a License Metering installation.",
	Attributes: []tfplugin.Attribute{
		{
			Name: "url", Type: cty.String, Optional: true,
			Description: "The address of the metering API, such as `https://metering.example.com`. Default: the environment variable `METER_API_URL`.",
		},
		{
			Name: "token", Type: cty.String, Optional: true, Sensitive: true,
			Description: "An API token with the scopes of what is managed. Default: the environment variable `METER_API_TOKEN`.",
		},
	},
}

// ValidateProvider says what is wrong with the provider's configuration.
func (p *Provider) ValidateProvider(config tfplugin.Object) tfplugin.Diagnostics {
	var diagnostics tfplugin.Diagnostics
	if text, ok := config["url"].(string); ok {
		if problem := urlProblem(text); problem != "" {
			diagnostics = append(diagnostics, failure("The URL of the metering API cannot be used", problem, "url"))
		}
	}
	if text, ok := config["token"].(string); ok {
		if problem := tokenProblem(text); problem != "" {
			diagnostics = append(diagnostics, failure("The token cannot be used", problem, "token"))
		}
	}
	return diagnostics
}

// Configure makes the client of the API.
func (p *Provider) Configure(_ context.Context, terraformVersion string, config tfplugin.Object) tfplugin.Diagnostics {
	if diagnostics := p.ValidateProvider(config); diagnostics.HasErrors() {
		return diagnostics
	}
	base, token := config["url"], config["token"]
	if base == cty.Unknown || token == cty.Unknown {
		p.refuse("The provider's url or token is only known after other changes are applied. " +
			"Apply those first (terraform apply -target=…), or set METER_API_URL and METER_API_TOKEN.")
		return nil
	}
	address := orEnvironment(base, urlVariable)
	if address == "" {
		return tfplugin.Diagnostics{failure("The URL of the metering API is missing",
			"Set url in the provider's configuration, or the environment variable "+urlVariable+".", "url")}
	}
	if problem := urlProblem(address); problem != "" {
		return tfplugin.Diagnostics{failure("The URL of the metering API cannot be used", urlVariable+": "+problem, "url")}
	}
	secret := orEnvironment(token, tokenVariable)
	if problem := tokenProblem(secret); problem != "" {
		return tfplugin.Diagnostics{failure("The token cannot be used", tokenVariable+": "+problem, "token")}
	}
	agent := "terraform-provider-licensemetering/" + Version
	if terraformVersion != "" {
		agent += " Terraform/" + terraformVersion
	}
	client := api.New(strings.TrimRight(address, "/"), secret, agent)
	client.Log = tfplugin.Debug
	p.client.Store(client)
	if isExposed(address) {
		return tfplugin.Diagnostics{{
			Severity: tfplugin.Warning, Summary: "The token is sent without encryption",
			Detail: "The URL of the metering API begins with http://. Everybody on the way can read the token. Use https://.",
			Path:   []string{"url"},
		}}
	}
	return nil
}

func (p *Provider) refuse(why string) { p.unready.Store(&why) }

func orEnvironment(value any, variable string) string {
	if text, ok := value.(string); ok && text != "" {
		return text
	}
	return os.Getenv(variable)
}

func urlProblem(text string) string {
	if text == "" {
		return ""
	}
	address, err := url.Parse(text)
	switch {
	case err != nil, address.Scheme != "https" && address.Scheme != "http", address.Host == "":
		return "It must be an absolute URL, such as https://metering.example.com."
	case address.User != nil:
		return "It must hold no user and no password; the token stands in token."
	case address.RawQuery != "" || address.Fragment != "":
		return "It must hold no ? and no #."
	case strings.HasSuffix(strings.TrimRight(address.Path, "/"), "/v1"):
		return "It must end before /v1, which the provider adds itself."
	}
	return ""
}

func tokenProblem(text string) string {
	for _, b := range []byte(text) {
		if b <= 0x20 || b >= 0x7f {
			return "It holds a blank or another character that no token has. Was a line break copied with it?"
		}
	}
	return ""
}

// isExposed says whether requests leave this machine unencrypted.
func isExposed(address string) bool {
	parsed, err := url.Parse(address)
	if err != nil || parsed.Scheme != "http" || parsed.Hostname() == "localhost" {
		return false
	}
	ip, err := netip.ParseAddr(parsed.Hostname())
	return err != nil || !ip.IsLoopback()
}

// do asks the API; it ends early when Terraform stops.
func (p *Provider) do(ctx context.Context, request api.Request) (api.Answer, error) {
	client := p.client.Load()
	if client == nil {
		if why := p.unready.Load(); why != nil {
			return api.Answer{}, errors.New(*why)
		}
		return api.Answer{}, errors.New("the provider is not configured")
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	defer context.AfterFunc(p.ctx, cancel)()
	return client.Do(ctx, request)
}

func failure(summary, detail string, path ...string) tfplugin.Diagnostic {
	return tfplugin.Diagnostic{Severity: tfplugin.Error, Summary: summary, Detail: detail, Path: path}
}

// failures shows what the API answered, in its own words, at the attributes that it names.
func failures(summary string, err error, attributes map[string]bool) tfplugin.Diagnostics {
	var problem *api.Error
	if !errors.As(err, &problem) {
		detail := err.Error()
		var network net.Error
		if errors.As(err, &network) && network.Timeout() {
			detail += "\n\nThe service did not answer in time. Is url right, and does the service run?"
		}
		return tfplugin.Diagnostics{failure(summary, detail)}
	}
	var notes []string
	if problem.Status == 401 {
		notes = append(notes, "Set token in the provider's configuration, or the environment variable "+tokenVariable+".")
	}
	if problem.Code == "changed_meanwhile" {
		notes = append(notes, "Somebody changed it after the plan was made. Run terraform plan again.")
	}
	if problem.RequestID != "" {
		notes = append(notes, "Request "+problem.RequestID+".")
	}
	note := strings.Join(notes, " ")
	var diagnostics tfplugin.Diagnostics
	for _, blame := range problem.Blames {
		path := strings.SplitN(blame.Parameter, ".", 2)
		if !attributes[path[0]] {
			continue
		}
		text := (&api.Error{Status: problem.Status, Code: problem.Code, Detail: blame.Parameter + ": " + blame.Detail}).Error()
		if len(problem.Blames) == 1 {
			text = problem.Error()
		}
		diagnostics = append(diagnostics, failure(summary, paragraphs(text, note), path...))
	}
	if len(diagnostics) == 0 {
		diagnostics = append(diagnostics, failure(summary, paragraphs(problem.Error(), note)))
	}
	return diagnostics
}

func paragraphs(texts ...string) string {
	var kept []string
	for _, text := range texts {
		if text != "" {
			kept = append(kept, text)
		}
	}
	return strings.Join(kept, "\n\n")
}
