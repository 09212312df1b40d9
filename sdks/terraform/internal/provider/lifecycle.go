package provider

import (
	"context"
	"net/http"
	"time"

	"license-metering.example/terraform-provider-licensemetering/internal/api"
	"license-metering.example/terraform-provider-licensemetering/internal/cty"
	"license-metering.example/terraform-provider-licensemetering/internal/tfplugin"
)

// ValidateResource says what is wrong with a configuration, as far as it is known. What only the API knows, the API judges.
func (p *Provider) ValidateResource(name string, config tfplugin.Object) tfplugin.Diagnostics {
	var diagnostics tfplugin.Diagnostics
	for _, attribute := range resources[name].attributes {
		value := config[attribute.Name]
		if value == nil || attribute.check == nil || !cty.IsKnown(value) {
			continue
		}
		if problem := attribute.check(value); problem != "" {
			diagnostics = append(diagnostics, failure("Invalid value of "+attribute.Name, problem, attribute.Name))
		}
	}
	return diagnostics
}

// Read asks what a thing is now; no object where it is gone.
func (p *Provider) Read(ctx context.Context, name string, state tfplugin.State) (tfplugin.State, tfplugin.Diagnostics) {
	resource := resources[name]
	if state.Object == nil {
		return tfplugin.State{}, nil
	}
	answer, err := p.do(ctx, api.Request{Method: http.MethodGet, Path: resource.place(state.Object)})
	if api.IsNotFound(err) {
		return tfplugin.State{}, nil
	}
	summary := "Reading " + resource.title(state.Object) + " failed"
	if err != nil {
		return state, failures(summary, err, nil)
	}
	now := answer.Date
	if now.IsZero() {
		now = time.Now()
	}
	if resource.isGone != nil && resource.isGone(answer, now) {
		return tfplugin.State{}, nil
	}
	result, err := resource.state(answer, state.Object, readMemory(state.Private), nil)
	if err != nil {
		return state, failures(summary, err, nil)
	}
	return result, nil
}

// Import begins a state with an id; Terraform reads the rest.
func (p *Provider) Import(_ context.Context, name, id string) (tfplugin.State, tfplugin.Diagnostics) {
	resource := resources[name]
	object := tfplugin.Object{}
	for _, attribute := range resource.attributes {
		object[attribute.Name] = attribute.preset
	}
	if id == "" {
		return tfplugin.State{}, tfplugin.Diagnostics{failure("The id is missing", "Import a "+resource.noun+" by its "+resource.id+".")}
	}
	object[resource.id] = id
	return tfplugin.State{Object: object}, nil
}

// Plan says what a resource will be.
func (p *Provider) Plan(
	_ context.Context, name string, prior tfplugin.State, config tfplugin.Object, isDestroy bool,
) (tfplugin.Plan, tfplugin.Diagnostics) {
	resource := resources[name]
	if isDestroy {
		plan := tfplugin.Plan{State: tfplugin.State{Private: prior.Private}}
		if resource.warnsOfEnd != nil {
			return plan, resource.warnsOfEnd(resource, prior.Object)
		}
		return plan, nil
	}
	planned := tfplugin.Object{}
	plan := tfplugin.Plan{State: tfplugin.State{Object: planned, Private: prior.Private}}
	isChanged := false
	for _, attribute := range resource.attributes {
		value := config[attribute.Name]
		if value == nil && attribute.Computed {
			value = attribute.preset
			if value == nil && prior.Object != nil {
				value = prior.Object[attribute.Name]
			} else if value == nil {
				value = cty.Unknown
			}
		}
		planned[attribute.Name] = value
		if prior.Object == nil {
			continue
		}
		before := prior.Object[attribute.Name]
		if attribute.same(before, value) {
			if value != nil && before != nil {
				planned[attribute.Name] = before
			}
			continue
		}
		isChanged = isChanged || !attribute.isLocal
		if attribute.replaces {
			plan.Replace = append(plan.Replace, attribute.Name)
		}
	}
	if prior.Object == nil {
		return plan, nil
	}
	if isChanged {
		resource.unsettle(config, planned)
	}
	if resource.review != nil {
		return plan, resource.review(resource, prior.Object, config, planned)
	}
	return plan, nil
}

// unsettle makes unknown what the API computes anew with each change.
func (r *resource) unsettle(config, planned tfplugin.Object) {
	for _, attribute := range r.attributes {
		if config[attribute.Name] == nil && attribute.Computed && !attribute.Optional && !attribute.settles {
			planned[attribute.Name] = cty.Unknown
		}
	}
}

