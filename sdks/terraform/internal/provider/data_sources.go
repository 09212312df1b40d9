package provider

import (
	"context"
	"net/http"

	"license-metering.example/terraform-provider-licensemetering/internal/api"
	"license-metering.example/terraform-provider-licensemetering/internal/cty"
	"license-metering.example/terraform-provider-licensemetering/internal/tfplugin"
)

// dataSource is something that is read and not managed.
type dataSource struct {
	schema tfplugin.Schema
	path   func(config tfplugin.Object) string
	// fill makes further attributes of the answer; nil: its members are the attributes.
	fill func(answer api.Answer)
}

var dataSources = map[string]dataSource{
	"licensemetering_usage_current": usageCurrent,
	"licensemetering_jwks":          jwks,
}

var usageCurrent = dataSource{
	schema: tfplugin.Schema{
		Description: "What a license has used in its running billing periods.",
		Attributes: []tfplugin.Attribute{
			required("license_id", cty.String, "The license's id."),
			computed("customer_id", cty.String, "The customer whose license it is."),
			computed("plan", cty.String, "The license's plan."),
			computed("status", cty.String, "`active`, `suspended` or `canceled`."),
			computed("as_of", cty.String, "When the numbers were read."),
			computed("complete_through", cty.String, "Every event that was received before this time is counted."),
			computed("meters", cty.List(cty.Object(map[string]cty.Type{
				"meter": cty.String, "period_start": cty.String, "period_end": cty.String, "used": cty.NumberType,
				"limit": cty.NumberType, "remaining": cty.NumberType, "percent": cty.NumberType, "is_over": cty.Bool,
				"projected": cty.Object(map[string]cty.Type{"quantity": cty.NumberType, "low": cty.NumberType, "high": cty.NumberType}),
			})), "By meter: `meter`, `period_start`, `period_end`, `used`, `limit` (null: unlimited), `remaining`, `percent`, `is_over`, and `projected` (`quantity`, `low`, `high`), an estimate for the end of the period."),
		},
	},
	path: func(config tfplugin.Object) string { return license.place(config) + "/usage/current" },
}

var jwks = dataSource{
	schema: tfplugin.Schema{
		Description: "The public keys that verify license tokens and statements.",
		Attributes: []tfplugin.Attribute{
			computed("json", cty.String, "The JWK set as the API publishes it."),
			computed("keys", cty.List(cty.Object(map[string]cty.Type{
				"kid": cty.String, "kty": cty.String, "alg": cty.String, "use": cty.String, "crv": cty.String,
				"x": cty.String, "y": cty.String, "n": cty.String, "e": cty.String,
			})), "The keys: `kid`, `kty`, `alg`, `use`, `crv`, `x`, `y`, `n`, `e`. What a key does not have is null."),
		},
	},
	path: func(tfplugin.Object) string { return "/.well-known/jwks.json" },
	fill: func(answer api.Answer) { answer.Members["json"] = string(answer.Body) },
}

// ReadDataSource asks the API for what a data source shows.
func (p *Provider) ReadDataSource(
	ctx context.Context, name string, config tfplugin.Object,
) (tfplugin.Object, tfplugin.Diagnostics) {
	source := dataSources[name]
	summary := "Reading " + name + " failed"
	answer, err := p.do(ctx, api.Request{Method: http.MethodGet, Path: source.path(config)})
	if err != nil {
		diagnostics := failures(summary, err, nil)
		if api.IsNotFound(err) && config["license_id"] != nil {
			diagnostics[0].Path = []string{"license_id"}
		}
		return nil, diagnostics
	}
	if source.fill != nil {
		source.fill(answer)
	}
	for _, attribute := range source.schema.Attributes {
		if attribute.Required {
			answer.Members[attribute.Name] = config[attribute.Name]
		}
	}
	value, err := cty.Conform(source.schema.Type(), answer.Members)
	if err != nil {
		return nil, failures(summary, err, nil)
	}
	object, _ := value.(tfplugin.Object)
	return object, nil
}
