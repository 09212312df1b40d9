package provider

import (
	"context"
	"reflect"
	"strings"
	"testing"
	"time"

	"license-metering.example/terraform-provider-licensemetering/internal/api"
	"license-metering.example/terraform-provider-licensemetering/internal/cty"
	"license-metering.example/terraform-provider-licensemetering/internal/tfplugin"
)

// licenseObject is a license as it stands in the state, with some attributes changed.
func licenseObject(changes tfplugin.Object) tfplugin.Object {
	object := tfplugin.Object{
		"license_id": "lic_1", "customer_id": "cus_1", "plan": "pro", "domains": []any{"a.example", "b.example"}, "expires_at": "2999-01-01T00:00:00Z",
		"status": "active", "features": nil, "limits": map[string]any{"api_calls": cty.Number("5")}, "trial": false, "overage_policy": "block",
		"alert_thresholds": []any{cty.Number("80")}, "billing_anchor_day": cty.Number("1"), "issued_at": "2026-01-01T00:00:00Z",
		"on_destroy": "cancel", "created_at": "2026-01-01T00:00:00Z", "updated_at": "2026-01-01T00:00:00Z",
	}
	for name, value := range changes {
		object[name] = value
	}
	return object
}

// configured is the object without what the API computes.
func configured(object tfplugin.Object, without ...string) tfplugin.Object {
	result := tfplugin.Object{}
	for name, value := range object {
		result[name] = value
	}
	for _, name := range append(without, "created_at", "updated_at") {
		result[name] = nil
	}
	return result
}

func planOf(prior, config tfplugin.Object) (tfplugin.Plan, tfplugin.Diagnostics) {
	return New().Plan(context.Background(), "licensemetering_license", tfplugin.State{Object: prior}, config, false)
}

func TestWhatMeansTheSameIsNoChange(t *testing.T) {
	prior := licenseObject(nil)
	config := configured(licenseObject(tfplugin.Object{
		"domains": []any{"b.example", "a.example"}, "expires_at": "2999-01-01T02:00:00.0+02:00",
		"limits": map[string]any{"apiCalls": cty.Number("5"), "seats": nil},
	}), "status", "trial", "overage_policy", "alert_thresholds", "billing_anchor_day", "issued_at", "on_destroy")
	plan, diagnostics := planOf(prior, config)
	if len(diagnostics) > 0 || !reflect.DeepEqual(plan.Object, prior) || plan.Replace != nil {
		t.Errorf("%v, %v", plan, diagnostics)
	}
}

func TestAChangeUnsettlesWhatTheAPIComputes(t *testing.T) {
	prior := licenseObject(nil)
	plan, _ := planOf(prior, configured(licenseObject(tfplugin.Object{"plan": "max"}), "status"))
	wanted := licenseObject(tfplugin.Object{"plan": "max", "updated_at": cty.Unknown})
	if !reflect.DeepEqual(plan.Object, wanted) {
		t.Errorf("%v", plan.Object)
	}
	plan, _ = planOf(prior, configured(licenseObject(tfplugin.Object{"on_destroy": "keep"})))
	if plan.Object["updated_at"] == cty.Unknown {
		t.Error("what Terraform alone knows changes nothing at the API")
	}
	plan, _ = planOf(prior, configured(licenseObject(tfplugin.Object{"license_id": cty.Unknown})))
	if !reflect.DeepEqual(plan.Replace, []string{"license_id"}) {
		t.Errorf("an id that is not known yet replaces %v", plan.Replace)
	}
}

func TestACanceledLicenseIsNoSurprise(t *testing.T) {
	prior := licenseObject(tfplugin.Object{"status": "canceled"})
	for status, severity := range map[any]tfplugin.Severity{nil: tfplugin.Warning, "active": tfplugin.Error, "canceled": 0} {
		_, diagnostics := planOf(prior, configured(licenseObject(tfplugin.Object{"status": status})))
		if severity == 0 && len(diagnostics) == 0 {
			continue
		}
		if len(diagnostics) != 1 || diagnostics[0].Severity != severity {
			t.Errorf("with status %v: %v", status, diagnostics)
		}
	}
}

