// Command conformance lets the conformance runner try this SDK: a JSON object a line in, one a line out.
package main

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"os"
	"sync"
	"sync/atomic"
	"time"

	sdk "license-metering.example/go"
	"license-metering.example/go/licensetest"
)

type object = map[string]any

type request struct {
	Op, Set, Keys, Token, LicenseKey, Domain, Nonce, Text, Meter string
	Now, Offset, Quantity                                        int64
	Count                                                        int
	Timeout                                                      *float64
	Bound, Features, Trusted                                     []string
	Options                                                      options
	Peer, Host, Forwarded, Code                                  string
	Valid                                                        bool
}

type options struct {
	URL, LicenseKey, Token, PinMode, CAFile, CacheDir, OnUnknown string
	Keys                                                         *string
	Pins                                                         []string
	FreshFor, GraceFor, ConnectTimeout, TotalTimeout             float64
	PauseAfterFailure                                            *float64
	OfflineFallback                                              bool
	MaxUsageQueue                                                int
}

var (
	client   *sdk.Client
	current  options
	offset   atomic.Int64
	lock     sync.Mutex
	problems = []string{}
)

func clock() time.Time { return time.Now().Add(time.Duration(offset.Load()) * time.Millisecond) }

func main() {
	lines := bufio.NewReader(os.Stdin)
	writer := json.NewEncoder(os.Stdout)
	for {
		line, err := lines.ReadBytes('\n')
		if err != nil {
			return
		}
		var question request
		if err := json.Unmarshal(line, &question); err != nil {
			panic(err)
		}
		if question.Quantity == 0 && !hasQuantity(line) {
			question.Quantity = 1
		}
		if err := writer.Encode(answer(question)); err != nil {
			panic(err)
		}
	}
}

func hasQuantity(line []byte) bool {
	var members object
	_ = json.Unmarshal(line, &members)
	_, ok := members["quantity"]
	return ok
}

func answer(q request) object {
	switch q.Op {
	case "hello":
		return object{"idna": false, "closesAtExit": false, "frameworks": []string{"net/http"}}
	case "keyset":
		keys, err := sdk.ParseKeySet([]byte(q.Set))
		if err != nil {
			return object{"invalid": true}
		}
		names := []string{}
		for _, key := range keys.Keys {
			names = append(names, key.ID+" "+key.Algorithm+" "+key.Purpose)
		}
		return object{"keys": names}
	case "license":
		claims, err := sdk.VerifyLicense(q.Token, keySet(q.Keys))
		if err != nil {
			return refused(err)
		}
		return object{"claims": shownClaims(claims)}
	case "verdict":
		question := sdk.VerdictQuestion{LicenseKey: q.LicenseKey, Nonce: q.Nonce, Now: q.Now}
		if name, ok := sdk.Normalize(q.Domain); ok {
			question.Domain = &name
		}
		if _, err := sdk.VerifyVerdict(q.Token, keySet(q.Keys), question); err != nil {
			return refused(err)
		}
		return object{}
	case "domain":
		name, ok := sdk.Normalize(q.Text)
		if !ok {
			return object{"name": nil, "local": false}
		}
		return object{"name": name.Text, "local": name.IsLocal()}
	case "covers":
		name, ok := sdk.Normalize(q.Domain)
		return object{"covers": ok && sdk.Covers(q.Bound, name)}
	case "offline":
		code := "invalid_signature"
		if claims, err := sdk.VerifyLicense(q.Token, keySet(q.Keys)); err == nil {
			code = claims.Judge(q.Domain, time.UnixMilli(q.Now))
		}
		return object{"code": code, "valid": code == "valid" || code == "grace"}
	case "middleware":
		return tryMiddleware(q)
	}
	return clientAnswer(q)
}

func clientAnswer(q request) object {
	timeout := 5.0
	if q.Timeout != nil {
		timeout = *q.Timeout
	}
	ctx, cancel := context.WithTimeout(context.Background(), seconds(timeout))
	defer cancel()
	switch q.Op {
	case "open":
		return open(q.Options)
	case "validate":
		return shown(validate(q))
	case "validateOffline":
		key := current.LicenseKey
		if q.LicenseKey != "" {
			key = q.LicenseKey
		}
		return shown(client.ValidateOffline(q.Domain, key))
	case "validateMany":
		results := make([]object, q.Count)
		var group sync.WaitGroup
		for i := range results {
			group.Add(1)
			go func() {
				defer group.Done()
				results[i] = shown(validate(q))
			}()
		}
		group.Wait()
		return object{"results": results}
	case "clock":
		offset.Store(q.Offset)
	case "record":
		accepted := 0
		for range max(q.Count, 1) {
			if client.Record(sdk.Usage{Meter: q.Meter, Quantity: q.Quantity}) {
				accepted++
			}
		}
		return object{"accepted": accepted}
	case "flush":
		return object{"flushed": client.Flush(ctx), "statistics": client.UsageStatistics()}
	case "statistics":
		return object{"statistics": client.UsageStatistics()}
	case "close":
		client.Close(ctx)
		return object{"statistics": client.UsageStatistics()}
	case "problems":
		lock.Lock()
		defer lock.Unlock()
		taken := problems
		problems = []string{}
		return object{"problems": taken}
	}
	return object{}
}

