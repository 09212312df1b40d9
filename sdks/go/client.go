// Package licensemetering validates licenses of License Metering, online and offline, and reports usage. Start with New.
package licensemetering

import (
	"container/list"
	"context"
	"encoding/json"
	"errors"
	"math/rand/v2"
	"net/http"
	"sort"
	"strings"
	"sync"
	"time"
)

// Version of this SDK.
const Version = "0.1.0"

const (
	maximumAnswerBytes = 65_536
	tries              = 3
	keysPause          = time.Minute
	noIsFresh          = 60_000
	week               = 7 * 24 * time.Hour
)

var explanations = map[string]string{
	"domain_mismatch":   "The license is not valid for this domain.",
	"expired":           "The license has expired.",
	"not_yet_valid":     "The license is not valid yet.",
	"invalid_signature": "The license key is not accepted: it was not signed by its vendor, or was changed since.",
	"clock_rolled_back": "The clock is behind a time that the license service has signed.",
	"unreachable":       "The license service gave no valid answer, and nothing is known about the license.",
}

// Options of a Client. What is zero has its default.
type Options struct {
	// URL is https://licenses.example.com; plain http is for loopback addresses.
	URL string
	// LicenseKey is a license's id or its token.
	LicenseKey string
	// Token is an API token, needed for Record (scope usage:write).
	Token string
	// Keys is the service's key set, compiled in. Without it, it is fetched from the service over TLS.
	Keys *KeySet
	// Pins are sha256/… of the service's public key (SPKI), at least two; PinMode is enforce (default) or report.
	Pins    []string
	PinMode string
	// CAFile has the authorities to trust in PEM, in place of the system's.
	CAFile string
	// CacheDir keeps verdicts over a restart.
	CacheDir string
	// FreshFor is how long a verdict is used without asking: 1 minute to 1 hour; default 5 minutes.
	FreshFor time.Duration
	// GraceFor is how long a verified "yes" is used while the service gives no answer; default and maximum: seven days.
	GraceFor time.Duration
	// OnUnknown is graceThenDeny (default), allow, or deny, which uses no grace.
	OnUnknown string
	// OfflineFallback judges a license token itself where nothing is known and the service gives no answer.
	OfflineFallback bool
	// ConnectTimeout is 2 s by default, TotalTimeout 5 s, retries included.
	ConnectTimeout, TotalTimeout time.Duration
	// PauseAfterFailure is how long the service is left alone after a failure: 10 s by default, none if negative.
	PauseAfterFailure time.Duration
	// MaxUsageQueue is 10,000 events by default.
	MaxUsageQueue int
	// OnProblem is called with the name of each problem, from any goroutine.
	OnProblem func(problem string)
	// Clock is for tests.
	Clock func() time.Time
}

// Features is what a license unlocks.
type Features map[string]struct{}

// Has says whether the license unlocks it.
func (f Features) Has(name string) bool {
	_, ok := f[name]
	return ok
}

// Names are sorted.
func (f Features) Names() []string {
	names := []string{}
	for name := range f {
		names = append(names, name)
	}
	sort.Strings(names)
	return names
}

func newFeatures(names []string) Features {
	features := Features{}
	for _, name := range names {
		features[name] = struct{}{}
	}
	return features
}

// Result says whether the application may run, why, and how this is known.
type Result struct {
	Valid bool
	// Code is one of the service's, or clock_rolled_back or unreachable.
	Code string
	// Source is online, cache, grace (remembered while the service gives no answer), offline (judged from the license
	// token itself) or none.
	Source string
	// Age is how long ago the service signed it.
	Age       time.Duration
	LicenseID string
	Plan      string
	Features  Features
	Limits    map[string]int64
	// ExpiresAt is zero where it is not known.
	ExpiresAt time.Time
	// Grace: the license has expired and holds for up to seven days more.
	Grace     bool
	OverLimit bool
	// Explanation is one sentence for a developer; empty where the license holds.
	Explanation string
	// Problem says why the service gave no answer: timeout, connection, tls, pin_mismatch, too_large, untrusted, http_503…
	Problem string
}

// Client of one validation service, for all goroutines of a process.
type Client struct {
	options   Options
	transport *transport
	cache     *cache
	usage     *usageQueue

	lock        sync.Mutex
	keys        *KeySet
	keysAsked   time.Time
	flights     map[cacheKey]*flight
	pausedUntil time.Time
	problem     string
}

