package tfplugin

import (
	"encoding/json"

	"license-metering.example/terraform-provider-licensemetering/internal/cty"
	"license-metering.example/terraform-provider-licensemetering/internal/protobuf"
)

// Attribute is one attribute of a schema.
type Attribute struct {
	Name        string
	Type        cty.Type
	Description string
	Required    bool
	Optional    bool
	Computed    bool
	Sensitive   bool
}

// Schema is what a provider, a resource or a data source is configured by.
type Schema struct {
	Version     int64
	Description string
	Attributes  []Attribute
}

// Type is the type of the schema's values.
func (s Schema) Type() cty.Type {
	attributes := make(map[string]cty.Type, len(s.Attributes))
	for _, attribute := range s.Attributes {
		attributes[attribute.Name] = attribute.Type
	}
	return cty.Object(attributes)
}

// Schemas are all the schemas of a provider.
type Schemas struct {
	Provider    Schema
	Resources   map[string]Schema
	DataSources map[string]Schema
}

// Severity says whether a diagnostic stops Terraform.
type Severity int

// The severities, with their numbers in the protocol.
const (
	Error   Severity = 1
	Warning Severity = 2
)

// Diagnostic is an error or a warning that Terraform shows.
type Diagnostic struct {
	Severity Severity
	Summary  string
	Detail   string
	// Path names the attribute that is to blame, and below it the key of a map. Empty: the whole.
	Path []string
}

// Diagnostics are errors and warnings.
type Diagnostics []Diagnostic

// HasErrors says whether one of them stops Terraform.
func (d Diagnostics) HasErrors() bool {
	for _, diagnostic := range d {
		if diagnostic.Severity == Error {
			return true
		}
	}
	return false
}

const markdown = 1

func (s Schema) encode() []byte {
	var block protobuf.Message
	block.Int(1, s.Version)
	for _, attribute := range s.Attributes {
		block.Sub(2, attribute.encode())
	}
	block.String(4, s.Description)
	block.Int(5, markdown)
	var message protobuf.Message
	message.Int(1, s.Version)
	message.Sub(2, block)
	return message
}

func (a Attribute) encode() []byte {
	var message protobuf.Message
	message.String(1, a.Name)
	kind, err := json.Marshal(a.Type)
	if err != nil {
		panic(err) // Types are the program's own, and all can be written.
	}
	message.Bytes(2, kind)
	message.String(3, a.Description)
	message.Bool(4, a.Required)
	message.Bool(5, a.Optional)
	message.Bool(6, a.Computed)
	message.Bool(7, a.Sensitive)
	message.Int(8, markdown)
	return message
}

func (s Schemas) encode() []byte {
	var message, capabilities protobuf.Message
	message.Sub(1, s.Provider.encode())
	for name, schema := range s.Resources {
		message.Sub(2, entry(name, schema.encode()))
	}
	for name, schema := range s.DataSources {
		message.Sub(3, entry(name, schema.encode()))
	}
	capabilities.Bool(1, true) // plan_destroy
	message.Sub(6, capabilities)
	return message
}

// entry is one entry of a map.
func entry(name string, value []byte) []byte {
	var message protobuf.Message
	message.String(1, name)
	message.Sub(2, value)
	return message
}

func (d Diagnostic) encode() []byte {
	var message protobuf.Message
	message.Int(1, int64(d.Severity))
	message.String(2, d.Summary)
	message.String(3, d.Detail)
	if len(d.Path) > 0 {
		message.Sub(4, encodePath(d.Path))
	}
	return message
}

func encodePath(path []string) []byte {
	var message protobuf.Message
	for i, name := range path {
		var step protobuf.Message
		field := 2 // The key of an element.
		if i == 0 {
			field = 1 // The name of an attribute.
		}
		step.Sub(field, []byte(name))
		message.Sub(1, step)
	}
	return message
}

// answer is a message with diagnostics in the given field.
func answer(field int, diagnostics Diagnostics) *protobuf.Message {
	var message protobuf.Message
	for _, diagnostic := range diagnostics {
		message.Sub(field, diagnostic.encode())
	}
	return &message
}

// dynamic is a DynamicValue.
func dynamic(value any) ([]byte, error) {
	data, err := cty.EncodeMessagePack(value)
	if err != nil {
		return nil, err
	}
	var message protobuf.Message
	message.Bytes(1, data)
	return message, nil
}

// request is a request's fields by number, each of which stands once.
type request map[int]protobuf.Field

func decodeRequest(message []byte) (request, error) {
	fields, err := protobuf.Fields(message)
	if err != nil {
		return nil, err
	}
	result := make(request, len(fields))
	for _, field := range fields {
		result[field.Number] = field
	}
	return result, nil
}

func (r request) text(field int) string { return string(r[field].Bytes) }

// value reads a DynamicValue; a field that is absent is null.
func (r request) value(field int, t cty.Type) (any, error) {
	if len(r[field].Bytes) == 0 {
		return nil, nil
	}
	inner, err := decodeRequest(r[field].Bytes)
	if err != nil {
		return nil, err
	}
	if data := inner[1].Bytes; len(data) > 0 {
		return cty.DecodeMessagePack(t, data)
	}
	return decodeJSON(t, inner[2].Bytes)
}

func decodeJSON(t cty.Type, data []byte) (any, error) {
	if len(data) == 0 {
		return nil, nil
	}
	value, err := cty.DecodeJSON(data)
	if err != nil {
		return nil, err
	}
	return cty.Conform(t, value)
}
