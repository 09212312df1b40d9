package licensemetering

import "time"

const (
	graceMilliseconds   = 7 * 86_400_000
	maximumMilliseconds = 253_402_300_799_999
	maximumItems        = 100
)

// LicenseClaims is what a verified license token says. Times are milliseconds since 1970.
type LicenseClaims struct {
	LicenseID string
	Domains   []string
	Plan      string
	Features  []string
	Limits    map[string]int64
	IssuedAt  int64
	ExpiresAt int64
	NotBefore *int64
	IsTrial   bool
}

// VerifyLicense gives the claims of a token that a license key of the set has signed. The error is a *TokenRefused. It
// asks no clock.
func VerifyLicense(token string, keys *KeySet) (*LicenseClaims, error) {
	payload, err := verifyToken(token, keys, "license", "", "jwt", "license+jwt")
	if err != nil {
		return nil, err
	}
	reader := claimReader{object: parseMembers(payload)}
	if reader.object == nil {
		return nil, &TokenRefused{"bad_claims", "claims"}
	}
	if reader.object.repeated {
		return nil, &TokenRefused{"bad_claims", "repeated claim"}
	}
	claims := &LicenseClaims{Limits: map[string]int64{}}
	reader.require("sub", func(value any) bool { return reader.text(value, 512, &claims.LicenseID) })
	reader.allow("plan", func(value any) bool { return reader.text(value, 256, &claims.Plan) })
	reader.allow("features", func(value any) bool { return readTexts(value, &claims.Features) })
	var single string
	var several []string
	reader.allow("domain", func(value any) bool { return reader.text(value, 256, &single) })
	reader.allow("domains", func(value any) bool { return readTexts(value, &several) })
	reader.allow("limits", func(value any) bool { return readLimits(value, claims.Limits) })
	reader.allow("trial", func(value any) (ok bool) { claims.IsTrial, ok = value.(bool); return ok })
	reader.allow("nbf", func(value any) bool {
		var time int64
		ok := readTime(value, &time)
		claims.NotBefore = &time
		return ok
	})
	reader.require("iat", func(value any) bool { return readTime(value, &claims.IssuedAt) })
	reader.require("exp", func(value any) bool {
		return readTime(value, &claims.ExpiresAt) && claims.ExpiresAt > claims.IssuedAt
	})
	if reader.refused != "" {
		return nil, &TokenRefused{"bad_claims", reader.refused}
	}
	known := map[string]bool{}
	for _, domain := range append([]string{single}, several...) {
		if domain != "" && !known[domain] {
			known[domain] = true
			claims.Domains = append(claims.Domains, domain)
		}
	}
	return claims, nil
}

// Judge says not_yet_valid, expired, domain_mismatch, grace or valid; the last two hold.
func (c *LicenseClaims) Judge(domain string, now time.Time) string {
	milliseconds := now.UnixMilli()
	if c.NotBefore != nil && milliseconds < *c.NotBefore {
		return "not_yet_valid"
	}
	isExpired := milliseconds >= c.ExpiresAt
	if isExpired && (c.IsTrial || milliseconds >= c.ExpiresAt+graceMilliseconds) {
		return "expired"
	}
	name, ok := Normalize(domain)
	if !ok || !Covers(c.Domains, name) {
		return "domain_mismatch"
	}
	if isExpired {
		return "grace"
	}
	return "valid"
}

// claimReader remembers the first claim that breaks a rule.
type claimReader struct {
	object  *members
	refused string
}

func (r *claimReader) allow(claim string, read func(value any) bool) {
	if r.refused == "" && r.object.has(claim) && !read(r.object.values[claim]) {
		r.refused = claim
	}
}

func (r *claimReader) require(claim string, read func(value any) bool) {
	if r.refused == "" && !read(r.object.values[claim]) {
		r.refused = claim
	}
}

func (r *claimReader) text(value any, maximum int, target *string) (ok bool) {
	*target, ok = plainTextOf(value, maximum)
	return ok
}

func readTexts(value any, target *[]string) bool {
	elements, ok := value.([]any)
	if !ok || len(elements) > maximumItems {
		return false
	}
	for _, element := range elements {
		text, ok := plainTextOf(element, 256)
		if !ok {
			return false
		}
		*target = append(*target, text)
	}
	return true
}

func readLimits(value any, target map[string]int64) bool {
	object, ok := value.(*members)
	if !ok || object.repeated || len(object.names) > maximumItems {
		return false
	}
	for _, name := range object.names {
		value := object.values[name]
		if value == nil {
			continue
		}
		quantity, ok := integerOf(value)
		if !ok || quantity < 0 || !isPlain(name, 64) {
			return false
		}
		target[name] = quantity
	}
	return true
}

func readTime(value any, target *int64) bool {
	number, ok := value.(jsonNumber)
	if !ok {
		return false
	}
	*target, ok = number.decimal().scaled(3)
	return ok && *target >= 0 && *target <= maximumMilliseconds
}