// flight is a question that is on its way.
type flight struct {
	ended chan struct{}
	entry *entry
	err   error
}

// New makes a client. It asks nothing yet; the error is about the options.
func New(options Options) (*Client, error) {
	if err := options.complete(); err != nil {
		return nil, err
	}
	client := &Client{options: options, keys: options.Keys, flights: map[cacheKey]*flight{}, problem: "connection"}
	var err error
	if client.transport, err = newTransport(&client.options, options.OnProblem); err != nil {
		return nil, err
	}
	client.cache = &cache{
		folder: options.CacheDir, entries: map[cacheKey]*list.Element{}, order: list.New(),
		verify: client.verifySaved, signedTime: client.savedTime,
	}
	client.usage = newUsageQueue(options.MaxUsageQueue, options.OnProblem, client.sendUsage)
	if saved := client.cache.read(keysFile); client.keys == nil && saved != nil {
		// Keys that cannot be read are fetched.
		client.keys, _ = ParseKeySet([]byte(saved.Keys))
	}
	return client, nil
}

func (o *Options) complete() error {
	setDuration := func(value *time.Duration, standard time.Duration) {
		if *value == 0 {
			*value = standard
		}
	}
	setText := func(value *string, standard string) {
		if *value == "" {
			*value = standard
		}
	}
	setDuration(&o.FreshFor, 5*time.Minute)
	setDuration(&o.GraceFor, week)
	setDuration(&o.ConnectTimeout, 2*time.Second)
	setDuration(&o.TotalTimeout, 5*time.Second)
	setDuration(&o.PauseAfterFailure, 10*time.Second)
	setText(&o.OnUnknown, "graceThenDeny")
	setText(&o.PinMode, "enforce")
	if o.MaxUsageQueue == 0 {
		o.MaxUsageQueue = 10_000
	}
	if o.OnProblem == nil {
		o.OnProblem = func(string) {}
	}
	if o.Clock == nil {
		o.Clock = time.Now
	}
	switch {
	case o.FreshFor < time.Minute || o.FreshFor > time.Hour:
		return errors.New("FreshFor must be 1 minute to 1 hour")
	case o.GraceFor < 0 || o.GraceFor > week:
		return errors.New("GraceFor must be at most seven days")
	case o.OnUnknown != "graceThenDeny" && o.OnUnknown != "allow" && o.OnUnknown != "deny":
		return errors.New("OnUnknown must be graceThenDeny, allow or deny")
	case o.PinMode != "enforce" && o.PinMode != "report":
		return errors.New("PinMode must be enforce or report")
	case o.LicenseKey != "" && !isPlain(o.LicenseKey, 8192):
		return errors.New("LicenseKey must be a text of 1 to 8,192 bytes without control characters")
	}
	return nil
}

// Validate says whether the license holds for a domain. A "no" is no error.
func (c *Client) Validate(ctx context.Context, domain string) Result {
	return c.ValidateKey(ctx, domain, c.options.LicenseKey)
}

// ValidateKey is as Validate, for another license key than the client's.
func (c *Client) ValidateKey(ctx context.Context, domain, licenseKey string) Result {
	if !isPlain(licenseKey, 8192) {
		return denied("not_found", "none", "bad_license_key")
	}
	name, ok := Normalize(domain)
	if !ok {
		return denied("domain_mismatch", "offline", "")
	}
	if result, ok := c.remembered(licenseKey, name); ok {
		return result
	}
	problem, isPaused := c.pause()
	if !isPaused {
		flight := c.ask(licenseKey, name)
		select {
		case <-flight.ended:
			if flight.err == nil {
				return c.result(flight.entry, "online", "")
			}
			problem = flight.err.Error()
		case <-ctx.Done():
			problem = "timeout"
		}
	}
	return c.withoutAnswer(licenseKey, name, problem)
}