func TestALimitThatIsGoneIsRemoved(t *testing.T) {
	before := map[string]any{"api_calls": cty.Number("5"), "exports": cty.Number("1"), "seats": cty.Number("2")}
	after := map[string]any{"apiCalls": cty.Number("5"), "exports": cty.Number("3"), "seats": nil, "imports": cty.Number("0")}
	wanted := map[string]any{"exports": cty.Number("3"), "seats": nil, "imports": cty.Number("0")}
	if got := patchLimits(before, after); !reflect.DeepEqual(got, wanted) {
		t.Errorf("%v", got)
	}
	if got := patchLimits(before, nil); len(got.(map[string]any)) != 3 {
		t.Errorf("%v", got)
	}
}

func TestAnotherSpellingIsRememberedAndAnotherValueIsNot(t *testing.T) {
	answer := func(domains ...any) api.Answer {
		object := licenseObject(tfplugin.Object{"domains": domains, "features": []any{}})
		return api.Answer{Members: object, ETag: `"1"`}
	}
	planned := licenseObject(tfplugin.Object{"domains": []any{"Ünïcode.example"}})
	made, err := license.state(answer("xn--ncode-8vac.example"), planned, memory{}, &change{})
	if err != nil || !reflect.DeepEqual(made.Object, planned) {
		t.Fatalf("%v, %v", made.Object, err)
	}
	kept := readMemory(made.Private)
	if kept.ETag != `"1"` || len(kept.Spelled) != 1 {
		t.Errorf("%+v", kept)
	}
	read, err := license.state(answer("xn--ncode-8vac.example"), made.Object, kept, nil)
	if err != nil || !reflect.DeepEqual(read, made) {
		t.Errorf("%v, %v", read, err)
	}
	drifted, err := license.state(answer("other.example"), made.Object, kept, nil)
	if err != nil || !reflect.DeepEqual(drifted.Object["domains"], []any{"other.example"}) || len(readMemory(drifted.Private).Spelled) != 0 {
		t.Errorf("%v, %v", drifted, err)
	}
	// A change of something else keeps the promise, and forgets what it did not send.
	other, err := license.state(answer("other.example"), made.Object, kept, &change{members: map[string]any{"plan": "max"}})
	if err != nil || !reflect.DeepEqual(other.Object, planned) || len(readMemory(other.Private).Spelled) != 0 {
		t.Errorf("%v, %v", other, err)
	}
}

func TestWhatIsWrongIsSaidAtItsAttribute(t *testing.T) {
	config := configured(licenseObject(tfplugin.Object{
		"license_id": "", "expires_at": "tomorrow", "status": "paused", "limits": map[string]any{"seats": cty.Number("-1"), "exports": cty.Unknown},
		"alert_thresholds": []any{cty.Number("80"), cty.Number("1001")}, "billing_anchor_day": cty.Number("0.5"), "domains": []any{nil},
		"issued_at": cty.Unknown,
	}))
	var paths []string
	for _, diagnostic := range New().ValidateResource("licensemetering_license", config) {
		paths = append(paths, strings.Join(diagnostic.Path, "."))
	}
	// Limits with a member that is not known yet are judged once they are.
	wanted := []string{"license_id", "domains", "expires_at", "status", "alert_thresholds", "billing_anchor_day"}
	if !reflect.DeepEqual(paths, wanted) {
		t.Errorf("%v", paths)
	}
}

func TestTheAPIsErrorsStandAtTheirAttributes(t *testing.T) {
	problem := &api.Error{
		Status: 400, Code: "bad_request", Detail: "Several parameters are wrong.", RequestID: "r1",
		Blames: []api.Blame{{Parameter: "limits.seats", Detail: "Wrong."}, {Parameter: "nothing", Detail: "Unknown."}},
	}
	diagnostics := failures("failed", problem, license.names())
	if len(diagnostics) != 1 || !reflect.DeepEqual(diagnostics[0].Path, []string{"limits", "seats"}) ||
		diagnostics[0].Detail != "HTTP 400 bad_request: limits.seats: Wrong.\n\nRequest r1." {
		t.Errorf("%+v", diagnostics)
	}
	diagnostics = failures("failed", problem, nil)
	if len(diagnostics) != 1 || diagnostics[0].Path != nil || diagnostics[0].Detail != "HTTP 400 bad_request: Several parameters are wrong.\n\nRequest r1." {
		t.Errorf("%+v", diagnostics)
	}
}

