// Package protobuf reads and writes the wire format of protocol buffers, as far as Terraform's plugin protocol uses it: varints and
// length-delimited fields. Fields of other wire types are skipped.
package protobuf

import (
	"encoding/binary"
	"errors"
)

// ErrMalformed is returned for bytes that are no message.
var ErrMalformed = errors.New("malformed protocol buffers message")

const (
	wireVarint  = 0
	wireFixed64 = 1
	wireBytes   = 2
	wireFixed32 = 5
)

// Message is a message that is being written. Fields that hold their default are left out, as proto3 does.
type Message []byte

// Varint writes an integer, an enumeration or a field of a oneof, also where it is zero.
func (m *Message) Varint(field int, value uint64) {
	*m = binary.AppendUvarint(*m, uint64(field)<<3|wireVarint)
	*m = binary.AppendUvarint(*m, value)
}

// Int writes an integer unless it is zero.
func (m *Message) Int(field int, value int64) {
	if value != 0 {
		m.Varint(field, uint64(value))
	}
}

// Bool writes true; false is the default.
func (m *Message) Bool(field int, value bool) {
	if value {
		m.Varint(field, 1)
	}
}

// String writes a text unless it is empty.
func (m *Message) String(field int, value string) {
	if value != "" {
		m.Sub(field, []byte(value))
	}
}

// Bytes writes bytes unless there are none.
func (m *Message) Bytes(field int, value []byte) {
	if len(value) > 0 {
		m.Sub(field, value)
	}
}

// Sub writes a message, a text or bytes, also where they are empty.
func (m *Message) Sub(field int, value []byte) {
	*m = binary.AppendUvarint(*m, uint64(field)<<3|wireBytes)
	*m = binary.AppendUvarint(*m, uint64(len(value)))
	*m = append(*m, value...)
}

// Field is one field of a message. Bytes is nil for a varint.
type Field struct {
	Number int
	Varint uint64
	Bytes  []byte
}

// Fields reads a message. The bytes of its fields are parts of the message's own.
func Fields(message []byte) ([]Field, error) {
	var fields []Field
	for len(message) > 0 {
		tag, n := binary.Uvarint(message)
		number := tag >> 3
		if n <= 0 || number == 0 || number > 1<<29-1 {
			return nil, ErrMalformed
		}
		message = message[n:]
		field := Field{Number: int(number)}
		size := 0
		switch tag & 7 {
		case wireVarint:
			value, n := binary.Uvarint(message)
			if n <= 0 {
				return nil, ErrMalformed
			}
			message = message[n:]
			field.Varint = value
			fields = append(fields, field)
			continue
		case wireBytes:
			length, n := binary.Uvarint(message)
			if n <= 0 || length > uint64(len(message)-n) {
				return nil, ErrMalformed
			}
			message = message[n:]
			size = int(length)
			field.Bytes = message[:size:size]
			fields = append(fields, field)
		case wireFixed64:
			size = 8
		case wireFixed32:
			size = 4
		default:
			return nil, ErrMalformed
		}
		if size > len(message) {
			return nil, ErrMalformed
		}
		message = message[size:]
	}
	return fields, nil
}
