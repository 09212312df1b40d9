package licensemetering

import (
	"errors"
	"math/big"
	"strconv"
	"strings"
	"unicode/utf16"
	"unicode/utf8"
)

const (
	maximumDepth    = 512
	maximumExponent = 1_000_000
)

var errNotJSON = errors.New("not JSON")

// members is a JSON object; repeated where a name stands more than once.
type members struct {
	values   map[string]any
	names    []string
	repeated bool
}

func (m *members) has(name string) bool {
	_, ok := m.values[name]
	return ok
}

// jsonText is a JSON string; isBroken where an escape named a lone surrogate.
type jsonText struct {
	text     string
	isBroken bool
}

// jsonNumber is a number's own characters, such as 1.9e9.
type jsonNumber string

// parseJSON reads one JSON text by RFC 8259, strictly. Values are *members, []any, jsonText, jsonNumber, bool and nil.
func parseJSON(data []byte) (any, error) {
	if !utf8.Valid(data) {
		return nil, errNotJSON
	}
	reader := jsonReader{data: data}
	value, err := reader.value(1)
	if err != nil {
		return nil, err
	}
	if reader.skipBlanks(); reader.at != len(data) {
		return nil, errNotJSON
	}
	return value, nil
}

func parseMembers(data []byte) *members {
	value, err := parseJSON(data)
	if err != nil {
		return nil
	}
	object, _ := value.(*members)
	return object
}

type jsonReader struct {
	data []byte
	at   int
}

func (r *jsonReader) peek() byte {
	if r.at < len(r.data) {
		return r.data[r.at]
	}
	return 0
}

func (r *jsonReader) skipBlanks() {
	for r.at < len(r.data) && strings.IndexByte(" \t\n\r", r.data[r.at]) >= 0 {
		r.at++
	}
}

func (r *jsonReader) skip(letter byte) bool {
	r.skipBlanks()
	if r.peek() != letter {
		return false
	}
	r.at++
	return true
}

func (r *jsonReader) value(depth int) (any, error) {
	if depth > maximumDepth {
		return nil, errNotJSON
	}
	r.skipBlanks()
	switch letter := r.peek(); {
	case letter == '{':
		return r.object(depth)
	case letter == '[':
		return r.array(depth)
	case letter == '"':
		return r.string()
	case letter == 't':
		return true, r.word("true")
	case letter == 'f':
		return false, r.word("false")
	case letter == 'n':
		return nil, r.word("null")
	default:
		return r.number()
	}
}

func (r *jsonReader) word(word string) error {
	if !strings.HasPrefix(string(r.data[r.at:min(len(r.data), r.at+len(word))]), word) {
		return errNotJSON
	}
	r.at += len(word)
	return nil
}

func (r *jsonReader) object(depth int) (any, error) {
	object := &members{values: map[string]any{}}
	r.at++
	if r.skip('}') {
		return object, nil
	}
	for {
		r.skipBlanks()
		if r.peek() != '"' {
			return nil, errNotJSON
		}
		name, err := r.string()
		if err != nil {
			return nil, err
		}
		if !r.skip(':') {
			return nil, errNotJSON
		}
		value, err := r.value(depth + 1)
		if err != nil {
			return nil, err
		}
		if object.has(name.text) {
			object.repeated = true
		} else {
			object.names = append(object.names, name.text)
		}
		object.values[name.text] = value
		if r.skip(',') {
			continue
		}
		if r.skip('}') {
			return object, nil
		}
		return nil, errNotJSON
	}
}

func (r *jsonReader) array(depth int) (any, error) {
	elements := []any{}
	r.at++
	if r.skip(']') {
		return elements, nil
	}
	for {
		value, err := r.value(depth + 1)
		if err != nil {
			return nil, err
		}
		elements = append(elements, value)
		if r.skip(',') {
			continue
		}
		if r.skip(']') {
			return elements, nil
		}
		return nil, errNotJSON
	}
}

func (r *jsonReader) string() (jsonText, error) {
	var text strings.Builder
	isBroken := false
	for r.at++; r.at < len(r.data); {
		switch letter := r.data[r.at]; {
		case letter == '"':
			r.at++
			return jsonText{text.String(), isBroken}, nil
		case letter < 0x20:
			return jsonText{}, errNotJSON
		case letter != '\\':
			text.WriteByte(letter)
			r.at++
		default:
			broken, err := r.escape(&text)
			if err != nil {
				return jsonText{}, err
			}
			isBroken = isBroken || broken
		}
	}
	return jsonText{}, errNotJSON
}