func TestATokenThatEndedIsGone(t *testing.T) {
	now := time.Date(2026, 11, 27, 12, 0, 0, 0, time.UTC)
	for _, one := range []struct {
		members map[string]any
		isGone  bool
	}{
		{map[string]any{"revoked_at": nil, "expires_at": nil}, false},
		{map[string]any{"revoked_at": "2026-11-27T11:00:00Z", "expires_at": nil}, true},
		{map[string]any{"revoked_at": nil, "expires_at": "2026-11-27T12:00:00.000Z"}, true},
		{map[string]any{"revoked_at": nil, "expires_at": "2026-11-27T12:00:00.001Z"}, false},
	} {
		if got := apiToken.isGone(api.Answer{Members: one.members}, now); got != one.isGone {
			t.Errorf("%v is gone: %v", one.members, got)
		}
	}
	members := map[string]any{"created_at": "2026-11-27T12:00:00.123Z", "expires_at": "2026-12-27T12:00:00.123Z"}
	apiToken.derive(members)
	if members["expires_in"] != "30d" {
		t.Errorf("%v", members["expires_in"])
	}
}

func TestSpansAndAddressesAreCompared(t *testing.T) {
	for _, text := range []string{"", "d", "0d", "-1d", "+1d", "1", "1w", "1.5d", "99999999999d"} {
		if isSpan(text) == "" {
			t.Errorf("%q is a span", text)
		}
	}
	if canonicalSpan("48h") != canonicalSpan("2d") || canonicalSpan("1h") == canonicalSpan("1m") {
		t.Error("spans")
	}
	if canonicalURL("HTTPS://Example.com") != canonicalURL("https://example.com/") || canonicalURL("https://example.com/A") == canonicalURL("https://example.com/a") {
		t.Error("addresses")
	}
	if canonicalTime("2026-01-01T01:00:00.0009+01:00") != "2026-01-01T00:00:00.000Z" {
		t.Error(canonicalTime("2026-01-01T01:00:00.0009+01:00"))
	}
}

func TestTheProviderIsConfiguredByItsBlockOrTheEnvironment(t *testing.T) {
	t.Setenv(urlVariable, "")
	t.Setenv(tokenVariable, "")
	configure := func(url, token any) tfplugin.Diagnostics {
		return New().Configure(context.Background(), "1.0.3", tfplugin.Object{"url": url, "token": token})
	}
	for _, one := range []struct {
		url, token any
		severity   tfplugin.Severity
		path       string
	}{
		{"https://metering.example.com/base/", "mtr_1", 0, ""},
		{"http://127.0.0.1:8081", "mtr_1", 0, ""}, {"http://localhost:8081", "mtr_1", 0, ""}, {"http://[::1]:8081", "mtr_1", 0, ""},
		{"http://metering.internal", "mtr_1", tfplugin.Warning, "url"},
		{nil, "mtr_1", tfplugin.Error, "url"}, {"metering", nil, tfplugin.Error, "url"}, {"ftp://a.example", nil, tfplugin.Error, "url"},
		{"https://user:pass@a.example", nil, tfplugin.Error, "url"}, {"https://a.example/?x=1", nil, tfplugin.Error, "url"},
		{"https://a.example/v1/", nil, tfplugin.Error, "url"},
		{"https://a.example", "mtr_1\n", tfplugin.Error, "token"},
	} {
		diagnostics := configure(one.url, one.token)
		if one.severity == 0 {
			if len(diagnostics) > 0 {
				t.Errorf("%v: %v", one.url, diagnostics)
			}
			continue
		}
		if len(diagnostics) != 1 || diagnostics[0].Severity != one.severity || diagnostics[0].Path[0] != one.path ||
			strings.Contains(diagnostics[0].Detail, "mtr_1") || strings.Contains(diagnostics[0].Detail, "pass@") {
			t.Errorf("%v: %v", one.url, diagnostics)
		}
	}
	t.Setenv(urlVariable, "https://a.example")
	if diagnostics := configure(nil, nil); len(diagnostics) > 0 {
		t.Error(diagnostics)
	}
}

func TestAnUnknownAddressIsSaidWhenItIsNeeded(t *testing.T) {
	p := New()
	if diagnostics := p.Configure(context.Background(), "", tfplugin.Object{"url": cty.Unknown, "token": nil}); len(diagnostics) > 0 {
		t.Error(diagnostics)
	}
	_, diagnostics := p.Read(context.Background(), "licensemetering_customer", tfplugin.State{Object: tfplugin.Object{"customer_id": "cus_1"}})
	if len(diagnostics) != 1 || !strings.Contains(diagnostics[0].Detail, "only known after") {
		t.Error(diagnostics)
	}
}
