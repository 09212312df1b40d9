package provider

import (
	"context"
	"encoding/json"
	"net/http"
	"time"

	"license-metering.example/terraform-provider-licensemetering/internal/api"
	"license-metering.example/terraform-provider-licensemetering/internal/cty"
	"license-metering.example/terraform-provider-licensemetering/internal/tfplugin"
)

// attribute is one attribute of a resource, and how it stands in the API.
type attribute struct {
	tfplugin.Attribute
	// replaces: another value needs another thing.
	replaces bool
	// settles: the API computes it once and never changes it.
	settles bool
	// isLocal: the API does not know it.
	isLocal bool
	// isLate: a new thing cannot have it; adjust sets it afterwards.
	isLate bool
	// preset is the value where the configuration has none and the API is not asked for one.
	preset any
	// absent is what the API holds where the configuration has nothing.
	absent any
	// canonical makes two spellings of one value equal; nil: each value has one.
	canonical func(any) any
	// check says what is wrong with a known value; empty: nothing.
	check func(any) string
	// patch makes the member of a merge patch; nil: the new value, or absent.
	patch func(before, after any) any
}

// same says whether two values mean the same to the API.
func (a attribute) same(one, other any) bool {
	return cty.Equal(a.Type, a.plain(one), a.plain(other))
}

func (a attribute) plain(value any) any {
	if value == nil {
		value = a.absent
	}
	if value == nil || a.canonical == nil || !cty.IsKnown(value) {
		return value
	}
	return a.canonical(value)
}

// resource is a kind of thing that Terraform manages.
type resource struct {
	// noun names one in messages.
	noun        string
	description string
	// path is the API's collection.
	path string
	// id is the attribute that stands in the path of one.
	id         string
	attributes []attribute
	// isGuarded: changes carry If-Match, so that they change only what the plan has seen.
	isGuarded bool
	// isGone says that the API still knows it, but nobody can use it any more.
	isGone func(answer api.Answer, now time.Time) bool
	// derive adds to an answer's members what the API does not say in so many words.
	derive func(members map[string]any)
	// review may change a plan of an update, and says what people should know.
	review func(r *resource, prior, config, planned tfplugin.Object) tfplugin.Diagnostics
	// adjust carries out what the create or update of the API cannot; it may add to the members of the answer.
	adjust func(ctx context.Context, p *Provider, r *resource, prior, planned tfplugin.Object, answer *api.Answer) error
	// warnsOfEnd says what the end of one means, before it happens.
	warnsOfEnd func(r *resource, prior tfplugin.Object) tfplugin.Diagnostics
	// end is carried out in place of DELETE.
	end func(ctx context.Context, p *Provider, r *resource, prior tfplugin.Object) error
}

func (r *resource) schema() tfplugin.Schema {
	schema := tfplugin.Schema{Description: r.description}
	for _, attribute := range r.attributes {
		schema.Attributes = append(schema.Attributes, attribute.Attribute)
	}
	return schema
}

func (r *resource) names() map[string]bool {
	names := make(map[string]bool, len(r.attributes))
	for _, attribute := range r.attributes {
		names[attribute.Name] = true
	}
	return names
}

func (r *resource) place(object tfplugin.Object) string {
	id, _ := object[r.id].(string)
	return r.path + "/" + api.Segment(id)
}

// title names one thing in a message.
func (r *resource) title(object tfplugin.Object) string {
	if id, ok := object[r.id].(string); ok {
		return "the " + r.noun + " " + id
	}
	if name, ok := object["name"].(string); ok {
		return "the " + r.noun + " " + name
	}
	return "the " + r.noun
}

// memory is what the provider keeps beside a state. It holds no secret.
type memory struct {
	// ETag is the API's, of when it was last read.
	ETag string `json:"etag,omitempty"`
	// Spelled is how the API spells what the configuration says in other words: a domain in another script, an address without its slash.
	Spelled map[string]json.RawMessage `json:"spelled,omitempty"`
}

func readMemory(private []byte) memory {
	var kept memory
	if len(private) == 0 || json.Unmarshal(private, &kept) != nil {
		// Without it a change is not guarded, and another spelling is shown as a change. Both are harmless.
		return memory{}
	}
	return kept
}

func (m memory) spelled(t cty.Type, name string) (any, bool) {
	raw, ok := m.Spelled[name]
	if !ok {
		return nil, false
	}
	value, err := cty.DecodeJSON(raw)
	if err != nil {
		return nil, false
	}
	value, err = cty.Conform(t, value)
	return value, err == nil
}

// change says what a request sent; nil: it only read.
type change struct {
	// members are the attributes that were sent; nil: all, because the thing was made.
	members map[string]any
}

func (c *change) sent(name string) bool {
	if c == nil {
		return false
	}
	_, isSent := c.members[name]
	return isSent || c.members == nil
}

// state makes a resource's state of an answer. What `wanted` says stays as it is spelled there where it means what the API says, or what
// the API made of it. After a change, what was planned stays in any case: that is what Terraform was promised.
func (r *resource) state(answer api.Answer, wanted tfplugin.Object, before memory, done *change) (tfplugin.State, error) {
	if r.derive != nil {
		r.derive(answer.Members)
	}
	object := tfplugin.Object{}
	kept := memory{ETag: answer.ETag, Spelled: map[string]json.RawMessage{}}
	for _, attribute := range r.attributes {
		want := wanted[attribute.Name]
		member, isTold := answer.Members[attribute.Name]
		if attribute.isLocal || !isTold {
			if want == nil || want == cty.Unknown {
				want = attribute.preset
			}
			object[attribute.Name] = want
			continue
		}
		value, err := cty.Conform(attribute.Type, member)
		if err != nil {
			return tfplugin.State{}, err
		}
		isPromised := done != nil && cty.IsKnown(want) && !(want == nil && attribute.Computed)
		isSame := cty.IsKnown(want) && attribute.same(want, value) && !(want == nil && attribute.Computed)
		spelled, isSpelled := before.spelled(attribute.Type, attribute.Name)
		isRemembered := isSpelled && cty.Equal(attribute.Type, spelled, value)
		if !isPromised && !isSame && !isRemembered {
			object[attribute.Name] = value
			continue
		}
		object[attribute.Name] = want
		// What was planned to stay and is another now is not remembered: the next plan shows it.
		if !isSame && (done.sent(attribute.Name) || isRemembered) {
			if kept.Spelled[attribute.Name], err = cty.EncodeJSON(value); err != nil {
				return tfplugin.State{}, err
			}
		}
	}
	private, err := json.Marshal(kept)
	return tfplugin.State{Object: object, Private: private}, err
}

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