// Apply carries a plan out.
func (p *Provider) Apply(
	ctx context.Context, name string, prior tfplugin.Object, planned tfplugin.State,
) (tfplugin.State, tfplugin.Diagnostics) {
	resource := resources[name]
	switch {
	case planned.Object == nil:
		return p.destroy(ctx, resource, prior, planned.Private)
	case prior == nil:
		return p.create(ctx, resource, planned.Object)
	default:
		return p.update(ctx, resource, prior, planned)
	}
}

func (p *Provider) create(ctx context.Context, r *resource, planned tfplugin.Object) (tfplugin.State, tfplugin.Diagnostics) {
	summary := "Creating " + r.title(planned) + " failed"
	body := map[string]any{}
	for _, attribute := range r.attributes {
		value := planned[attribute.Name]
		isSent := attribute.Required || attribute.Optional
		if isSent && !attribute.isLocal && !attribute.isLate && value != nil && cty.IsKnown(value) {
			body[attribute.Name] = value
		}
	}
	answer, err := p.do(ctx, api.Request{Method: http.MethodPost, Path: r.path, Body: body})
	if err != nil {
		return tfplugin.State{}, r.explainExisting(failures(summary, err, r.names()), err, planned)
	}
	// It is there now: whatever fails from here on, Terraform must know of it.
	var problem error
	if r.adjust != nil {
		problem = r.adjust(ctx, p, r, nil, planned, &answer)
	}
	made := &change{}
	if problem != nil {
		made = nil
	}
	state, err := r.state(answer, planned, memory{}, made)
	if problem == nil {
		problem = err
	}
	if problem != nil {
		return state, failures(summary, problem, r.names())
	}
	return state, nil
}

// explainExisting says how Terraform takes over what is there already.
func (r *resource) explainExisting(
	diagnostics tfplugin.Diagnostics, err error, planned tfplugin.Object,
) tfplugin.Diagnostics {
	if problem, ok := err.(*api.Error); ok && (problem.Code == "license_exists" || problem.Code == "customer_exists") {
		for i := range diagnostics {
			id, _ := planned[r.id].(string)
			diagnostics[i].Detail += "\n\nTo manage it with Terraform, import it by its id: terraform import ADDRESS '" + id + "'"
			if problem.Code == "license_exists" {
				diagnostics[i].Detail += "\nIf it was canceled, choose another license_id: a canceled license stays canceled."
			}
		}
	}
	return diagnostics
}

func (p *Provider) update(
	ctx context.Context, r *resource, prior tfplugin.Object, planned tfplugin.State,
) (tfplugin.State, tfplugin.Diagnostics) {
	summary := "Changing " + r.title(prior) + " failed"
	kept := tfplugin.State{Object: prior, Private: planned.Private}
	before := readMemory(planned.Private)
	body := map[string]any{}
	for _, attribute := range r.attributes {
		value := planned.Object[attribute.Name]
		isSent := attribute.Required || attribute.Optional
		if !isSent || attribute.isLocal || !cty.IsKnown(value) || attribute.same(prior[attribute.Name], value) {
			continue
		}
		switch {
		case attribute.patch != nil:
			body[attribute.Name] = attribute.patch(prior[attribute.Name], value)
		case value == nil:
			body[attribute.Name] = attribute.absent
		default:
			body[attribute.Name] = value
		}
	}
	request := api.Request{Method: http.MethodGet, Path: r.place(prior)}
	if len(body) > 0 {
		request.Method, request.Body = http.MethodPatch, body
		if r.isGuarded {
			request.IfMatch = before.ETag
		}
	}
	answer, err := p.do(ctx, request)
	if err == nil && r.adjust != nil {
		err = r.adjust(ctx, p, r, prior, planned.Object, &answer)
	}
	if err != nil {
		return kept, failures(summary, err, r.names())
	}
	state, err := r.state(answer, planned.Object, before, &change{members: body})
	if err != nil {
		return kept, failures(summary, err, r.names())
	}
	return state, nil
}

func (p *Provider) destroy(
	ctx context.Context, r *resource, prior tfplugin.Object, private []byte,
) (tfplugin.State, tfplugin.Diagnostics) {
	var err error
	if r.end != nil {
		err = r.end(ctx, p, r, prior)
	} else {
		_, err = p.do(ctx, api.Request{Method: http.MethodDelete, Path: r.place(prior)})
	}
	if err != nil && !api.IsNotFound(err) {
		return tfplugin.State{Object: prior, Private: private}, failures("Destroying "+r.title(prior)+" failed", err, nil)
	}
	return tfplugin.State{}, nil
}
