package tfplugin

import (
	"context"

	"license-metering.example/terraform-provider-licensemetering/internal/protobuf"
)

// Object is the state or the configuration of one thing; nil where there is none.
type Object = map[string]any

// State is a resource's state with what the provider keeps beside it.
type State struct {
	Object  Object
	Private []byte
}

// Plan is what a resource will be.
type Plan struct {
	State
	// Replace are the attributes for whose sake the resource must be made again.
	Replace []string
}

// Provider is what Terraform asks.
type Provider interface {
	Schemas() Schemas
	ValidateProvider(config Object) Diagnostics
	Configure(ctx context.Context, terraformVersion string, config Object) Diagnostics
	ValidateResource(name string, config Object) Diagnostics
	Read(ctx context.Context, name string, state State) (State, Diagnostics)
	Plan(ctx context.Context, name string, prior State, config Object, isDestroy bool) (Plan, Diagnostics)
	Apply(ctx context.Context, name string, prior Object, planned State) (State, Diagnostics)
	Import(ctx context.Context, name, id string) (State, Diagnostics)
	ReadDataSource(ctx context.Context, name string, config Object) (Object, Diagnostics)
	// Stop ends what is under way.
	Stop()
}

// method answers one request of the protocol.
type method func(*service, context.Context, request) ([]byte, error)

// service answers the requests of tfplugin6.Provider.
type service struct {
	provider Provider
	schemas  Schemas
}

var methods = map[string]method{
	"GetProviderSchema":          (*service).getSchema,
	"ValidateProviderConfig":     (*service).validateProvider,
	"ValidateResourceConfig":     (*service).validateResource,
	"ValidateDataResourceConfig": (*service).validateDataSource,
	"UpgradeResourceState":       (*service).upgradeState,
	"ConfigureProvider":          (*service).configure,
	"ReadResource":               (*service).read,
	"PlanResourceChange":         (*service).plan,
	"ApplyResourceChange":        (*service).apply,
	"ImportResourceState":        (*service).importState,
	"ReadDataSource":             (*service).readDataSource,
	"StopProvider":               (*service).stop,
}

// object reads a DynamicValue that is an object or null.
func (r request) object(field int, schema Schema) (Object, error) {
	value, err := r.value(field, schema.Type())
	object, _ := value.(Object)
	return object, err
}

// resource is the schema of the resource that a request names.
func (s *service) resource(r request) (Schema, error) {
	if schema, ok := s.schemas.Resources[r.text(1)]; ok {
		return schema, nil
	}
	return Schema{}, statusError{invalidArgument, "there is no resource " + r.text(1)}
}

func (s *service) dataSource(r request) (Schema, error) {
	if schema, ok := s.schemas.DataSources[r.text(1)]; ok {
		return schema, nil
	}
	return Schema{}, statusError{invalidArgument, "there is no data source " + r.text(1)}
}

func (s *service) getSchema(context.Context, request) ([]byte, error) {
	return s.schemas.encode(), nil
}

func (s *service) validateProvider(_ context.Context, r request) ([]byte, error) {
	config, err := r.object(1, s.schemas.Provider)
	if err != nil {
		return nil, err
	}
	return *answer(2, s.provider.ValidateProvider(config)), nil
}

func (s *service) configure(ctx context.Context, r request) ([]byte, error) {
	config, err := r.object(2, s.schemas.Provider)
	if err != nil {
		return nil, err
	}
	return *answer(1, s.provider.Configure(ctx, r.text(1), config)), nil
}

func (s *service) validateResource(_ context.Context, r request) ([]byte, error) {
	schema, err := s.resource(r)
	if err != nil {
		return nil, err
	}
	config, err := r.object(2, schema)
	if err != nil {
		return nil, err
	}
	return *answer(1, s.provider.ValidateResource(r.text(1), config)), nil
}

// validateDataSource has nothing to say: what Terraform checks by the schema is enough.
func (s *service) validateDataSource(_ context.Context, r request) ([]byte, error) {
	_, err := s.dataSource(r)
	return nil, err
}