func open(o options) object {
	offset.Store(0)
	current = o
	made := sdk.Options{
		URL: o.URL, LicenseKey: o.LicenseKey, Token: o.Token, Pins: o.Pins, PinMode: o.PinMode, CAFile: o.CAFile,
		CacheDir: o.CacheDir, OnUnknown: o.OnUnknown, OfflineFallback: o.OfflineFallback, MaxUsageQueue: o.MaxUsageQueue,
		FreshFor: seconds(o.FreshFor), GraceFor: seconds(o.GraceFor), ConnectTimeout: seconds(o.ConnectTimeout),
		TotalTimeout: seconds(o.TotalTimeout), Clock: clock,
		OnProblem: func(problem string) {
			lock.Lock()
			defer lock.Unlock()
			problems = append(problems, problem)
		},
	}
	if o.PauseAfterFailure != nil {
		made.PauseAfterFailure = seconds(*o.PauseAfterFailure)
		if made.PauseAfterFailure == 0 {
			made.PauseAfterFailure = -1
		}
	}
	if o.Keys != nil {
		keys, err := sdk.ParseKeySet([]byte(*o.Keys))
		if err != nil {
			return object{"error": err.Error()}
		}
		made.Keys = keys
	}
	opened, err := sdk.New(made)
	if err != nil {
		return object{"error": err.Error()}
	}
	client = opened
	return object{}
}

func validate(q request) sdk.Result {
	if q.LicenseKey != "" {
		return client.ValidateKey(context.Background(), q.Domain, q.LicenseKey)
	}
	return client.Validate(context.Background(), q.Domain)
}

func tryMiddleware(q request) object {
	fake := licensetest.Denied(q.Code)
	if q.Valid {
		fake = licensetest.Valid(q.Features...)
	}
	proxies := []netip.Prefix{}
	for _, text := range q.Trusted {
		proxies = append(proxies, netip.MustParsePrefix(text))
	}
	var feature any
	handler := sdk.Middleware(fake, sdk.MiddlewareOptions{Domain: q.Domain, TrustedProxies: proxies})(
		http.HandlerFunc(func(_ http.ResponseWriter, request *http.Request) {
			feature = sdk.FromContext(request.Context()).Features.Has("analytics")
		}))
	incoming := httptest.NewRequest(http.MethodGet, "/", nil)
	incoming.RemoteAddr, incoming.Host = q.Peer+":1234", q.Host
	if q.Forwarded != "" {
		incoming.Header.Set("X-Forwarded-Host", q.Forwarded)
	}
	recorder := httptest.NewRecorder()
	handler.ServeHTTP(recorder, incoming)
	var body object
	_ = json.Unmarshal(recorder.Body.Bytes(), &body)
	return object{"status": recorder.Code, "asked": fake.Asked()[0], "feature": feature, "code": body["code"]}
}

func shown(result sdk.Result) object {
	var problem any
	if result.Problem != "" {
		problem = result.Problem
	}
	return object{
		"valid": result.Valid, "code": result.Code, "source": result.Source, "age": int(result.Age.Seconds()),
		"features": result.Features.Names(), "grace": result.Grace, "problem": problem,
	}
}

func shownClaims(claims *sdk.LicenseClaims) object {
	members := object{
		"licenseId": claims.LicenseID, "domains": some(claims.Domains), "plan": claims.Plan, "features": some(claims.Features),
		"limits": claims.Limits, "issuedAt": claims.IssuedAt, "expiresAt": claims.ExpiresAt, "trial": claims.IsTrial,
	}
	if claims.NotBefore != nil {
		members["notBefore"] = *claims.NotBefore
	}
	return members
}

func some(texts []string) []string { return append([]string{}, texts...) }

func refused(err error) object {
	var refusal *sdk.TokenRefused
	if !errors.As(err, &refusal) {
		panic(err)
	}
	members := object{"refusal": refusal.Code}
	if refusal.Claim != "" {
		members["claim"] = refusal.Claim
	}
	return members
}

func keySet(text string) *sdk.KeySet {
	keys, err := sdk.ParseKeySet([]byte(text))
	if err != nil {
		panic(err)
	}
	return keys
}

func seconds(value float64) time.Duration { return time.Duration(value * float64(time.Second)) }
