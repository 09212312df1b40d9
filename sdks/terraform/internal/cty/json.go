package cty

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
)

// DecodeJSON reads a JSON document as a value, whatever its type.
func DecodeJSON(data []byte) (any, error) {
	decoder := json.NewDecoder(bytes.NewReader(data))
	decoder.UseNumber()
	var document any
	if err := decoder.Decode(&document); err != nil {
		return nil, err
	}
	if _, err := decoder.Token(); !errors.Is(err, io.EOF) {
		return nil, errors.New("more than one JSON document")
	}
	return fromJSON(document)
}

func fromJSON(document any) (any, error) {
	switch document := document.(type) {
	case json.Number:
		return ParseNumber(document.String())
	case []any:
		for i, item := range document {
			value, err := fromJSON(item)
			if err != nil {
				return nil, err
			}
			document[i] = value
		}
	case map[string]any:
		for name, item := range document {
			value, err := fromJSON(item)
			if err != nil {
				return nil, err
			}
			document[name] = value
		}
	}
	return document, nil
}

// EncodeJSON writes a known value as JSON.
func EncodeJSON(value any) ([]byte, error) {
	var buffer bytes.Buffer
	encoder := json.NewEncoder(&buffer)
	encoder.SetEscapeHTML(false)
	document, err := toJSON(value)
	if err != nil {
		return nil, err
	}
	if err := encoder.Encode(document); err != nil {
		return nil, err
	}
	return bytes.TrimSuffix(buffer.Bytes(), []byte("\n")), nil
}

func toJSON(value any) (any, error) {
	switch value := value.(type) {
	case unknown:
		return nil, fmt.Errorf("an unknown value cannot be sent")
	case Number:
		return json.Number(value), nil
	case []any:
		items := make([]any, len(value))
		for i, item := range value {
			var err error
			if items[i], err = toJSON(item); err != nil {
				return nil, err
			}
		}
		return items, nil
	case map[string]any:
		members := make(map[string]any, len(value))
		for name, item := range value {
			var err error
			if members[name], err = toJSON(item); err != nil {
				return nil, err
			}
		}
		return members, nil
	}
	return value, nil
}
