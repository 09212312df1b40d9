// Package cty holds Terraform's values and types, and reads and writes them as MessagePack and JSON.
//
// A value is nil (null), Unknown, a string, a bool, a Number, a []any (list or set) or a map[string]any (map or object).
package cty

import (
	"encoding/json"
	"fmt"
	"math/big"
	"sort"
	"strconv"
	"strings"
)

type unknown struct{}

// Unknown is a value that will be known once the changes are applied.
var Unknown any = unknown{}

// Number is a decimal number: an integer without exponent where it is one.
type Number string

// IsKnown says whether nothing in the value is unknown.
func IsKnown(value any) bool {
	switch value := value.(type) {
	case unknown:
		return false
	case []any:
		for _, item := range value {
			if !IsKnown(item) {
				return false
			}
		}
	case map[string]any:
		for _, item := range value {
			if !IsKnown(item) {
				return false
			}
		}
	}
	return true
}

// Kind is what a type is made of.
type Kind int

// The kinds that the provider's schemas use.
const (
	KindString Kind = iota
	KindNumber
	KindBool
	KindList
	KindSet
	KindMap
	KindObject
)

// Type is a type of Terraform's.
type Type struct {
	Kind       Kind
	Element    *Type
	Attributes map[string]Type
}

// The primitive types.
var (
	String     = Type{Kind: KindString}
	NumberType = Type{Kind: KindNumber}
	Bool       = Type{Kind: KindBool}
)

// List is the type of a sequence.
func List(element Type) Type { return Type{Kind: KindList, Element: &element} }

// Set is the type of a collection without order.
func Set(element Type) Type { return Type{Kind: KindSet, Element: &element} }

// Map is the type of values by free names.
func Map(element Type) Type { return Type{Kind: KindMap, Element: &element} }

// Object is the type of values by fixed names.
func Object(attributes map[string]Type) Type {
	return Type{Kind: KindObject, Attributes: attributes}
}

// MarshalJSON writes the type as Terraform's schemas do.
func (t Type) MarshalJSON() ([]byte, error) {
	switch t.Kind {
	case KindString:
		return []byte(`"string"`), nil
	case KindNumber:
		return []byte(`"number"`), nil
	case KindBool:
		return []byte(`"bool"`), nil
	case KindList:
		return json.Marshal([]any{"list", *t.Element})
	case KindSet:
		return json.Marshal([]any{"set", *t.Element})
	case KindMap:
		return json.Marshal([]any{"map", *t.Element})
	default:
		return json.Marshal([]any{"object", t.Attributes})
	}
}

// Describe names the type in words.
func (t Type) Describe() string {
	switch t.Kind {
	case KindString:
		return "String"
	case KindNumber:
		return "Number"
	case KindBool:
		return "Boolean"
	case KindList:
		return "List of " + t.Element.Describe()
	case KindSet:
		return "Set of " + t.Element.Describe()
	case KindMap:
		return "Map of " + t.Element.Describe()
	default:
		return "Object"
	}
}

// Conform makes a value that was read without its type one of the type: numbers that were written as texts become numbers, attributes that
// an object lacks become null, and others are dropped.
func Conform(t Type, value any) (any, error) {
	if value == nil || value == Unknown {
		return value, nil
	}
	wrong := fmt.Errorf("a %s was expected, and not %T", strings.ToLower(t.Describe()), value)
	switch t.Kind {
	case KindString:
		if _, ok := value.(string); ok {
			return value, nil
		}
	case KindBool:
		if _, ok := value.(bool); ok {
			return value, nil
		}
	case KindNumber:
		switch value := value.(type) {
		case Number:
			return value, nil
		case string:
			return ParseNumber(value)
		}
	case KindList, KindSet:
		if items, ok := value.([]any); ok {
			return conformItems(*t.Element, items)
		}
	case KindMap:
		if members, ok := value.(map[string]any); ok {
			return conformMembers(members, func(string) Type { return *t.Element })
		}
	case KindObject:
		if members, ok := value.(map[string]any); ok {
			kept := make(map[string]any, len(t.Attributes))
			for name := range t.Attributes {
				kept[name] = members[name]
			}
			return conformMembers(kept, func(name string) Type { return t.Attributes[name] })
		}
	}
	return nil, wrong
}

func conformItems(t Type, items []any) (any, error) {
	result := make([]any, len(items))
	for i, item := range items {
		var err error
		if result[i], err = Conform(t, item); err != nil {
			return nil, fmt.Errorf("[%d]: %w", i, err)
		}
	}
	return result, nil
}

func conformMembers(members map[string]any, element func(string) Type) (any, error) {
	result := make(map[string]any, len(members))
	for name, member := range members {
		var err error
		if result[name], err = Conform(element(name), member); err != nil {
			return nil, fmt.Errorf("%s: %w", name, err)
		}
	}
	return result, nil
}

// The largest exponent that is read: a number of a few bytes must not become one of megabytes.
const maximumExponent = 400

// ParseNumber reads a decimal number.
func ParseNumber(text string) (Number, error) {
	if value, err := strconv.ParseInt(text, 10, 64); err == nil {
		return Number(strconv.FormatInt(value, 10)), nil
	}
	if at := strings.IndexAny(text, "eE"); at >= 0 {
		var exponent int
		if _, err := fmt.Sscanf(text[at+1:], "%d", &exponent); err != nil ||
			exponent > maximumExponent || exponent < -maximumExponent {
			return "", fmt.Errorf("%.40q is no number", text)
		}
	}
	if len(text) > 1000 || strings.ContainsAny(text, "_xXpPbBoOiInN") {
		return "", fmt.Errorf("%.40q is no number", text)
	}
	value, _, err := big.ParseFloat(text, 10, 512, big.ToNearestEven)
	if err != nil || value.IsInf() {
		return "", fmt.Errorf("%.40q is no number", text)
	}
	if value.IsInt() {
		return Number(value.Text('f', 0)), nil
	}
	return Number(value.Text('g', -1)), nil
}

// Equal compares two values of a type; sets have no order.
func Equal(t Type, a, b any) bool { return key(t, a) == key(t, b) }

// key is one text for equal values.
func key(t Type, value any) string {
	switch value := value.(type) {
	case nil:
		return "null"
	case unknown:
		return "unknown"
	case []any:
		keys := make([]string, len(value))
		for i, item := range value {
			keys[i] = key(*t.Element, item)
		}
		if t.Kind == KindSet {
			sort.Strings(keys)
		}
		return "[" + strings.Join(keys, ",") + "]"
	case map[string]any:
		names := sortedNames(value)
		keys := make([]string, len(names))
		for i, name := range names {
			element := t.Attributes[name]
			if t.Element != nil {
				element = *t.Element
			}
			keys[i] = fmt.Sprintf("%q:%s", name, key(element, value[name]))
		}
		return "{" + strings.Join(keys, ",") + "}"
	default:
		return fmt.Sprintf("%T:%q", value, fmt.Sprint(value))
	}
}

func sortedNames(members map[string]any) []string {
	names := make([]string, 0, len(members))
	for name := range members {
		names = append(names, name)
	}
	sort.Strings(names)
	return names
}
