package provider

import (
	"context"
	"errors"
	"net/http"

	"license-metering.example/terraform-provider-licensemetering/internal/api"
	"license-metering.example/terraform-provider-licensemetering/internal/cty"
	"license-metering.example/terraform-provider-licensemetering/internal/tfplugin"
)

// resources are the provider's, by their names in Terraform.
var resources = map[string]*resource{
	"licensemetering_license":          license,
	"licensemetering_customer":         customer,
	"licensemetering_webhook_endpoint": webhookEndpoint,
	"licensemetering_api_token":        apiToken,
}

// What on_destroy may say.
const (
	onDestroyCancel  = "cancel"
	onDestroySuspend = "suspend"
	onDestroyKeep    = "keep"
)

func required(name string, t cty.Type, description string) tfplugin.Attribute {
	return tfplugin.Attribute{Name: name, Type: t, Required: true, Description: description}
}

// optional is an attribute that is removed where the configuration has none.
func optional(name string, t cty.Type, description string) tfplugin.Attribute {
	return tfplugin.Attribute{Name: name, Type: t, Optional: true, Description: description}
}

// leftAlone is an attribute that the API has a default for, and that stays as it is where the configuration has none.
func leftAlone(name string, t cty.Type, description string) tfplugin.Attribute {
	return tfplugin.Attribute{Name: name, Type: t, Optional: true, Computed: true, Description: description}
}

func computed(name string, t cty.Type, description string) tfplugin.Attribute {
	return tfplugin.Attribute{Name: name, Type: t, Computed: true, Description: description}
}

var license = &resource{
	noun: "license", path: "/v1/licenses", id: "license_id", isGuarded: true,
	description: "A license: whose it is, where it holds, until when, and what it may use.",
	attributes: []attribute{
		{
			Attribute: required("license_id", cty.String, "The license's id, 1 to 512 bytes. Another id makes another license."),
			replaces:  true, check: text(512),
		},
		{
			Attribute: required("customer_id", cty.String, "The customer whose license it is. The API makes a customer that is missing; refer to a `licensemetering_customer` where Terraform makes it."),
			check:     text(256),
		},
		{Attribute: required("plan", cty.String, "The plan's name, 1 to 256 bytes."), check: text(256)},
		{
			Attribute: required("domains", cty.Set(cty.String), "The domains for which the license holds, such as `example.com` or `*.example.com`."),
			check:     each(text(256)),
		},
		{
			Attribute: required("expires_at", cty.String, "When the license ends (RFC 3339), such as `2027-12-31T00:00:00Z`."),
			canonical: canonicalTime, check: isTime,
		},
		{
			Attribute: leftAlone("status", cty.String, "`active`, `suspended` or `canceled`. What is canceled stays so. Default: `active` at creation, and afterwards whatever others set, for example `meterctl license suspend`."),
			check:     choice("active", "suspended", "canceled"),
		},
		{Attribute: optional("features", cty.Set(cty.String), "The features that the license includes."), absent: []any{}, check: each(text(256))},
		{
			Attribute: optional("limits", cty.Map(cty.NumberType), "How much of each meter may be used in a period, by the meter's name, such as `api_calls`. `seats` limits seats. A meter without a limit, or whose limit is null, is not limited."),
			absent:    map[string]any{}, canonical: canonicalLimits, patch: patchLimits,
			check: each(integer(0, 1_000_000_000_000_000_000)),
		},
		{Attribute: leftAlone("trial", cty.Bool, "Whether the license is a trial. Default: `false`.")},
		{
			Attribute: leftAlone("overage_policy", cty.String, "What happens above a limit: `block` or `allow`. Default: the API's."),
			check:     choice("block", "allow"),
		},
		{
			Attribute: leftAlone("alert_thresholds", cty.Set(cty.NumberType), "At which percentages of a limit an alert is sent, each from 1 to 1000. Empty: none. Default: the API's."),
			check:     each(integer(1, 1000)),
		},
		{
			Attribute: leftAlone("billing_anchor_day", cty.NumberType, "The day of the month on which billing periods begin, 1 to 31. Another day begins at its first date after today. Default: the API's."),
			check:     integer(1, 31),
		},
		{
			Attribute: leftAlone("issued_at", cty.String, "When the license begins (RFC 3339). Default: when it is made."),
			canonical: canonicalTime, check: isTime,
		},
		{
			Attribute: leftAlone("on_destroy", cty.String, "What `terraform destroy` does, because a license cannot be deleted: `cancel` (default) cancels it, which cannot be undone; `suspend` suspends it; `keep` leaves it as it is."),
			isLocal:   true, preset: onDestroyCancel,
			check: choice(onDestroyCancel, onDestroySuspend, onDestroyKeep),
		},
		{Attribute: computed("created_at", cty.String, "When the license was registered."), settles: true},
		{Attribute: computed("updated_at", cty.String, "When it was last changed.")},
	},
	review: func(r *resource, prior, config, _ tfplugin.Object) tfplugin.Diagnostics {
		if prior["status"] != "canceled" || config["status"] == "canceled" {
			return nil
		}
		const summary = "The license is canceled"
		if config["status"] == nil {
			return tfplugin.Diagnostics{{
				Severity: tfplugin.Warning, Summary: summary,
				Detail: "Somebody canceled " + r.title(prior) + ", which cannot be undone. " +
					"Set status = \"canceled\", or remove the resource; a new license needs another license_id.",
			}}
		}
		return tfplugin.Diagnostics{failure(summary, "Somebody canceled "+r.title(prior)+
			", which cannot be undone. A new license needs another license_id.", "status")}
	},
	warnsOfEnd: func(r *resource, prior tfplugin.Object) tfplugin.Diagnostics {
		if prior["on_destroy"] != onDestroyCancel || prior["status"] == "canceled" {
			return nil
		}
		return tfplugin.Diagnostics{{
			Severity: tfplugin.Warning, Summary: "Destroying cancels the license for good",
			Detail: "A canceled license stays canceled, and its id cannot be used again: " + r.title(prior) +
				". Apply on_destroy = \"suspend\" or \"keep\" first where that is not meant.",
		}}
	},
	end: func(ctx context.Context, p *Provider, r *resource, prior tfplugin.Object) error {
		if prior["on_destroy"] == onDestroyKeep {
			return nil
		}
		step := "/cancel"
		if prior["on_destroy"] == onDestroySuspend {
			step = "/suspend"
		}
		_, err := p.do(ctx, api.Request{Method: http.MethodPost, Path: r.place(prior) + step})
		var problem *api.Error
		if errors.As(err, &problem) && problem.Code == "license_canceled" {
			return nil // It has ended already.
		}
		return err
	},
}

// canonicalLimits spells limits as the API does: the meter api_calls is the limit apiCalls, and null is no limit.
func canonicalLimits(value any) any {
	result := map[string]any{}
	for name, limit := range value.(map[string]any) {
		if name == "api_calls" {
			name = "apiCalls"
		}
		if limit != nil {
			result[name] = limit
		}
	}
	return result
}

// patchLimits is a merge patch: what changed, and null for what is gone.
func patchLimits(before, after any) any {
	patch := map[string]any{}
	old, _ := before.(map[string]any)
	now, _ := after.(map[string]any)
	old, now = canonicalLimits(old).(map[string]any), canonicalLimits(now).(map[string]any)
	for name := range old {
		if _, stays := now[name]; !stays {
			patch[name] = nil
		}
	}
	for name, limit := range now {
		if old[name] != limit {
			patch[name] = limit
		}
	}
	return patch
}