// upgradeState reads a state as it was stored. There is one version yet; an attribute that came later is null.
func (s *service) upgradeState(_ context.Context, r request) ([]byte, error) {
	schema, err := s.resource(r)
	if err != nil {
		return nil, err
	}
	raw, err := decodeRequest(r[3].Bytes)
	if err != nil {
		return nil, err
	}
	value, err := decodeJSON(schema.Type(), raw[1].Bytes)
	if err != nil {
		return *answer(2, Diagnostics{{Severity: Error, Summary: "The stored state cannot be read", Detail: err.Error()}}), nil
	}
	return respond(answer(2, nil), 1, value)
}

// respond adds a DynamicValue to an answer.
func respond(message *protobuf.Message, field int, value any) ([]byte, error) {
	if object, ok := value.(Object); ok && object == nil {
		value = nil
	}
	data, err := dynamic(value)
	if err != nil {
		return nil, err
	}
	message.Sub(field, data)
	return *message, nil
}

func (s *service) read(ctx context.Context, r request) ([]byte, error) {
	schema, err := s.resource(r)
	if err != nil {
		return nil, err
	}
	object, err := r.object(2, schema)
	if err != nil {
		return nil, err
	}
	state, diagnostics := s.provider.Read(ctx, r.text(1), State{object, r[3].Bytes})
	message := answer(2, diagnostics)
	message.Bytes(3, state.Private)
	return respond(message, 1, state.Object)
}

func (s *service) plan(ctx context.Context, r request) ([]byte, error) {
	schema, err := s.resource(r)
	if err != nil {
		return nil, err
	}
	var objects [3]Object
	for i := range objects {
		if objects[i], err = r.object(2+i, schema); err != nil {
			return nil, err
		}
	}
	prior, proposed, config := objects[0], objects[1], objects[2]
	plan, diagnostics := s.provider.Plan(ctx, r.text(1), State{prior, r[5].Bytes}, config, proposed == nil)
	message := answer(4, diagnostics)
	for _, name := range plan.Replace {
		message.Sub(2, encodePath([]string{name}))
	}
	message.Bytes(3, plan.Private)
	return respond(message, 1, plan.Object)
}

func (s *service) apply(ctx context.Context, r request) ([]byte, error) {
	schema, err := s.resource(r)
	if err != nil {
		return nil, err
	}
	prior, err := r.object(2, schema)
	if err != nil {
		return nil, err
	}
	planned, err := r.object(3, schema)
	if err != nil {
		return nil, err
	}
	state, diagnostics := s.provider.Apply(ctx, r.text(1), prior, State{planned, r[5].Bytes})
	message := answer(3, diagnostics)
	message.Bytes(2, state.Private)
	return respond(message, 1, state.Object)
}

func (s *service) importState(ctx context.Context, r request) ([]byte, error) {
	if _, err := s.resource(r); err != nil {
		return nil, err
	}
	state, diagnostics := s.provider.Import(ctx, r.text(1), r.text(2))
	message := answer(2, diagnostics)
	if diagnostics.HasErrors() {
		return *message, nil
	}
	var imported protobuf.Message
	imported.String(1, r.text(1))
	imported.Bytes(3, state.Private)
	one, err := respond(&imported, 2, state.Object)
	if err != nil {
		return nil, err
	}
	message.Sub(1, one)
	return *message, nil
}

func (s *service) readDataSource(ctx context.Context, r request) ([]byte, error) {
	schema, err := s.dataSource(r)
	if err != nil {
		return nil, err
	}
	config, err := r.object(2, schema)
	if err != nil {
		return nil, err
	}
	object, diagnostics := s.provider.ReadDataSource(ctx, r.text(1), config)
	return respond(answer(2, diagnostics), 1, object)
}

func (s *service) stop(context.Context, request) ([]byte, error) {
	s.provider.Stop()
	return nil, nil
}
