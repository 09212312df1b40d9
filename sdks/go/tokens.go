package licensemetering

import (
	"crypto"
	"crypto/ecdh"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rsa"
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"fmt"
	"math/big"
	"strings"
)

const (
	maximumTokenBytes = 8192
	maximumSetBytes   = 1 << 20
	maximumKeys       = 100
	anyLength         = 1 << 20
)

var algorithms = map[string]string{"EdDSA": "EdDSA", "Ed25519": "EdDSA", "ES256": "ES256", "RS256": "RS256"}

// TokenRefused says why a token is not believed.
type TokenRefused struct {
	// Code names the rule: too_large, not_compact, bad_header, unsupported_algorithm, critical, wrong_type, unknown_key,
	// algorithm_mismatch, bad_signature, bad_claims; of a verdict also other_nonce, other_question and stale.
	Code string
	// Claim is the claim of bad_claims.
	Claim string
}

func (e *TokenRefused) Error() string {
	if e.Claim == "" {
		return "token refused: " + e.Code
	}
	return "token refused: " + e.Code + ": " + e.Claim
}

func refused(code string) error { return &TokenRefused{Code: code} }

// Key is a public key of a set. The algorithm is the key's, never the token's.
type Key struct {
	ID, Algorithm, Purpose string
	material               any
	thumbprint             string
}

// KeySet holds the keys of GET /.well-known/jwks.json.
type KeySet struct {
	Keys   []Key
	source []byte
}

// ParseKeySet reads a JSON Web Key Set (RFC 7517). Keys of kinds that are not known are left out; a malformed key is an
// error that names the key and the member, never a value.
func ParseKeySet(source []byte) (*KeySet, error) {
	if len(source) > maximumSetBytes {
		return nil, errors.New("key set: more than 1 MiB")
	}
	object := parseMembers(source)
	if object == nil || object.repeated {
		return nil, errors.New("not a JSON Web Key Set")
	}
	elements, ok := object.values["keys"].([]any)
	if !ok {
		return nil, errors.New("not a JSON Web Key Set")
	}
	if len(elements) > maximumKeys {
		return nil, errors.New("key set: more than 100 keys")
	}
	set := &KeySet{source: source}
	for i, element := range elements {
		object, ok := element.(*members)
		if !ok {
			return nil, fmt.Errorf("key %d: not an object", i+1)
		}
		if !isOfUse(object) {
			continue
		}
		key, err := readKey(object)
		if err == nil {
			err = set.add(key)
		}
		if err != nil {
			return nil, fmt.Errorf("key %d: %w", i+1, err)
		}
	}
	return set, nil
}

func (s *KeySet) add(key Key) error {
	for _, other := range s.Keys {
		if other.ID != key.ID || other.Purpose != key.Purpose || other.Algorithm != key.Algorithm {
			continue
		}
		if other.thumbprint == key.thumbprint {
			return nil
		}
		return errors.New("kid stands twice")
	}
	s.Keys = append(s.Keys, key)
	return nil
}

// verifyToken gives the payload of a compact JWS (RFC 7515) that a key of that purpose signed. Types is what typ may be,
// in lower case and without application/; "" stands for an absent one.
func verifyToken(token string, keys *KeySet, purpose string, types ...string) ([]byte, error) {
	if len(token) > maximumTokenBytes {
		return nil, refused("too_large")
	}
	parts := strings.Split(token, ".")
	if len(parts) != 3 {
		return nil, refused("not_compact")
	}
	var decoded [3][]byte
	for i, part := range parts {
		bytes, ok := decodeBase64URL(part)
		if !ok {
			return nil, refused("not_compact")
		}
		decoded[i] = bytes
	}
	header, err := readHeader(decoded[0])
	if err != nil {
		return nil, err
	}
	if !header.isOneOf(types) {
		return nil, refused("wrong_type")
	}
	key, err := header.key(keys, purpose)
	if err != nil {
		return nil, err
	}
	if !key.verifies(decoded[2], []byte(parts[0]+"."+parts[1])) {
		return nil, refused("bad_signature")
	}
	return decoded[1], nil
}

type tokenHeader struct {
	algorithm, keyID, kind string
	hasKeyID, hasKind      bool
}

