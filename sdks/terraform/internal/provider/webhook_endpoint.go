package provider

import (
	"context"
	"net/http"

	"license-metering.example/terraform-provider-licensemetering/internal/api"
	"license-metering.example/terraform-provider-licensemetering/internal/cty"
	"license-metering.example/terraform-provider-licensemetering/internal/tfplugin"
)

// Its changes are not guarded: the endpoint's health is part of what If-Match compares, and changes with each delivery.
var webhookEndpoint = &resource{
	noun: "webhook endpoint", path: "/v1/webhook-endpoints", id: "endpoint_id",
	description: "An address to which alerts are sent, signed.",
	attributes: []attribute{
		{
			Attribute: required("url", cty.String, "Where webhooks are sent, `https://…`."),
			canonical: canonicalURL, check: isEndpointURL,
		},
		{
			Attribute: optional("events", cty.Set(cty.String), "The types of alerts that are sent, such as `license.limit_exceeded`. Default: all."),
			absent:    []any{}, check: each(text(64)),
		},
		{
			Attribute: optional("customer_id", cty.String, "The customer whose alerts are sent. Default: those of all customers. Another customer needs another endpoint."),
			replaces:  true, check: text(256),
		},
		{
			Attribute: leftAlone("signing", cty.String, "How webhooks are signed: `v1` (HMAC-SHA256, default) or `v1a` (Ed25519). Another way needs another endpoint."),
			replaces:  true, check: choice("v1", "v1a"),
		},
		{
			Attribute: leftAlone("status", cty.String, "`active` or `disabled`. Default: `active` at creation, and afterwards as it is: an endpoint that fails for days is disabled."),
			isLate:    true, check: choice("active", "disabled"),
		},
		{
			Attribute: optional("secret_version", cty.NumberType, "Any number. Another number makes a new secret; the one before it signs beside it for 24 hours."),
			isLocal:   true,
		},
		{Attribute: computed("endpoint_id", cty.String, "The endpoint's id."), settles: true},
		{Attribute: computed("disabled_reason", cty.String, "Why the endpoint is disabled; null while it is active.")},
		{Attribute: computed("created_at", cty.String, "When the endpoint was made."), settles: true},
		{
			Attribute: tfplugin.Attribute{
				Name: "secret", Type: cty.String, Computed: true, Sensitive: true,
				Description: "What verifies the webhooks: a shared secret (`whsec_…`), or the public key (`whpk_…`) with `v1a`. The API shows it once, so it is null after an import until `secret_version` is changed.",
			},
			settles: true,
		},
	},
	review: func(_ *resource, prior, _, planned tfplugin.Object) tfplugin.Diagnostics {
		if !cty.Equal(cty.NumberType, prior["secret_version"], planned["secret_version"]) {
			planned["secret"] = cty.Unknown
		}
		return nil
	},
	adjust: func(ctx context.Context, p *Provider, r *resource, prior, planned tfplugin.Object, answer *api.Answer) error {
		one := tfplugin.Object{"endpoint_id": answer.Members["endpoint_id"]}
		if prior == nil {
			if planned["status"] != "disabled" {
				return nil
			}
			// The API makes active ones only.
			disabled, err := p.do(ctx, api.Request{
				Method: http.MethodPatch, Path: r.place(one), Body: map[string]any{"status": "disabled"},
			})
			if err != nil {
				return err
			}
			disabled.Members["secret"] = answer.Members["secret"]
			*answer = disabled
			return nil
		}
		if cty.Equal(cty.NumberType, prior["secret_version"], planned["secret_version"]) {
			return nil
		}
		rotated, err := p.do(ctx, api.Request{Method: http.MethodPost, Path: r.place(one) + "/rotate-secret"})
		if err != nil {
			return err
		}
		answer.Members["secret"] = rotated.Members["secret"]
		return nil
	},
}