// ValidateOffline is the verdict on a license token, by its signature alone. It needs keys, compiled in or fetched before.
func (c *Client) ValidateOffline(domain, licenseKey string) Result {
	if c.isRolledBack() {
		return denied("clock_rolled_back", "offline", "")
	}
	keys := c.knownKeys()
	if keys == nil {
		return denied("unreachable", "offline", "no_keys")
	}
	claims, err := VerifyLicense(licenseKey, keys)
	if err != nil {
		problem := "bad_claims"
		var refusal *TokenRefused
		if errors.As(err, &refusal) {
			problem = refusal.Code
		}
		return denied("invalid_signature", "offline", problem)
	}
	result := denied(claims.Judge(domain, c.options.Clock()), "offline", "")
	result.Valid = result.Code == "valid" || result.Code == "grace"
	result.Grace = result.Code == "grace"
	result.LicenseID, result.Plan, result.Limits = claims.LicenseID, claims.Plan, claims.Limits
	result.ExpiresAt = time.UnixMilli(claims.ExpiresAt).UTC()
	if result.Valid {
		result.Features = newFeatures(claims.Features)
	}
	return result
}

// Record queues usage, without waiting. False where it was dropped: the queue is full, or the usage breaks a rule.
func (c *Client) Record(usage Usage) bool {
	if usage.LicenseID == "" && !strings.Contains(c.options.LicenseKey, ".") {
		usage.LicenseID = c.options.LicenseKey
	}
	return c.usage.record(usage, c.options.Clock())
}

// Flush sends the usage that is queued now, until the context ends. Whether all of it went out.
func (c *Client) Flush(ctx context.Context) bool { return c.usage.flush(ctx) }

// UsageStatistics says what became of the usage so far.
func (c *Client) UsageStatistics() UsageStatistics { return c.usage.current() }

// Close sends what is queued until the context ends, and takes no usage any more. What is left is dropped and counted.
func (c *Client) Close(ctx context.Context) { c.usage.close(ctx) }

// --- What is remembered ---

func (c *Client) remembered(licenseKey string, name DomainName) (Result, bool) {
	if c.isRolledBack() {
		return denied("clock_rolled_back", "none", ""), true
	}
	known := c.cache.get(licenseKey, name)
	if known == nil || c.age(known) >= c.freshness(known) {
		known = c.cache.load(licenseKey, name)
	}
	if known == nil || c.isOver(known) {
		return Result{}, false
	}
	age := c.age(known)
	if age < c.freshness(known) {
		return c.result(known, "cache", ""), true
	}
	if !known.verdict.Valid || age >= 2*c.options.FreshFor.Milliseconds() {
		return Result{}, false
	}
	if _, isPaused := c.pause(); !isPaused {
		c.ask(licenseKey, name)
	}
	return c.result(known, "cache", ""), true
}

func (c *Client) withoutAnswer(licenseKey string, name DomainName, problem string) Result {
	if c.isRolledBack() {
		return denied("clock_rolled_back", "none", problem)
	}
	known, now := c.cache.load(licenseKey, name), c.options.Clock().UnixMilli()
	if known != nil && !known.verdict.Valid {
		return c.result(known, "cache", problem)
	}
	if known != nil && c.options.OnUnknown != "deny" {
		if ends := known.verdict.ExpiresAt; ends != 0 && now >= ends+graceMilliseconds {
			return denied("expired", "cache", problem)
		}
		if now-known.verdict.Timestamp <= c.options.GraceFor.Milliseconds() {
			return c.result(known, "grace", problem)
		}
	}
	if c.options.OfflineFallback {
		if offline := c.ValidateOffline(name.Text, licenseKey); offline.Problem == "" {
			return offline
		}
	}
	result := denied("unreachable", "none", problem)
	result.Valid = c.options.OnUnknown == "allow"
	return result
}

func (c *Client) isRolledBack() bool {
	return c.options.Clock().UnixMilli() < c.cache.highest()-toleranceMilliseconds
}

func (c *Client) age(e *entry) int64 { return max(0, c.options.Clock().UnixMilli()-e.received) }

func (c *Client) freshness(e *entry) int64 {
	if e.verdict.Valid {
		return c.options.FreshFor.Milliseconds()
	}
	return min(c.options.FreshFor.Milliseconds(), noIsFresh)
}

// isOver says whether the license has reached an end since: it is asked about then.
func (c *Client) isOver(e *entry) bool {
	ends := e.verdict.ExpiresAt
	if e.verdict.Grace {
		ends += graceMilliseconds
	}
	return e.verdict.ExpiresAt != 0 && e.verdict.Valid && c.options.Clock().UnixMilli() >= ends
}