func (h tokenHeader) isOneOf(types []string) bool {
	for _, kind := range types {
		if kind == h.kind && (kind != "") == h.hasKind {
			return true
		}
	}
	return false
}

func (h tokenHeader) key(keys *KeySet, purpose string) (*Key, error) {
	var named, fitting int
	var found *Key
	for i := range keys.Keys {
		key := &keys.Keys[i]
		if key.Purpose != purpose || (h.hasKeyID && key.ID != h.keyID) {
			continue
		}
		named++
		if key.Algorithm == h.algorithm {
			fitting++
			found = key
		}
	}
	switch {
	case named == 0 || fitting > 1:
		return nil, refused("unknown_key")
	case fitting == 0:
		return nil, refused("algorithm_mismatch")
	}
	return found, nil
}

func readHeader(data []byte) (tokenHeader, error) {
	object := parseMembers(data)
	if object == nil || object.repeated {
		return tokenHeader{}, refused("bad_header")
	}
	name, ok := textOf(object.values["alg"], 0, anyLength)
	if !ok {
		return tokenHeader{}, refused("bad_header")
	}
	header := tokenHeader{algorithm: algorithms[name], hasKeyID: object.has("kid"), hasKind: object.has("typ")}
	if header.algorithm == "" {
		return header, refused("unsupported_algorithm")
	}
	if object.has("crit") || object.has("b64") {
		return header, refused("critical")
	}
	if header.hasKeyID {
		if header.keyID, ok = textOf(object.values["kid"], 0, 256); !ok {
			return header, refused("bad_header")
		}
	}
	if header.hasKind {
		kind, ok := textOf(object.values["typ"], 0, anyLength)
		if !ok {
			return header, refused("bad_header")
		}
		header.kind = strings.TrimPrefix(strings.ToLower(kind), "application/")
	}
	return header, nil
}

// verifies judges by the key's own algorithm, whatever the token says.
func (k *Key) verifies(signature, data []byte) bool {
	digest := sha256.Sum256(data)
	switch key := k.material.(type) {
	case ed25519.PublicKey:
		return len(signature) == ed25519.SignatureSize && ed25519.Verify(key, data, signature)
	case *ecdsa.PublicKey:
		if len(signature) != 64 {
			return false
		}
		r, s := new(big.Int).SetBytes(signature[:32]), new(big.Int).SetBytes(signature[32:])
		return ecdsa.Verify(key, digest[:], r, s)
	case *rsa.PublicKey:
		return len(signature) == key.Size() && rsa.VerifyPKCS1v15(key, crypto.SHA256, digest[:], signature) == nil
	}
	return false
}

// isOfUse leaves out keys of other kinds, curves, uses and algorithms, as RFC 7517 asks; what is malformed stays.
func isOfUse(object *members) bool {
	is := func(name string, known ...string) bool {
		text, ok := textOf(object.values[name], 0, anyLength)
		if !ok {
			return true
		}
		for _, value := range known {
			if text == value {
				return true
			}
		}
		return false
	}
	kind, ok := textOf(object.values["kty"], 0, anyLength)
	if !ok {
		return true
	}
	switch kind {
	case "OKP":
		ok = is("crv", "Ed25519")
	case "EC":
		ok = is("crv", "P-256")
	case "RSA":
	default:
		return false
	}
	if operations, isArray := object.values["key_ops"].([]any); isArray {
		signs := false
		for _, operation := range operations {
			text, _ := textOf(operation, 0, anyLength)
			signs = signs || text == "verify" || text == "sign"
		}
		ok = ok && signs
	}
	return ok && is("use", "sig") && is("alg", "EdDSA", "Ed25519", "ES256", "RS256") && is("purpose", "license", "verdict")
}

