package cty

import (
	"encoding/binary"
	"errors"
	"fmt"
	"math"
	"strconv"
)

// Values nest as deep as schemas do; more is no value of a schema.
const maximumDepth = 32

var errMalformed = errors.New("malformed MessagePack")

// DecodeMessagePack reads a value of the type as Terraform writes it: extensions stand for unknown values.
func DecodeMessagePack(t Type, data []byte) (any, error) {
	reader := reader{data: data}
	value, err := reader.value(maximumDepth)
	if err != nil {
		return nil, err
	}
	if len(reader.data) > 0 {
		return nil, errMalformed
	}
	return Conform(t, value)
}

type reader struct{ data []byte }

func (r *reader) take(n uint64) ([]byte, error) {
	if n > uint64(len(r.data)) {
		return nil, errMalformed
	}
	taken := r.data[:n]
	r.data = r.data[n:]
	return taken, nil
}

// size reads a big-endian integer of n bytes.
func (r *reader) size(n uint64) (uint64, error) {
	data, err := r.take(n)
	if err != nil {
		return 0, err
	}
	var value uint64
	for _, b := range data {
		value = value<<8 | uint64(b)
	}
	return value, nil
}

func (r *reader) value(depth int) (any, error) {
	if depth == 0 {
		return nil, errMalformed
	}
	head, err := r.size(1)
	if err != nil {
		return nil, err
	}
	code := byte(head)
	switch {
	case code <= 0x7f:
		return Number(strconv.Itoa(int(code))), nil
	case code >= 0xe0:
		return Number(strconv.Itoa(int(int8(code)))), nil
	case code <= 0x8f:
		return r.members(head&0x0f, depth)
	case code <= 0x9f:
		return r.items(head&0x0f, depth)
	case code <= 0xbf:
		return r.text(head & 0x1f)
	}
	switch code {
	case 0xc0:
		return nil, nil
	case 0xc2:
		return false, nil
	case 0xc3:
		return true, nil
	case 0xca, 0xcb:
		return r.float(code)
	case 0xcc, 0xcd, 0xce, 0xcf:
		value, err := r.size(1 << (code - 0xcc))
		return Number(strconv.FormatUint(value, 10)), err
	case 0xd0, 0xd1, 0xd2, 0xd3:
		width := uint64(1) << (code - 0xd0)
		value, err := r.size(width)
		shift := 64 - 8*width
		return Number(strconv.FormatInt(int64(value<<shift)>>shift, 10)), err
	case 0xd4, 0xd5, 0xd6, 0xd7, 0xd8:
		_, err := r.take(1 + 1<<(code-0xd4))
		return Unknown, err
	case 0xc7, 0xc8, 0xc9:
		return r.extension(1 << (code - 0xc7))
	case 0xc4, 0xc5, 0xc6:
		return r.sized(1<<(code-0xc4), r.text)
	case 0xd9, 0xda, 0xdb:
		return r.sized(1<<(code-0xd9), r.text)
	case 0xdc, 0xdd:
		return r.sized(2<<(code-0xdc), func(n uint64) (any, error) { return r.items(n, depth) })
	case 0xde, 0xdf:
		return r.sized(2<<(code-0xde), func(n uint64) (any, error) { return r.members(n, depth) })
	}
	return nil, errMalformed
}

func (r *reader) sized(width uint64, read func(uint64) (any, error)) (any, error) {
	n, err := r.size(width)
	if err != nil {
		return nil, err
	}
	return read(n)
}

func (r *reader) text(n uint64) (any, error) {
	data, err := r.take(n)
	return string(data), err
}

// extension skips what Terraform knows of an unknown value.
func (r *reader) extension(width uint64) (any, error) {
	n, err := r.size(width)
	if err != nil {
		return nil, err
	}
	_, err = r.take(n + 1)
	return Unknown, err
}

func (r *reader) float(code byte) (any, error) {
	var value float64
	if code == 0xca {
		bits, err := r.size(4)
		if err != nil {
			return nil, err
		}
		value = float64(math.Float32frombits(uint32(bits)))
	} else {
		bits, err := r.size(8)
		if err != nil {
			return nil, err
		}
		value = math.Float64frombits(bits)
	}
	if math.IsNaN(value) || math.IsInf(value, 0) {
		return nil, errMalformed
	}
	return floatNumber(value)
}

