package cty

import (
	"encoding/hex"
	"encoding/json"
	"math/rand"
	"reflect"
	"strings"
	"testing"
)

var everything = Object(map[string]Type{
	"text": String, "number": NumberType, "flag": Bool, "list": List(String), "set": Set(NumberType), "map": Map(NumberType),
	"object": List(Object(map[string]Type{"inner": String})),
})

func TestTypesAreWrittenAsSchemasDo(t *testing.T) {
	got, err := json.Marshal(List(Object(map[string]Type{"a": Set(String), "b": Map(NumberType), "c": Bool})))
	const wanted = `["list",["object",{"a":["set","string"],"b":["map","number"],"c":"bool"}]]`
	if err != nil || string(got) != wanted {
		t.Errorf("%s, %v", got, err)
	}
}

// Each is what the MessagePack specification, or Terraform's document about its wire format, says.
func TestMessagePackIsRead(t *testing.T) {
	vectors := []struct {
		hex  string
		kind Type
		want any
	}{
		{"c0", String, nil},
		{"c2", Bool, false}, {"c3", Bool, true},
		{"00", NumberType, Number("0")}, {"7f", NumberType, Number("127")}, {"ff", NumberType, Number("-1")}, {"e0", NumberType, Number("-32")},
		{"ccff", NumberType, Number("255")}, {"cdffff", NumberType, Number("65535")}, {"ceffffffff", NumberType, Number("4294967295")},
		{"cfffffffffffffffff", NumberType, Number("18446744073709551615")},
		{"d080", NumberType, Number("-128")}, {"d18000", NumberType, Number("-32768")}, {"d280000000", NumberType, Number("-2147483648")},
		{"d38000000000000000", NumberType, Number("-9223372036854775808")},
		{"ca3f000000", NumberType, Number("0.5")}, {"cb3fb999999999999a", NumberType, Number("0.1")}, {"cb43e0000000000000", NumberType, Number("9223372036854775808")},
		{"a53130653330", NumberType, Number("1" + strings.Repeat("0", 31))},
		{"a0", String, ""}, {"a161", String, "a"}, {"d90161", String, "a"}, {"da000161", String, "a"}, {"db0000000161", String, "a"}, {"c40161", String, "a"},
		{"92a161a162", List(String), []any{"a", "b"}}, {"dc0001a161", List(String), []any{"a"}}, {"dd00000001a161", Set(String), []any{"a"}},
		{"81a16101", Map(NumberType), map[string]any{"a": Number("1")}}, {"de0001a16101", Map(NumberType), map[string]any{"a": Number("1")}},
		{"df00000001a16101", Map(NumberType), map[string]any{"a": Number("1")}},
		{"d40000", String, Unknown}, {"c7030c810102", NumberType, Unknown}, {"91d40000", List(String), []any{Unknown}}, {"c800010c80", String, Unknown},
	}
	for _, vector := range vectors {
		data, err := hex.DecodeString(vector.hex)
		if err != nil {
			t.Fatal(err)
		}
		got, err := DecodeMessagePack(vector.kind, data)
		if err != nil || !reflect.DeepEqual(got, vector.want) {
			t.Errorf("%s was read as %#v (%v), not %#v", vector.hex, got, err, vector.want)
		}
	}
}

func TestMessagePackIsWritten(t *testing.T) {
	for value, wanted := range map[any]string{
		nil: "c0", true: "c3", false: "c2", "a": "a161", Unknown: "d40000", Number("5"): "05", Number("-3"): "fd", Number("128"): "d30000000000000080",
		Number("0.1"): "cb3fb999999999999a", Number("9223372036854775808"): "cb43e0000000000000", Number("9223372036854775809"): "b3" + hex.EncodeToString([]byte("9223372036854775809")),
	} {
		got, err := EncodeMessagePack(value)
		if err != nil || hex.EncodeToString(got) != wanted {
			t.Errorf("%v is %x (%v), not %s", value, got, err, wanted)
		}
	}
	if _, err := EncodeMessagePack(3); err == nil {
		t.Error("an int of Go's is no value")
	}
}

func TestEveryValueComesBack(t *testing.T) {
	random := rand.New(rand.NewSource(20_261_127))
	for range 10 {
		value := object(random)
		data, err := EncodeMessagePack(value)
		if err != nil {
			t.Fatal(err)
		}
		again, err := DecodeMessagePack(everything, data)
		if err != nil || !reflect.DeepEqual(again, value) {
			t.Fatalf("%#v became %#v (%v)", value, again, err)
		}
		for n := range data {
			if _, err := DecodeMessagePack(everything, data[:n]); err == nil {
				t.Fatalf("%x was read, cut at %d", data, n)
			}
		}
		for i := range data {
			changed := append([]byte(nil), data...)
			changed[i] ^= 1 << random.Intn(8)
			// Whatever it is, it neither ends the process nor makes more than it has bytes for.
			_, _ = DecodeMessagePack(everything, changed)
		}
		if IsKnown(value) {
			text, err := EncodeJSON(value)
			if err != nil {
				t.Fatal(err)
			}
			document, err := DecodeJSON(text)
			if err == nil {
				document, err = Conform(everything, document)
			}
			if err != nil || !reflect.DeepEqual(document, value) {
				t.Fatalf("%s became %#v (%v)", text, document, err)
			}
		}
	}
}