func (r *jsonReader) escape(text *strings.Builder) (isBroken bool, err error) {
	const letters, meanings = `"\/bfnrt`, "\"\\/\b\f\n\r\t"
	r.at++
	letter := r.peek()
	r.at++
	if letter != 'u' {
		place := strings.IndexByte(letters, letter)
		if place < 0 {
			return false, errNotJSON
		}
		text.WriteByte(meanings[place])
		return false, nil
	}
	first, err := r.hex()
	if err != nil {
		return false, err
	}
	if !utf16.IsSurrogate(first) {
		text.WriteRune(first)
		return false, nil
	}
	if strings.HasPrefix(string(r.data[r.at:min(len(r.data), r.at+2)]), `\u`) {
		before := r.at
		r.at += 2
		second, err := r.hex()
		if err != nil {
			return false, err
		}
		if both := utf16.DecodeRune(first, second); both != utf8.RuneError {
			text.WriteRune(both)
			return false, nil
		}
		r.at = before
	}
	text.WriteString(`\u` + strconv.FormatInt(int64(first), 16))
	return true, nil
}

func (r *jsonReader) hex() (rune, error) {
	if r.at+4 > len(r.data) {
		return 0, errNotJSON
	}
	value, err := strconv.ParseUint(string(r.data[r.at:r.at+4]), 16, 16)
	if err != nil {
		return 0, errNotJSON
	}
	r.at += 4
	return rune(value), nil
}

func (r *jsonReader) number() (any, error) {
	start := r.at
	if r.peek() == '-' {
		r.at++
	}
	digits := r.digits()
	if digits == 0 || (digits > 1 && r.data[r.at-digits] == '0') {
		return nil, errNotJSON
	}
	if r.peek() == '.' {
		r.at++
		if r.digits() == 0 {
			return nil, errNotJSON
		}
	}
	if r.peek() == 'e' || r.peek() == 'E' {
		r.at++
		if r.peek() == '+' || r.peek() == '-' {
			r.at++
		}
		if r.digits() == 0 {
			return nil, errNotJSON
		}
	}
	return jsonNumber(r.data[start:r.at]), nil
}

func (r *jsonReader) digits() int {
	start := r.at
	for r.peek() >= '0' && r.peek() <= '9' {
		r.at++
	}
	return r.at - start
}

// decimal is a number as digits and a power of ten, whatever its size and however it is spelled.
type decimal struct {
	isNegative bool
	digits     string
	exponent   int
}

func (n jsonNumber) decimal() decimal {
	text, isNegative := strings.CutPrefix(string(n), "-")
	power := 0
	if e := strings.IndexAny(text, "eE"); e >= 0 {
		// Larger exponents are beyond every use, and stand for it.
		exact, _ := new(big.Int).SetString(text[e+1:], 10)
		power = maximumExponent * exact.Sign()
		if exact.IsInt64() && exact.Int64() > -maximumExponent && exact.Int64() < maximumExponent {
			power = int(exact.Int64())
		}
		text = text[:e]
	}
	whole, fraction, _ := strings.Cut(text, ".")
	digits := strings.TrimLeft(whole+fraction, "0")
	trimmed := strings.TrimRight(digits, "0")
	if trimmed == "" {
		return decimal{isNegative: isNegative}
	}
	return decimal{isNegative, trimmed, power - len(fraction) + len(digits) - len(trimmed)}
}

// scaled is the number times 10^decimals, rounded down; false beyond 64 bits.
func (d decimal) scaled(decimals int) (int64, bool) {
	shift := d.exponent + decimals
	kept := d.digits
	if shift < 0 {
		kept = kept[:max(0, len(kept)+shift)]
	}
	zeros := 0
	if kept != "" {
		zeros = max(shift, 0)
	}
	if len(kept)+zeros > 19 {
		return 0, false
	}
	value, err := strconv.ParseInt("0"+kept+strings.Repeat("0", zeros), 10, 64)
	if err != nil {
		return 0, false
	}
	if !d.isNegative {
		return value, true
	}
	if shift >= 0 || d.digits == "" {
		return -value, true
	}
	return -value - 1, true
}

// integerOf is a number where it is whole, however it is spelled.
func integerOf(value any) (int64, bool) {
	number, ok := value.(jsonNumber)
	if !ok {
		return 0, false
	}
	exact := number.decimal()
	if exact.digits != "" && exact.exponent < 0 {
		return 0, false
	}
	return exact.scaled(0)
}

// textOf is a string without lone surrogates and of so many bytes.
func textOf(value any, minimum, maximum int) (string, bool) {
	text, ok := value.(jsonText)
	if !ok || text.isBroken || len(text.text) < minimum || len(text.text) > maximum {
		return "", false
	}
	return text.text, true
}

// plainTextOf is as textOf, not empty and without control characters.
func plainTextOf(value any, maximum int) (string, bool) {
	text, ok := textOf(value, 1, maximum)
	return text, ok && isPlain(text, maximum)
}

func isPlain(text string, maximum int) bool {
	if text == "" || len(text) > maximum || !utf8.ValidString(text) {
		return false
	}
	return !strings.ContainsFunc(text, func(letter rune) bool { return letter < 0x20 || letter == 0x7F })
}
