package licensemetering

import (
	"bytes"
	"context"
	"crypto/sha256"
	"crypto/subtle"
	"crypto/tls"
	"crypto/x509"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"os"
	"strconv"
	"strings"
	"time"
)

// noAnswer says why the service gave no answer that can be believed: timeout, connection, tls, pin_mismatch, too_large,
// http_503 (or another status) or untrusted.
type noAnswer struct {
	problem     string
	isTemporary bool
	retryAfter  time.Duration
}

func (e *noAnswer) Error() string { return e.problem }

var (
	errPin      = &noAnswer{problem: "pin_mismatch"}
	errTooLarge = &noAnswer{problem: "too_large"}
	errTimeout  = &noAnswer{problem: "timeout", isTemporary: true}
)

type transport struct {
	base   string
	client *http.Client
}

type answer struct {
	status int
	header http.Header
	body   []byte
}

func newTransport(options *Options, report func(string)) (*transport, error) {
	base, err := url.Parse(options.URL)
	if err != nil || (base.Scheme != "https" && base.Scheme != "http") || base.Hostname() == "" || base.RawQuery != "" || base.Fragment != "" || base.User != nil {
		return nil, errors.New("URL must be https://host[:port][/path]")
	}
	if base.Scheme == "http" && !isLoopback(base.Hostname()) {
		return nil, errors.New("URL must be https: license keys and tokens are secrets (http is for loopback addresses)")
	}
	pins, err := readPins(options.Pins)
	if err != nil {
		return nil, err
	}
	if len(pins) > 0 && base.Scheme != "https" {
		return nil, errors.New("Pins need https")
	}
	settings := &tls.Config{MinVersion: tls.VersionTLS12}
	if options.CAFile != "" {
		pem, err := os.ReadFile(options.CAFile)
		if err != nil {
			return nil, err
		}
		settings.RootCAs = x509.NewCertPool()
		if !settings.RootCAs.AppendCertsFromPEM(pem) {
			return nil, errors.New("CAFile holds no certificate in PEM")
		}
	}
	if len(pins) > 0 {
		// Called after the normal checks, never in their place.
		settings.VerifyConnection = func(state tls.ConnectionState) error {
			return checkPins(state, pins, options.PinMode, report)
		}
	}
	return &transport{
		base: strings.TrimRight(options.URL, "/"),
		client: &http.Client{
			Transport: &http.Transport{
				DialContext:            (&net.Dialer{Timeout: options.ConnectTimeout}).DialContext,
				TLSHandshakeTimeout:    options.ConnectTimeout,
				TLSClientConfig:        settings,
				DisableKeepAlives:      true,
				DisableCompression:     true,
				MaxResponseHeaderBytes: 1 << 16,
			},
			CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
		},
	}, nil
}

// send makes one request; the deadline is the context's. The error is a *noAnswer.
func (t *transport) send(ctx context.Context, method, path string, header http.Header, body []byte, limit int64) (*answer, error) {
	request, err := http.NewRequestWithContext(ctx, method, t.base+path, bytes.NewReader(body))
	if err != nil {
		return nil, &noAnswer{problem: "connection"}
	}
	request.Header = header.Clone()
	response, err := t.client.Do(request)
	if err != nil {
		return nil, translated(ctx, err)
	}
	defer response.Body.Close()
	data, err := io.ReadAll(io.LimitReader(response.Body, limit+1))
	if err != nil {
		return nil, translated(ctx, err)
	}
	if int64(len(data)) > limit {
		return nil, errTooLarge
	}
	return &answer{response.StatusCode, response.Header, data}, nil
}

func translated(ctx context.Context, err error) error {
	var certificate *tls.CertificateVerificationError
	var own *noAnswer
	var network net.Error
	switch {
	case errors.As(err, &own):
		return own
	case errors.As(err, &certificate):
		return &noAnswer{problem: "tls"}
	case ctx.Err() != nil || (errors.As(err, &network) && network.Timeout()):
		return errTimeout
	}
	return &noAnswer{problem: "connection", isTemporary: true}
}

// refusal is the answer of a status that is none.
func refusal(a *answer) error {
	failure := &noAnswer{problem: fmt.Sprintf("http_%d", a.status)}
	failure.isTemporary = a.status == 408 || a.status == 429 || a.status >= 500
	if seconds, err := strconv.ParseUint(a.header.Get("Retry-After"), 10, 20); err == nil && failure.isTemporary {
		failure.retryAfter = time.Duration(seconds) * time.Second
	}
	return failure
}

func checkPins(state tls.ConnectionState, pins [][]byte, mode string, report func(string)) error {
	digest := sha256.Sum256(state.PeerCertificates[0].RawSubjectPublicKeyInfo)
	for _, pin := range pins {
		if subtle.ConstantTimeCompare(pin, digest[:]) == 1 {
			return nil
		}
	}
	report("pin_mismatch")
	if mode == "report" {
		return nil
	}
	return errPin
}

func readPins(pins []string) ([][]byte, error) {
	decoded := [][]byte{}
	known := map[string]bool{}
	for _, pin := range pins {
		text, ok := strings.CutPrefix(pin, "sha256/")
		digest, err := base64.StdEncoding.DecodeString(text)
		if !ok || err != nil || len(digest) != sha256.Size {
			return nil, errors.New("a pin must be sha256/ and the base64 of the SHA-256 of a public key (SPKI)")
		}
		decoded = append(decoded, digest)
		known[string(digest)] = true
	}
	if len(decoded) > 0 && len(known) < 2 {
		return nil, errors.New("Pins must be at least two: without a spare one, a new key of the service locks every client out")
	}
	return decoded, nil
}

func isLoopback(host string) bool {
	address := net.ParseIP(host)
	return host == "localhost" || (address != nil && address.IsLoopback())
}
