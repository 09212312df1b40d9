package provider

import (
	"time"

	"license-metering.example/terraform-provider-licensemetering/internal/api"
	"license-metering.example/terraform-provider-licensemetering/internal/cty"
	"license-metering.example/terraform-provider-licensemetering/internal/tfplugin"
)

// A token cannot be changed: whatever is different needs another one.
var apiToken = &resource{
	noun: "API token", path: "/v1/tokens", id: "token_id",
	description: "A token for the APIs. Any change makes a new token and ends the one before.",
	attributes: []attribute{
		{Attribute: required("name", cty.String, "What the token is for, 1 to 200 bytes."), replaces: true, check: text(200)},
		{
			Attribute: required("scopes", cty.Set(cty.String), "What the token allows, such as `usage:read`."),
			replaces:  true, check: each(text(64)),
		},
		{
			Attribute: optional("customer_id", cty.String, "The customer to whose things the token is bound. Default: none, it is the vendor's."),
			replaces:  true, check: text(256),
		},
		{
			Attribute: optional("expires_in", cty.String, "How long the token holds after it was made, such as `90d`, `12h` or `15m`. Default: until it is revoked."),
			replaces:  true, canonical: canonicalSpan, check: isSpan,
		},
		{Attribute: computed("token_id", cty.String, "The token's id."), settles: true},
		{Attribute: computed("created_at", cty.String, "When the token was made."), settles: true},
		{Attribute: computed("expires_at", cty.String, "When the token ends; null where it does not."), settles: true},
		{
			Attribute: tfplugin.Attribute{
				Name: "token", Type: cty.String, Computed: true, Sensitive: true,
				Description: "The token itself. The API shows it once, so it is null after an import.",
			},
			settles: true,
		},
	},
	// What was revoked or has expired is of no use to anybody, so that a new one is planned.
	isGone: func(answer api.Answer, now time.Time) bool {
		if answer.Members["revoked_at"] != nil {
			return true
		}
		end, isTimed := answer.Members["expires_at"].(string)
		if !isTimed {
			return false
		}
		at, err := parseTime(end)
		return err == nil && !at.After(now)
	},
	derive: func(members map[string]any) {
		begin, hasBegin := members["created_at"].(string)
		end, hasEnd := members["expires_at"].(string)
		members["expires_in"] = nil
		if !hasBegin || !hasEnd {
			return
		}
		from, err := parseTime(begin)
		if err != nil {
			return
		}
		if to, err := parseTime(end); err == nil {
			members["expires_in"] = span(int64(to.Sub(from) / time.Second))
		}
	},
}
