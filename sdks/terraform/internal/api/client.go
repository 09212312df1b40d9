// Package api asks the metering API.
package api

import (
	"bytes"
	"context"
	"crypto/rand"
	"crypto/tls"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strconv"
	"strings"
	"time"

	"license-metering.example/terraform-provider-licensemetering/internal/cty"
)

// Limits of a request.
const (
	connectTimeout  = 10 * time.Second
	requestTimeout  = 30 * time.Second
	maximumAttempts = 4
	maximumWait     = 30 * time.Second
	maximumAnswer   = 16 << 20
)

// Client asks one service with one token.
type Client struct {
	base, token, agent string
	http               *http.Client
	// Log is told of each attempt, without secrets.
	Log func(string)
	// wait is replaced by tests.
	wait func(context.Context, time.Duration) error
}

// New makes a client. The URL has no slash at its end.
func New(base, token, agent string) *Client {
	transport := &http.Transport{
		Proxy:                 http.ProxyFromEnvironment,
		DialContext:           (&net.Dialer{Timeout: connectTimeout}).DialContext,
		ForceAttemptHTTP2:     true,
		TLSHandshakeTimeout:   connectTimeout,
		MaxIdleConnsPerHost:   16,
		IdleConnTimeout:       30 * time.Second,
		ResponseHeaderTimeout: requestTimeout,
	}
	return &Client{
		base: base, token: token, agent: agent, Log: func(string) {}, wait: wait,
		http: &http.Client{
			Transport: transport, Timeout: requestTimeout,
			// A redirect would take the token to another place.
			CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
		},
	}
}

// Answer is what the API said.
type Answer struct {
	// Members are those of the answered object.
	Members map[string]any
	// Body is the answer as it came.
	Body []byte
	ETag string
	// Date is the service's clock; zero where it does not say.
	Date time.Time
}

// Blame is what is wrong with one member of a request.
type Blame struct{ Parameter, Detail string }

// Error is an answer that is an error.
type Error struct {
	Status    int
	Code      string
	Detail    string
	Blames    []Blame
	RequestID string
}

func (e *Error) Error() string {
	text := fmt.Sprintf("HTTP %d", e.Status)
	if e.Code != "" {
		text += " " + e.Code
	}
	if e.Detail != "" {
		text += ": " + e.Detail
	}
	return text
}

// IsNotFound says whether the API has no such thing. A 404 of another server's does not say so.
func IsNotFound(err error) bool {
	var problem *Error
	return errors.As(err, &problem) && problem.Status == http.StatusNotFound && problem.Code == "not_found"
}

// Request is what the API is asked.
type Request struct {
	Method string
	// Path begins with a slash, its segments percent-encoded.
	Path string
	// Body is sent as JSON unless it is nil.
	Body any
	// IfMatch is the ETag of what the change was decided on.
	IfMatch string
}

// canRepeat says whether the request may reach the service twice.
func (r Request) canRepeat() bool { return r.IfMatch == "" }

// Do asks until there is an answer, or it makes no sense to ask again. When the context ends, a change that is under way is waited for,
// and nothing is asked again.
func (c *Client) Do(ctx context.Context, request Request) (Answer, error) {
	var body []byte
	if request.Body != nil {
		var err error
		if body, err = cty.EncodeJSON(request.Body); err != nil {
			return Answer{}, err
		}
	}
	key := ""
	if request.Method == http.MethodPost {
		var random [16]byte
		if _, err := rand.Read(random[:]); err != nil {
			return Answer{}, err
		}
		key = hex.EncodeToString(random[:])
	}
	pause := 500 * time.Millisecond
	for attempt := 1; ; attempt++ {
		answer, retryAfter, err := c.once(ctx, request, body, key)
		if err == nil || attempt == maximumAttempts || !isTransient(err, request) {
			return answer, err
		}
		if c.wait(ctx, max(pause, min(retryAfter, maximumWait))) != nil {
			return answer, err
		}
		pause *= 2
	}
}

func wait(ctx context.Context, pause time.Duration) error {
	timer := time.NewTimer(pause)
	defer timer.Stop()
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-timer.C:
		return nil
	}
}

// isTransient says whether the same request may succeed later. What may have been carried out is not sent again where the second time
// would be refused.
func isTransient(err error, request Request) bool {
	var problem *Error
	if errors.As(err, &problem) {
		switch problem.Status {
		case http.StatusTooManyRequests, http.StatusServiceUnavailable:
			return problem.Code != "no_encryption_key" && problem.Code != "no_signing_key"
		case http.StatusBadGateway, http.StatusGatewayTimeout:
			return request.canRepeat()
		}
		return false
	}
	var untrusted *tls.CertificateVerificationError
	if errors.As(err, &untrusted) {
		return false
	}
	var operation *net.OpError
	if errors.As(err, &operation) && operation.Op == "dial" {
		return true
	}
	return request.canRepeat() && !errors.Is(err, context.Canceled) && !errors.Is(err, errTooLarge)
}

