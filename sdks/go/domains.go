package licensemetering

import (
	_ "embed"
	"net/netip"
	"regexp"
	"strconv"
	"strings"
	"sync"
)

// ToASCII converts a name of another script by UTS #46, non-transitional. Go's standard library has no such function;
// without one, such names are refused and have to be given in their ASCII form (xn--…). Set it before the first use:
//
//	licensemetering.ToASCII = idna.New(idna.MapForLookup(), idna.Transitional(false), idna.StrictDomainName(false)).ToASCII
var ToASCII func(name string) (string, error)

// DomainName is a name in lower case and ASCII without port and trailing dot, or an address.
type DomainName struct {
	Text      string
	IsAddress bool
}

var (
	//go:embed public_suffixes.txt
	publicSuffixText string
	publicSuffixes   = sync.OnceValue(func() map[string]struct{} {
		rules := map[string]struct{}{}
		for _, line := range strings.Split(publicSuffixText, "\n") {
			if line != "" && !strings.HasPrefix(line, "//") {
				rules[line] = struct{}{}
			}
		}
		return rules
	})
	labelPattern  = regexp.MustCompile(`^[a-z0-9_](?:[a-z0-9_-]{0,61}[a-z0-9_])?$`)
	numberPattern = regexp.MustCompile(`^(?:[0-9]+|0x[0-9a-f]*)$`)
	quadPattern   = regexp.MustCompile(`^(?:0|[1-9][0-9]{0,2})(?:\.(?:0|[1-9][0-9]{0,2})){3}$`)
)

// IsLocal is true of localhost, names below .localhost and .test, and loopback addresses: no license holds there.
func (d DomainName) IsLocal() bool {
	if d.IsAddress {
		address, err := netip.ParseAddr(d.Text)
		return err == nil && address.Unmap().IsLoopback()
	}
	last := d.Text[strings.LastIndexByte(d.Text, '.')+1:]
	return last == "localhost" || last == "test"
}

// Normalize gives the name or address that a Host header means; false where it is neither.
func Normalize(text string) (DomainName, bool) {
	if len(text) < 1 || len(text) > 1024 {
		return DomainName{}, false
	}
	if address, ok := readAddress(text); ok {
		return DomainName{address, true}, true
	}
	name := strings.TrimSuffix(withoutPort(text), ".")
	name = strings.Map(func(letter rune) rune {
		if letter >= 'A' && letter <= 'Z' {
			return letter | 0x20
		}
		return letter
	}, name)
	isASCII := !strings.ContainsFunc(name, func(letter rune) bool { return letter >= 0x80 })
	if !isASCII || strings.HasPrefix(name, "xn--") || strings.Contains(name, ".xn--") {
		if ToASCII != nil {
			ascii, err := ToASCII(name)
			if err != nil {
				return DomainName{}, false
			}
			name = strings.TrimSuffix(ascii, ".")
		}
	}
	return DomainName{Text: name}, isName(name)
}

// Covers says whether a license that is bound to these domains holds there: example.com covers itself, *.example.com
// every name below it. Public suffixes and local names are never covered.
func Covers(bound []string, domain DomainName) bool {
	if domain.Text == "" || domain.IsLocal() {
		return false
	}
	for _, pattern := range bound {
		rest, isWildcard := strings.CutPrefix(pattern, "*.")
		name, ok := Normalize(rest)
		if !ok || (name.IsAddress && isWildcard) || (!name.IsAddress && IsPublicSuffix(name.Text)) {
			continue
		}
		if isWildcard {
			suffix := "." + name.Text
			if !domain.IsAddress && len(domain.Text) > len(suffix) && strings.HasSuffix(domain.Text, suffix) {
				return true
			}
		} else if name.Text == domain.Text {
			return true
		}
	}
	return false
}

// IsPublicSuffix says whether anybody may register below the name, by the Public Suffix List that the package brings.
func IsPublicSuffix(name string) bool {
	_, parent, hasDot := strings.Cut(name, ".")
	if !hasDot {
		return true
	}
	has := func(rule string) bool {
		_, ok := publicSuffixes()[rule]
		return ok
	}
	if has("!" + name) {
		return false
	}
	// Where anybody may have any name below a name, that name is nobody's own either.
	return has(name) || has("*."+name) || has("*."+parent)
}

func withoutPort(text string) string {
	colon := strings.IndexByte(text, ':')
	if colon < 0 || !isPort(text[colon:]) {
		return text
	}
	return text[:colon]
}

// isPort takes nothing, or a colon and a port's digits, or none.
func isPort(text string) bool {
	if text == "" {
		return true
	}
	digits, ok := strings.CutPrefix(text, ":")
	if !ok || strings.ContainsFunc(digits, func(letter rune) bool { return letter < '0' || letter > '9' }) {
		return false
	}
	_, err := strconv.ParseUint("0"+digits, 10, 16)
	return err == nil
}

func readAddress(text string) (string, bool) {
	if inner, ok := strings.CutPrefix(text, "["); ok {
		inner, port, isClosed := strings.Cut(inner, "]")
		if !isClosed || !isPort(port) {
			return "", false
		}
		return readV6(inner)
	}
	if address, ok := readV6(text); ok {
		return address, true
	}
	if address, ok := readV4(text); ok {
		return address, true
	}
	return readV4(withoutPort(text))
}

func readV4(text string) (string, bool) {
	if !quadPattern.MatchString(text) {
		return "", false
	}
	_, err := netip.ParseAddr(text)
	return text, err == nil
}

func readV6(text string) (string, bool) {
	if !strings.Contains(text, ":") || strings.Contains(text, "%") || len(text) > 45 {
		return "", false
	}
	address, err := netip.ParseAddr(text)
	if err != nil {
		return "", false
	}
	bytes := address.As16()
	groups := make([]string, 8)
	for i := range groups {
		groups[i] = strconv.FormatUint(uint64(bytes[2*i])<<8|uint64(bytes[2*i+1]), 16)
	}
	return strings.Join(groups, ":"), true
}

func isName(name string) bool {
	if len(name) < 1 || len(name) > 253 {
		return false
	}
	labels := strings.Split(name, ".")
	for _, label := range labels {
		if !labelPattern.MatchString(label) {
			return false
		}
	}
	// Some readers would take a name that ends in a number for an address.
	return !numberPattern.MatchString(labels[len(labels)-1])
}