func (c *Client) result(e *entry, source, problem string) Result {
	verdict, now := e.verdict, c.options.Clock().UnixMilli()
	result := Result{
		Valid: verdict.Valid, Code: verdict.Code, Source: source, LicenseID: verdict.LicenseID, Plan: verdict.Plan,
		Features: Features{}, Limits: map[string]int64{}, OverLimit: verdict.OverLimit, Explanation: verdict.Error, Problem: problem,
	}
	result.Grace = verdict.Grace || (verdict.Valid && verdict.ExpiresAt != 0 && now >= verdict.ExpiresAt)
	if result.Grace && result.Code == "valid" {
		result.Code = "grace"
	}
	if source != "online" {
		result.Age = time.Duration(max(0, now-verdict.Timestamp)) * time.Millisecond
	}
	if verdict.Valid {
		result.Features = newFeatures(verdict.Features)
	}
	for name, quantity := range verdict.Limits {
		result.Limits[name] = quantity
	}
	if verdict.ExpiresAt != 0 {
		result.ExpiresAt = time.UnixMilli(verdict.ExpiresAt).UTC()
	}
	return result
}

func denied(code, source, problem string) Result {
	return Result{
		Code: code, Source: source, Problem: problem, Features: Features{}, Limits: map[string]int64{},
		Explanation: explanations[code],
	}
}

// --- Asking ---

func (c *Client) pause() (problem string, isPaused bool) {
	c.lock.Lock()
	defer c.lock.Unlock()
	return c.problem, time.Now().Before(c.pausedUntil)
}

// ask joins equal questions that are on their way.
func (c *Client) ask(licenseKey string, name DomainName) *flight {
	key := cacheKey{licenseKey, name.Text}
	c.lock.Lock()
	defer c.lock.Unlock()
	if known, ok := c.flights[key]; ok {
		return known
	}
	started := &flight{ended: make(chan struct{})}
	c.flights[key] = started
	go c.fly(started, key, licenseKey, name)
	return started
}

func (c *Client) fly(f *flight, key cacheKey, licenseKey string, name DomainName) {
	ctx, cancel := context.WithTimeout(context.Background(), c.options.TotalTimeout)
	defer cancel()
	f.entry, f.err = c.answer(ctx, licenseKey, name)
	if f.err == nil {
		c.cache.put(licenseKey, name, f.entry)
	}
	c.lock.Lock()
	delete(c.flights, key)
	var failure *noAnswer
	if errors.As(f.err, &failure) {
		c.problem = failure.problem
		c.pausedUntil = time.Now().Add(max(c.options.PauseAfterFailure, min(failure.retryAfter, 5*time.Minute)))
	}
	c.lock.Unlock()
	if f.err != nil {
		c.options.OnProblem(f.err.Error())
	}
	close(f.ended)
}

func (c *Client) answer(ctx context.Context, licenseKey string, name DomainName) (*entry, error) {
	nonce := randomHex()
	body, err := json.Marshal(map[string]string{"licenseKey": licenseKey, "domain": name.Text, "nonce": nonce})
	if err != nil {
		return nil, err
	}
	header := c.header("application/json")
	header.Set("Idempotency-Key", randomHex())
	data, err := c.retrying(ctx, http.MethodPost, "/v1/licenses/validate", header, body, maximumAnswerBytes)
	if err != nil {
		return nil, err
	}
	object := parseMembers(data)
	if object == nil {
		return nil, &noAnswer{problem: "untrusted"}
	}
	signature, ok := textOf(object.values["signature"], 1, maximumTokenBytes)
	if !ok {
		return nil, &noAnswer{problem: "untrusted"}
	}
	verdict, err := c.verified(ctx, signature, licenseKey, name, nonce)
	if err != nil {
		return nil, err
	}
	return &entry{verdict, signature, c.options.Clock().UnixMilli()}, nil
}