func readKey(object *members) (Key, error) {
	key := Key{Purpose: "license"}
	if object.repeated {
		return key, errors.New("a member stands twice")
	}
	if use, _ := textOf(object.values["use"], 0, anyLength); object.has("use") && use != "sig" {
		return key, errors.New("use must be sig")
	}
	if object.has("key_ops") {
		operations, ok := object.values["key_ops"].([]any)
		for _, operation := range operations {
			_, isText := textOf(operation, 0, anyLength)
			ok = ok && isText
		}
		if !ok {
			return key, errors.New("key_ops must be an array of texts")
		}
	}
	if object.has("purpose") {
		key.Purpose, _ = textOf(object.values["purpose"], 0, anyLength)
		if key.Purpose != "license" && key.Purpose != "verdict" {
			return key, errors.New("purpose must be license or verdict")
		}
	}
	var required string
	var err error
	if key.Algorithm, key.material, required, err = readMaterial(object); err != nil {
		return key, err
	}
	digest := sha256.Sum256([]byte(required))
	key.thumbprint = base64.RawURLEncoding.EncodeToString(digest[:])
	key.ID = key.thumbprint
	if object.has("kid") {
		var ok bool
		if key.ID, ok = textOf(object.values["kid"], 1, 256); !ok {
			return key, errors.New("kid must be a text of 1 to 256 bytes")
		}
	}
	if name, _ := textOf(object.values["alg"], 0, anyLength); object.has("alg") && algorithms[name] != key.Algorithm {
		return key, errors.New("alg does not fit the key")
	}
	return key, nil
}

// readMaterial also gives the members that RFC 7638 hashes.
func readMaterial(object *members) (algorithm string, material any, required string, err error) {
	kind, _ := textOf(object.values["kty"], 0, anyLength)
	curve, _ := textOf(object.values["crv"], 0, anyLength)
	encode := base64.RawURLEncoding.EncodeToString
	switch {
	case kind == "OKP" && curve == "Ed25519":
		x, err := readBytes(object, "x", 32)
		required = fmt.Sprintf(`{"crv":"Ed25519","kty":"OKP","x":"%s"}`, encode(x))
		return "EdDSA", ed25519.PublicKey(x), required, err
	case kind == "EC" && curve == "P-256":
		x, errX := readBytes(object, "x", 32)
		y, errY := readBytes(object, "y", 32)
		if err := errors.Join(errX, errY); err != nil {
			return "", nil, "", err
		}
		point := append(append([]byte{4}, x...), y...)
		if _, err := ecdh.P256().NewPublicKey(point); err != nil {
			return "", nil, "", errors.New("x and y are no point of P-256")
		}
		key := &ecdsa.PublicKey{Curve: elliptic.P256(), X: new(big.Int).SetBytes(x), Y: new(big.Int).SetBytes(y)}
		return "ES256", key, fmt.Sprintf(`{"crv":"P-256","kty":"EC","x":"%s","y":"%s"}`, encode(x), encode(y)), nil
	case kind == "RSA":
		n, errN := readBytes(object, "n", 0)
		e, errE := readBytes(object, "e", 0)
		if err := errors.Join(errN, errE); err != nil {
			return "", nil, "", err
		}
		modulus, exponent := new(big.Int).SetBytes(n), new(big.Int).SetBytes(e)
		bits := modulus.BitLen()
		if bits < 2048 || bits > 8192 || n[0] == 0 || !exponent.IsInt64() || exponent.BitLen() > 31 || exponent.Bit(0) == 0 || exponent.Int64() < 3 {
			return "", nil, "", errors.New("n and e are no RSA key of 2,048 to 8,192 bits")
		}
		key := &rsa.PublicKey{N: modulus, E: int(exponent.Int64())}
		return "RS256", key, fmt.Sprintf(`{"e":"%s","kty":"RSA","n":"%s"}`, encode(e), encode(n)), nil
	}
	return "", nil, "", errors.New("kty and crv must be OKP with Ed25519, EC with P-256, or RSA")
}

func readBytes(object *members, name string, count int) ([]byte, error) {
	text, ok := textOf(object.values[name], 0, 2048)
	if ok {
		bytes, isGood := decodeBase64URL(text)
		if isGood && len(bytes) > 0 && (count == 0 || len(bytes) == count) {
			return bytes, nil
		}
	}
	return make([]byte, count), fmt.Errorf("%s must be base64url of the right length", name)
}

// decodeBase64URL takes base64url without padding, in its one spelling.
func decodeBase64URL(text string) ([]byte, bool) {
	// The decoder skips line breaks.
	if strings.ContainsAny(text, "\r\n") {
		return nil, false
	}
	bytes, err := base64.RawURLEncoding.Strict().DecodeString(text)
	return bytes, err == nil
}