var errTooLarge = errors.New("the answer is larger than 16 MiB")

func (c *Client) once(ctx context.Context, request Request, body []byte, key string) (Answer, time.Duration, error) {
	if request.Method != http.MethodGet {
		// Cut off, it might have been carried out all the same, and Terraform would not know.
		ctx = context.WithoutCancel(ctx)
	}
	httpRequest, err := http.NewRequestWithContext(ctx, request.Method, c.base+request.Path, bytes.NewReader(body))
	if err != nil {
		return Answer{}, 0, err
	}
	header := httpRequest.Header
	header.Set("Accept", "application/json")
	header.Set("User-Agent", c.agent)
	if c.token != "" {
		header.Set("Authorization", "Bearer "+c.token)
	}
	if body != nil {
		header.Set("Content-Type", "application/json")
		if request.Method == http.MethodPatch {
			header.Set("Content-Type", "application/merge-patch+json")
		}
	}
	if key != "" {
		header.Set("Idempotency-Key", key)
	}
	if request.IfMatch != "" {
		header.Set("If-Match", request.IfMatch)
	}
	begin := time.Now()
	response, err := c.http.Do(httpRequest)
	if err != nil {
		c.Log(fmt.Sprintf("%s %s: %v", request.Method, request.Path, err))
		return Answer{}, 0, fmt.Errorf("%s gave no answer: %w", c.base, err)
	}
	defer response.Body.Close()
	data, err := io.ReadAll(io.LimitReader(response.Body, maximumAnswer+1))
	c.Log(fmt.Sprintf("%s %s: %d in %d ms, request %s", request.Method, request.Path, response.StatusCode,
		time.Since(begin).Milliseconds(), response.Header.Get("X-Request-Id")))
	if err == nil && len(data) > maximumAnswer {
		err = errTooLarge
	}
	if err != nil {
		return Answer{}, 0, fmt.Errorf("%s did not end its answer: %w", c.base, err)
	}
	return read(response, data)
}

// read makes an answer or an error of a response.
func read(response *http.Response, data []byte) (Answer, time.Duration, error) {
	if response.StatusCode < 200 || response.StatusCode > 299 {
		seconds, err := strconv.Atoi(response.Header.Get("Retry-After"))
		if err != nil {
			seconds = 0
		}
		return Answer{}, time.Duration(min(max(seconds, 0), 3600)) * time.Second, problem(response, data)
	}
	answer := Answer{Body: data, ETag: response.Header.Get("ETag")}
	if date, err := http.ParseTime(response.Header.Get("Date")); err == nil {
		answer.Date = date
	}
	if response.StatusCode == http.StatusNoContent {
		return answer, 0, nil
	}
	value, err := cty.DecodeJSON(data)
	members, isObject := value.(map[string]any)
	if err != nil || !isObject {
		return answer, 0, &Error{Status: response.StatusCode, Detail: "The answer is no JSON object. Does the URL lead to the metering API?"}
	}
	answer.Members = members
	return answer, 0, nil
}

// problem reads an error of the API's (RFC 9457), or says what stands there instead.
func problem(response *http.Response, data []byte) *Error {
	result := &Error{Status: response.StatusCode, RequestID: response.Header.Get("X-Request-Id")}
	value, err := cty.DecodeJSON(data)
	members, isObject := value.(map[string]any)
	if err != nil || !isObject {
		result.Detail = "The answer is none of the metering API's. Does the URL lead to it?"
		if location := response.Header.Get("Location"); location != "" {
			result.Detail = "The answer is a redirect, which is not followed, because it would take the token elsewhere."
		}
		return result
	}
	result.Code, _ = members["code"].(string)
	result.Detail, _ = members["detail"].(string)
	blames, _ := members["errors"].([]any)
	for _, item := range blames {
		if blame, isObject := item.(map[string]any); isObject {
			parameter, _ := blame["parameter"].(string)
			detail, _ := blame["detail"].(string)
			result.Blames = append(result.Blames, Blame{parameter, detail})
		}
	}
	return result
}

// Segment is a text as one segment of a path.
func Segment(text string) string {
	var result strings.Builder
	for _, b := range []byte(text) {
		if b >= '0' && b <= '9' || b|0x20 >= 'a' && b|0x20 <= 'z' || strings.IndexByte("-_~", b) >= 0 {
			result.WriteByte(b)
		} else {
			fmt.Fprintf(&result, "%%%02X", b)
		}
	}
	return result.String()
}