// floatNumber is an integer exactly, and other numbers in the fewest digits that name them.
func floatNumber(value float64) (Number, error) {
	if value == math.Trunc(value) {
		return ParseNumber(strconv.FormatFloat(value, 'f', 0, 64))
	}
	return ParseNumber(strconv.FormatFloat(value, 'g', -1, 64))
}

func (r *reader) items(n uint64, depth int) (any, error) {
	// Each takes a byte at least.
	if n > uint64(len(r.data)) {
		return nil, errMalformed
	}
	items := make([]any, n)
	for i := range items {
		var err error
		if items[i], err = r.value(depth - 1); err != nil {
			return nil, err
		}
	}
	return items, nil
}

func (r *reader) members(n uint64, depth int) (any, error) {
	if n > uint64(len(r.data)) {
		return nil, errMalformed
	}
	members := make(map[string]any, n)
	for i := uint64(0); i < n; i++ {
		name, err := r.value(depth - 1)
		if err != nil {
			return nil, err
		}
		text, ok := name.(string)
		if !ok {
			return nil, errMalformed
		}
		if members[text], err = r.value(depth - 1); err != nil {
			return nil, err
		}
	}
	return members, nil
}

// EncodeMessagePack writes a value as Terraform reads it.
func EncodeMessagePack(value any) ([]byte, error) { return appendValue(nil, value) }

func appendValue(data []byte, value any) ([]byte, error) {
	switch value := value.(type) {
	case nil:
		return append(data, 0xc0), nil
	case unknown:
		return append(data, 0xd4, 0, 0), nil
	case bool:
		if value {
			return append(data, 0xc3), nil
		}
		return append(data, 0xc2), nil
	case string:
		return appendText(data, value), nil
	case Number:
		return appendNumber(data, value)
	case []any:
		data = appendSize(data, len(value), 0x90, 0xdc)
		for _, item := range value {
			var err error
			if data, err = appendValue(data, item); err != nil {
				return nil, err
			}
		}
		return data, nil
	case map[string]any:
		data = appendSize(data, len(value), 0x80, 0xde)
		for _, name := range sortedNames(value) {
			var err error
			if data, err = appendValue(appendText(data, name), value[name]); err != nil {
				return nil, err
			}
		}
		return data, nil
	}
	return nil, fmt.Errorf("%T is no value of Terraform's", value)
}

func appendText(data []byte, text string) []byte {
	switch n := len(text); {
	case n < 32:
		data = append(data, 0xa0|byte(n))
	case n < 1<<8:
		data = append(data, 0xd9, byte(n))
	case n < 1<<16:
		data = binary.BigEndian.AppendUint16(append(data, 0xda), uint16(n))
	default:
		data = binary.BigEndian.AppendUint32(append(data, 0xdb), uint32(n))
	}
	return append(data, text...)
}

func appendSize(data []byte, n int, small, large byte) []byte {
	switch {
	case n < 16:
		return append(data, small|byte(n))
	case n < 1<<16:
		return binary.BigEndian.AppendUint16(append(data, large), uint16(n))
	default:
		return binary.BigEndian.AppendUint32(append(data, large+1), uint32(n))
	}
}

// appendNumber writes an integer of 64 bits as one, a number that 64 bits of floating point hold exactly as that, and others as a text.
func appendNumber(data []byte, number Number) ([]byte, error) {
	if value, err := strconv.ParseInt(string(number), 10, 64); err == nil {
		switch {
		case value >= 0 && value < 128:
			return append(data, byte(value)), nil
		case value < 0 && value >= -32:
			return append(data, byte(int8(value))), nil
		}
		return binary.BigEndian.AppendUint64(append(data, 0xd3), uint64(value)), nil
	}
	plain, err := ParseNumber(string(number))
	if err != nil {
		return nil, err
	}
	if value, err := strconv.ParseFloat(string(plain), 64); err == nil {
		if again, err := floatNumber(value); err == nil && again == plain {
			return binary.BigEndian.AppendUint64(append(data, 0xcb), math.Float64bits(value)), nil
		}
	}
	return appendText(data, string(plain)), nil
}
