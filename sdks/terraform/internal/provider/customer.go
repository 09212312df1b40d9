package provider

import (
	"context"

	"license-metering.example/terraform-provider-licensemetering/internal/cty"
	"license-metering.example/terraform-provider-licensemetering/internal/tfplugin"
)

var customer = &resource{
	noun: "customer", path: "/v1/customers", id: "customer_id", isGuarded: true,
	description: "A customer: who has licenses and receives statements.",
	attributes: []attribute{
		{
			Attribute: required("customer_id", cty.String, "The customer's id, 1 to 256 bytes. Another id makes another customer."),
			replaces:  true, check: text(256),
		},
		{Attribute: leftAlone("name", cty.String, "The customer's name, 1 to 256 bytes. Default: the id."), check: text(256)},
		{
			Attribute: optional("stripe_customer_id", cty.String, "The customer at Stripe, such as `cus_NffrFeUfNV2Hib`. Without it, no usage is exported to Stripe."),
			check:     text(255),
		},
		{Attribute: computed("created_at", cty.String, "When the customer was made."), settles: true},
	},
	warnsOfEnd: func(r *resource, prior tfplugin.Object) tfplugin.Diagnostics {
		return tfplugin.Diagnostics{{
			Severity: tfplugin.Warning, Summary: "The customer stays",
			Detail: "Usage and statements belong to " + r.title(prior) +
				", so the API has no way to delete it. Terraform only forgets it.",
		}}
	},
	end: func(context.Context, *Provider, *resource, tfplugin.Object) error { return nil },
}
