package licensemetering

import (
	"context"
	"encoding/json"
	"net"
	"net/http"
	"net/netip"
	"strings"
)

// Validator is what the middleware needs of a client; *Client and licensetest.Client have it.
type Validator interface {
	Validate(ctx context.Context, domain string) Result
}

// MiddlewareOptions of Middleware.
type MiddlewareOptions struct {
	// Domain is what to ask about; empty: the request's host.
	Domain string
	// TrustedProxies are addresses and ranges whose X-Forwarded-Host is believed.
	TrustedProxies []netip.Prefix
	// OnDenied answers in place of 403 and 503.
	OnDenied func(http.ResponseWriter, *http.Request, Result)
}

type contextKey struct{}

// FromContext gives the result that the middleware found; a result that is not valid where there is none.
func FromContext(ctx context.Context) Result {
	if result, ok := ctx.Value(contextKey{}).(Result); ok {
		return result
	}
	return denied("unreachable", "none", "no_middleware")
}

// Middleware lets requests through where the license holds; FromContext(request.Context()) gives handlers the result.
func Middleware(client Validator, options MiddlewareOptions) func(http.Handler) http.Handler {
	return func(next http.Handler) http.Handler {
		return http.HandlerFunc(func(writer http.ResponseWriter, request *http.Request) {
			result := client.Validate(request.Context(), options.host(request))
			switch {
			case result.Valid:
				next.ServeHTTP(writer, request.WithContext(context.WithValue(request.Context(), contextKey{}, result)))
			case options.OnDenied != nil:
				options.OnDenied(writer, request, result)
			default:
				refuse(writer, result)
			}
		})
	}
}

func (o *MiddlewareOptions) host(request *http.Request) string {
	if o.Domain != "" {
		return o.Domain
	}
	forwarded := strings.Join(request.Header.Values("X-Forwarded-Host"), ",")
	if forwarded == "" || !o.isTrusted(request.RemoteAddr) {
		return request.Host
	}
	// The last is the trusted proxy's own; what stands before may be the client's.
	return strings.TrimSpace(forwarded[strings.LastIndexByte(forwarded, ',')+1:])
}

func (o *MiddlewareOptions) isTrusted(remote string) bool {
	host, _, err := net.SplitHostPort(remote)
	if err != nil {
		host = remote
	}
	address, err := netip.ParseAddr(host)
	if err != nil {
		return false
	}
	for _, proxy := range o.TrustedProxies {
		if proxy.Contains(address.Unmap()) {
			return true
		}
	}
	return false
}

func refuse(writer http.ResponseWriter, result Result) {
	status := http.StatusForbidden
	if result.Code == "unreachable" {
		status = http.StatusServiceUnavailable
	}
	detail := result.Explanation
	if detail == "" {
		detail = "The license is not valid."
	}
	writer.Header().Set("Content-Type", "application/problem+json")
	writer.WriteHeader(status)
	// Whoever asked may have hung up.
	_ = json.NewEncoder(writer).Encode(map[string]any{
		"type": "about:blank", "title": http.StatusText(status), "status": status, "code": result.Code, "detail": detail,
	})
}