func TestLongTextsAndCollectionsComeBack(t *testing.T) {
	for _, n := range []int{15, 16, 31, 32, 255, 256, 65_535, 65_536} {
		items, members := make([]any, n), map[string]any{}
		for i := range items {
			items[i] = "x"
			members[strings.Repeat("k", i%50)+string(rune('a'+i%26))] = Number("1")
		}
		value := map[string]any{
			"text": strings.Repeat("x", n), "number": nil, "flag": nil, "list": items, "set": nil, "map": members, "object": nil,
		}
		data, err := EncodeMessagePack(value)
		if err != nil {
			t.Fatal(err)
		}
		again, err := DecodeMessagePack(everything, data)
		if err != nil || !reflect.DeepEqual(again, value) {
			t.Errorf("%d did not come back (%v)", n, err)
		}
	}
}

func object(random *rand.Rand) any {
	numbers := []Number{"0", "-1", "127", "128", "9223372036854775807", "-9223372036854775808", "18446744073709551616", "0.1", "-2.5", "1e-07"}
	texts := []string{"", "a", "ünïcode", strings.Repeat("x", 31), strings.Repeat("x", 32), strings.Repeat("x", 256)}
	text := func() any { return texts[random.Intn(len(texts)-random.Intn(2))] }
	number := func() any { return numbers[random.Intn(len(numbers))] }
	items := func(make func() any) any {
		result := []any{}
		for range random.Intn(6) {
			result = append(result, make())
		}
		return result
	}
	members := map[string]any{}
	for range random.Intn(6) {
		members[strings.Repeat("k", random.Intn(40))] = number()
	}
	value := map[string]any{
		"text": text(), "number": number(), "flag": random.Intn(2) == 0, "list": items(text), "set": items(number), "map": members,
		"object": items(func() any { return map[string]any{"inner": text()} }),
	}
	for name := range value {
		switch random.Intn(12) {
		case 0:
			value[name] = nil
		case 1:
			value[name] = Unknown
		}
	}
	return value
}

func TestWhatIsMalformedIsRefused(t *testing.T) {
	for _, text := range []string{"", "c1", "a2", "a261", "ddffffffff", "dfffffffff", "81", "810101", "0000", "cb7ff8000000000000", strings.Repeat("91", 200) + "c0"} {
		data, _ := hex.DecodeString(text)
		if value, err := DecodeMessagePack(List(String), data); err == nil {
			t.Errorf("%s was read as %#v", text, value)
		}
	}
	for _, text := range []string{"1e999999999", "0x10", "NaN", "Inf", "1_000", "", "-", "1e", "0b1"} {
		if number, err := ParseNumber(text); err == nil {
			t.Errorf("%q is the number %s", text, number)
		}
	}
}

func TestAValueConformsToItsType(t *testing.T) {
	kind := Object(map[string]Type{"a": String, "b": NumberType})
	got, err := Conform(kind, map[string]any{"b": "7", "gone": true})
	if err != nil || !reflect.DeepEqual(got, map[string]any{"a": nil, "b": Number("7")}) {
		t.Errorf("%#v, %v", got, err)
	}
	for _, wrong := range []any{"text", []any{}, map[string]any{"a": true}, map[string]any{"b": "seven"}} {
		if _, err := Conform(kind, wrong); err == nil {
			t.Errorf("%#v conforms", wrong)
		}
	}
}

func TestSetsHaveNoOrder(t *testing.T) {
	one, other := []any{"a", "b"}, []any{"b", "a"}
	if !Equal(Set(String), one, other) || Equal(List(String), one, other) {
		t.Error("the order counts in lists alone")
	}
	if Equal(String, "null", nil) || Equal(NumberType, Number("1"), "1") || Equal(Map(String), map[string]any{"a": nil}, map[string]any{}) {
		t.Error("values of different kinds are equal")
	}
}

func FuzzDecodeMessagePack(f *testing.F) {
	f.Add([]byte("\x81\xa4text\xa1a"))
	f.Fuzz(func(t *testing.T, data []byte) {
		value, err := DecodeMessagePack(everything, data)
		if err != nil {
			return
		}
		again, err := EncodeMessagePack(value)
		if err != nil {
			t.Fatal(err)
		}
		second, err := DecodeMessagePack(everything, again)
		if err != nil || !reflect.DeepEqual(value, second) {
			t.Errorf("%#v became %#v (%v)", value, second, err)
		}
	})
}
