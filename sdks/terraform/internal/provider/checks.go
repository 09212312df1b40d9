package provider

import (
	"fmt"
	"net/url"
	"strconv"
	"strings"
	"time"

	"license-metering.example/terraform-provider-licensemetering/internal/cty"
)

// text accepts 1 to `bytes` bytes.
func text(bytes int) func(any) string {
	return func(value any) string {
		if n := len(value.(string)); n < 1 || n > bytes {
			return fmt.Sprintf("It must have 1 to %d bytes; this has %d.", bytes, n)
		}
		return ""
	}
}

// choice accepts some words.
func choice(words ...string) func(any) string {
	return func(value any) string {
		for _, word := range words {
			if value == word {
				return ""
			}
		}
		return fmt.Sprintf("It must be one of %s, and not %q.", strings.Join(words, ", "), value)
	}
}

// integer accepts integers of a range.
func integer(from, to int64) func(any) string {
	return func(value any) string {
		if number, err := strconv.ParseInt(string(value.(cty.Number)), 10, 64); err != nil || number < from || number > to {
			return fmt.Sprintf("It must be an integer from %d to %d, and not %s.", from, to, value)
		}
		return ""
	}
}

// each accepts collections whose members are accepted.
func each(check func(any) string) func(any) string {
	return func(value any) string {
		switch value := value.(type) {
		case []any:
			for _, item := range value {
				if item == nil {
					return "No member may be null."
				}
				if problem := check(item); problem != "" {
					return problem
				}
			}
		case map[string]any:
			for name, item := range value {
				if item == nil {
					continue
				}
				if problem := check(item); problem != "" {
					return name + ": " + problem
				}
			}
		}
		return ""
	}
}

func isTime(value any) string {
	if _, err := parseTime(value); err != nil {
		return fmt.Sprintf("It must be a time by RFC 3339, such as 2027-12-31T00:00:00Z, and not %q.", value)
	}
	return ""
}

func parseTime(value any) (time.Time, error) {
	return time.Parse(time.RFC3339Nano, strings.ToUpper(value.(string)))
}

// canonicalTime spells a time as the API does: in UTC, with milliseconds.
func canonicalTime(value any) any {
	at, err := parseTime(value)
	if err != nil {
		return value
	}
	return at.UTC().Truncate(time.Millisecond).Format("2006-01-02T15:04:05.000Z")
}

func isEndpointURL(value any) string {
	if address, err := url.Parse(value.(string)); err != nil || address.Host == "" ||
		address.Scheme != "https" && address.Scheme != "http" {
		return "It must be an absolute URL, such as https://example.com/webhooks."
	}
	return ""
}

// canonicalURL is an address with its host in lower case, and with the slash that no path begins without.
func canonicalURL(value any) any {
	address, err := url.Parse(value.(string))
	if err != nil {
		return value
	}
	address.Scheme, address.Host = strings.ToLower(address.Scheme), strings.ToLower(address.Host)
	if address.Path == "" {
		address.Path = "/"
	}
	return address.String()
}

var units = map[byte]int64{'m': 60, 'h': 3600, 'd': 86_400}

// seconds reads a span such as 90d.
func seconds(value any) (int64, bool) {
	span := value.(string)
	if len(span) < 2 || span[0] == '0' || span[0] == '+' || span[0] == '-' {
		return 0, false
	}
	unit, isUnit := units[span[len(span)-1]]
	number, err := strconv.ParseInt(span[:len(span)-1], 10, 32)
	return number * unit, isUnit && err == nil
}

func isSpan(value any) string {
	if _, ok := seconds(value); !ok {
		return fmt.Sprintf("It must be a number and m, h or d, such as 90d, and not %q.", value)
	}
	return ""
}

func canonicalSpan(value any) any {
	if number, ok := seconds(value); ok {
		return strconv.FormatInt(number, 10)
	}
	return value
}

// span writes seconds in the largest unit that divides them.
func span(seconds int64) string {
	for _, unit := range []byte("dhm") {
		if seconds%units[unit] == 0 {
			return strconv.FormatInt(seconds/units[unit], 10) + string(unit)
		}
	}
	return ""
}
