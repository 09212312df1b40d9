package licensemetering

import (
	"crypto/sha256"
	"crypto/subtle"
	"encoding/base64"
	"time"
)

const toleranceMilliseconds = 300_000

// Verdict is what the service has signed. Times are milliseconds since 1970; ExpiresAt is 0 where there is none.
type Verdict struct {
	Valid     bool
	Code      string
	Timestamp int64
	LicenseID string
	Plan      string
	Features  []string
	Limits    map[string]int64
	ExpiresAt int64
	Grace     bool
	OverLimit bool
	Error     string
}

// VerdictQuestion is what was asked. An answer is believed only where it repeats all of it.
type VerdictQuestion struct {
	LicenseKey string
	// Domain is as Normalize gives it; nil where what was sent is no name.
	Domain *DomainName
	Nonce  string
	// Now is in milliseconds since 1970.
	Now int64
}

// VerifyVerdict gives the verdict of a signature, where it answers this very question. The error is a *TokenRefused.
func VerifyVerdict(signature string, keys *KeySet, question VerdictQuestion) (*Verdict, error) {
	object, timestamp, err := readVerdict(signature, keys, question, true)
	if err != nil {
		return nil, err
	}
	if timestamp < question.Now-toleranceMilliseconds || timestamp > question.Now+toleranceMilliseconds {
		return nil, refused("stale")
	}
	return newVerdict(object, timestamp)
}

// verifySaved is for an answer that was verified when it came and is read back from a cache.
func verifySaved(signature string, keys *KeySet, licenseKey string, domain DomainName) (*Verdict, error) {
	question := VerdictQuestion{LicenseKey: licenseKey, Domain: &domain}
	object, timestamp, err := readVerdict(signature, keys, question, false)
	if err != nil {
		return nil, err
	}
	return newVerdict(object, timestamp)
}

// signedTime says when the service signed a verdict, whatever it answers; 0 where it is none of the service's.
func signedTime(signature string, keys *KeySet) int64 {
	payload, err := verifyToken(signature, keys, "verdict", "verdict+jwt")
	object := parseMembers(payload)
	if err != nil || object == nil {
		return 0
	}
	timestamp, _ := parseTime(object.values["timestamp"])
	return timestamp
}

func readVerdict(signature string, keys *KeySet, question VerdictQuestion, withNonce bool) (*members, int64, error) {
	payload, err := verifyToken(signature, keys, "verdict", "verdict+jwt")
	if err != nil {
		return nil, 0, err
	}
	object := parseMembers(payload)
	if object == nil || object.repeated || (withNonce && !equals(object.values["nonce"], question.Nonce)) {
		return nil, 0, refused("other_nonce")
	}
	if !equals(object.values["licenseKeyHash"], hashLicenseKey(question.LicenseKey)) {
		return nil, 0, refused("other_question")
	}
	domain, isText := textOf(object.values["domain"], 0, anyLength)
	isNull := object.has("domain") && object.values["domain"] == nil
	if (question.Domain == nil && !isNull) || (question.Domain != nil && (!isText || domain != question.Domain.Text)) {
		return nil, 0, refused("other_question")
	}
	timestamp, ok := parseTime(object.values["timestamp"])
	if !ok {
		return nil, 0, refused("stale")
	}
	return object, timestamp, nil
}

func newVerdict(object *members, timestamp int64) (*Verdict, error) {
	valid, isBool := object.values["valid"].(bool)
	code, isText := textOf(object.values["code"], 0, anyLength)
	if !isBool || !isText {
		return nil, &TokenRefused{"bad_claims", "verdict"}
	}
	verdict := &Verdict{Valid: valid, Code: code, Timestamp: timestamp, Limits: map[string]int64{}}
	verdict.LicenseID, _ = textOf(object.values["licenseId"], 0, anyLength)
	verdict.Plan, _ = textOf(object.values["plan"], 0, anyLength)
	verdict.Error, _ = textOf(object.values["error"], 0, anyLength)
	verdict.Grace, _ = object.values["grace"].(bool)
	verdict.OverLimit, _ = object.values["overLimit"].(bool)
	verdict.ExpiresAt, _ = parseTime(object.values["expiresAt"])
	features, _ := object.values["features"].([]any)
	for _, element := range features {
		if feature, ok := textOf(element, 0, anyLength); ok {
			verdict.Features = append(verdict.Features, feature)
		}
	}
	if limits, ok := object.values["limits"].(*members); ok {
		for _, name := range limits.names {
			if quantity, ok := integerOf(limits.values[name]); ok {
				verdict.Limits[name] = quantity
			}
		}
	}
	return verdict, nil
}

// hashLicenseKey is SHA-256 of the key's bytes, in base64url without padding.
func hashLicenseKey(licenseKey string) string {
	digest := sha256.Sum256([]byte(licenseKey))
	return base64.RawURLEncoding.EncodeToString(digest[:])
}

func equals(value any, expected string) bool {
	text, ok := textOf(value, 0, anyLength)
	return ok && subtle.ConstantTimeCompare([]byte(text), []byte(expected)) == 1
}

// parseTime takes 2026-11-23T18:40:00.123Z and no other spelling.
func parseTime(value any) (int64, bool) {
	const layout = "2006-01-02T15:04:05.000Z"
	text, ok := textOf(value, len(layout), len(layout))
	if !ok {
		return 0, false
	}
	moment, err := time.Parse(layout, text)
	if err != nil || moment.Format(layout) != text {
		return 0, false
	}
	return moment.UnixMilli(), true
}
