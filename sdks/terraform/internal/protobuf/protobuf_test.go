package protobuf

import (
	"bytes"
	"encoding/hex"
	"reflect"
	"testing"
)

func TestFieldsAreWrittenAsTheSpecificationSays(t *testing.T) {
	var message Message
	message.Int(1, 150)
	message.String(2, "testing")
	message.Int(3, 0)
	message.Bool(4, true)
	message.Bool(5, false)
	message.Sub(6, nil)
	message.Bytes(7, nil)
	message.Int(16, -1)
	// The first two are the examples of the encoding's own documentation.
	const wanted = "089601" + "120774657374696e67" + "2001" + "3200" + "8001ffffffffffffffffff01"
	if got := hex.EncodeToString(message); got != wanted {
		t.Errorf("%s, not %s", got, wanted)
	}
}

func TestFieldsOfOtherWireTypesAreSkipped(t *testing.T) {
	message, _ := hex.DecodeString("0d00000000" + "110000000000000000" + "1a0161")
	fields, err := Fields(message)
	if err != nil || len(fields) != 1 || fields[0].Number != 3 || string(fields[0].Bytes) != "a" {
		t.Errorf("%v, %v", fields, err)
	}
}

func TestWhatIsNoMessageIsRefused(t *testing.T) {
	for _, text := range []string{"08", "0a", "0a05616263", "0d0000", "00", "0b", "0affffffffffffffffff01", "08ffffffffffffffffffff01", "ffffffffff7f00"} {
		message, _ := hex.DecodeString(text)
		if fields, err := Fields(message); err == nil {
			t.Errorf("%s was read as %v", text, fields)
		}
	}
}

func FuzzFields(f *testing.F) {
	f.Add([]byte("\x08\x96\x01\x12\x07testing"))
	f.Fuzz(func(t *testing.T, data []byte) {
		fields, err := Fields(data)
		if err != nil {
			return
		}
		var message Message
		for _, field := range fields {
			if field.Bytes == nil {
				message.Varint(field.Number, field.Varint)
			} else {
				message.Sub(field.Number, field.Bytes)
			}
		}
		again, err := Fields(message)
		if err != nil || !reflect.DeepEqual(fields, again) {
			t.Errorf("%v became %v (%v)", fields, again, err)
		}
		if len(message) > len(data) && bytes.HasPrefix(message, data) {
			t.Errorf("%x grew to %x", data, message)
		}
	})
}