func (c *Client) verified(ctx context.Context, signature, licenseKey string, name DomainName, nonce string) (*Verdict, error) {
	keys := c.knownKeys()
	var err error
	if keys == nil {
		if keys, err = c.fetchKeys(ctx); err != nil {
			return nil, err
		}
	}
	question := VerdictQuestion{licenseKey, &name, nonce, c.options.Clock().UnixMilli()}
	verdict, err := VerifyVerdict(signature, keys, question)
	var refusal *TokenRefused
	if errors.As(err, &refusal) && refusal.Code == "unknown_key" && c.mayFetchKeys() {
		// The service may have a new key; it is asked at most once a minute.
		if keys, err = c.fetchKeys(ctx); err != nil {
			return nil, err
		}
		verdict, err = VerifyVerdict(signature, keys, question)
	}
	if err != nil {
		return nil, &noAnswer{problem: "untrusted"}
	}
	return verdict, nil
}

func (c *Client) knownKeys() *KeySet {
	c.lock.Lock()
	defer c.lock.Unlock()
	return c.keys
}

func (c *Client) mayFetchKeys() bool {
	c.lock.Lock()
	defer c.lock.Unlock()
	return c.options.Keys == nil && time.Since(c.keysAsked) >= keysPause
}

func (c *Client) fetchKeys(ctx context.Context) (*KeySet, error) {
	c.lock.Lock()
	c.keysAsked = time.Now()
	c.lock.Unlock()
	data, err := c.retrying(ctx, http.MethodGet, "/.well-known/jwks.json", c.header(""), nil, maximumSetBytes)
	if err != nil {
		return nil, err
	}
	keys, err := ParseKeySet(data)
	if err != nil {
		return nil, &noAnswer{problem: "untrusted"}
	}
	c.lock.Lock()
	c.keys = keys
	c.lock.Unlock()
	if c.options.CacheDir != "" {
		// Without it a restart fetches the keys again, and nothing else.
		_ = c.cache.write(keysFile, savedFile{Keys: string(data)})
	}
	return keys, nil
}

func (c *Client) retrying(ctx context.Context, method, path string, header http.Header, body []byte, limit int64) ([]byte, error) {
	for retry := 0; ; retry++ {
		reply, err := c.transport.send(ctx, method, path, header, body, limit)
		if err == nil && reply.status == http.StatusOK {
			return reply.body, nil
		}
		if err == nil {
			err = refusal(reply)
		}
		var failure *noAnswer
		if !errors.As(err, &failure) || !failure.isTemporary || retry == tries-1 {
			return nil, err
		}
		jitter := time.Duration((0.5 + rand.Float64()/2) * float64(100*time.Millisecond<<retry))
		delay := max(jitter, failure.retryAfter)
		if deadline, ok := ctx.Deadline(); ok && time.Until(deadline) <= delay {
			return nil, err
		}
		select {
		case <-time.After(delay):
		case <-ctx.Done():
			return nil, err
		}
	}
}

func (c *Client) header(contentType string) http.Header {
	header := http.Header{"Accept": {"application/json"}, "User-Agent": {"license-metering-go/" + Version}}
	if contentType != "" {
		header.Set("Content-Type", contentType)
	}
	if c.options.Token != "" {
		header.Set("Authorization", "Bearer "+c.options.Token)
	}
	return header
}

func (c *Client) sendUsage(ctx context.Context, events []usageEvent) (rejected int, err error) {
	ctx, cancel := context.WithTimeout(ctx, c.options.TotalTimeout)
	defer cancel()
	body, err := json.Marshal(events)
	if err != nil {
		return 0, err
	}
	header := c.header("application/cloudevents-batch+json")
	reply, err := c.transport.send(ctx, http.MethodPost, "/v1/events", header, body, maximumSetBytes)
	if err != nil {
		return 0, err
	}
	if reply.status != http.StatusAccepted {
		return 0, refusal(reply)
	}
	var accepted struct {
		Rejected []struct{ Index int } `json:"rejected"`
	}
	if json.Unmarshal(reply.body, &accepted) != nil || len(accepted.Rejected) > len(events) {
		return 0, &noAnswer{problem: "untrusted", isTemporary: true}
	}
	return len(accepted.Rejected), nil
}

func (c *Client) verifySaved(signature, licenseKey string, domain DomainName) *Verdict {
	keys := c.knownKeys()
	if keys == nil {
		return nil
	}
	// What was changed is not known.
	verdict, _ := verifySaved(signature, keys, licenseKey, domain)
	return verdict
}

func (c *Client) savedTime(signature string) int64 {
	keys := c.knownKeys()
	if keys == nil {
		return 0
	}
	return signedTime(signature, keys)
}
