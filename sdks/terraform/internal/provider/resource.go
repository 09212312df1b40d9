package provider

import (
	"context"
	"encoding/json"
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
