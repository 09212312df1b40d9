package licensemetering

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"regexp"
	"strings"
	"sync"
	"time"
	"unicode/utf8"
)

const (
	usageBatch        = 500
	usageInterval     = time.Second
	usageMaximumDelay = time.Minute
	maximumQuantity   = 1_000_000_000
)

var (
	meterPattern = regexp.MustCompile(`^[a-z][a-z0-9_]{0,63}$`)
	// The service will never take such a batch, however often it comes.
	refusedForGood = map[string]bool{"http_400": true, "http_404": true, "http_413": true, "http_415": true, "http_422": true}
)

// Usage is what was used.
type Usage struct {
	Meter    string
	Quantity int64
	// LicenseID is whose it is; empty: the client's, where its license key is an id.
	LicenseID string
	// Domain and Feature may be empty.
	Domain, Feature string
}

// UsageStatistics says what became of the usage that was recorded.
type UsageStatistics struct {
	Accepted int64 `json:"accepted"`
	Sent     int64 `json:"sent"`
	Rejected int64 `json:"rejected"`
	Dropped  int64 `json:"dropped"`
	Pending  int64 `json:"pending"`
}

type usageEvent struct {
	SpecVersion string         `json:"specversion"`
	ID          string         `json:"id"`
	Source      string         `json:"source"`
	Type        string         `json:"type"`
	Subject     string         `json:"subject"`
	Time        string         `json:"time"`
	Data        map[string]any `json:"data"`
}

// usageQueue sends events in batches; a retry has the same ids, so that each counts once.
type usageQueue struct {
	send    func(ctx context.Context, events []usageEvent) (rejected int, err error)
	maximum int
	report  func(string)
	source  string

	lock       sync.Mutex
	events     []usageEvent
	statistics UsageStatistics
	failures   int
	isRunning  bool
	isClosed   bool
	// sending is closed when the delivery that is on its way has ended; nil: there is none.
	sending chan struct{}
	wake    chan struct{}
	stop    chan struct{}
}

func newUsageQueue(maximum int, report func(string), send func(context.Context, []usageEvent) (int, error)) *usageQueue {
	return &usageQueue{
		send: send, maximum: maximum, report: report, source: "sdk/go/" + randomHex(),
		wake: make(chan struct{}, 1), stop: make(chan struct{}),
	}
}

func (q *usageQueue) record(usage Usage, now time.Time) bool {
	isGood := isPlain(usage.LicenseID, 512) && meterPattern.MatchString(usage.Meter) &&
		usage.Quantity >= 0 && usage.Quantity <= maximumQuantity
	for _, text := range []string{usage.Domain, usage.Feature} {
		isGood = isGood && len(text) <= 1024 && utf8.ValidString(text) && !strings.Contains(text, "\x00")
	}
	q.lock.Lock()
	defer q.lock.Unlock()
	if !isGood || q.isClosed || len(q.events) >= q.maximum {
		q.statistics.Dropped++
		if isGood {
			q.report("usage_dropped")
		} else {
			q.report("usage_invalid")
		}
		return false
	}
	data := map[string]any{"meter": usage.Meter, "quantity": usage.Quantity}
	if usage.Domain != "" {
		data["domain"] = usage.Domain
	}
	if usage.Feature != "" {
		data["feature"] = usage.Feature
	}
	q.events = append(q.events, usageEvent{
		"1.0", uuid(), q.source, "license.usage.recorded", usage.LicenseID, now.UTC().Format("2006-01-02T15:04:05.000Z"), data,
	})
	q.statistics.Accepted++
	if !q.isRunning {
		q.isRunning = true
		go q.run()
	}
	if len(q.events) == usageBatch {
		select {
		case q.wake <- struct{}{}:
		default:
		}
	}
	return true
}

func (q *usageQueue) current() UsageStatistics {
	q.lock.Lock()
	defer q.lock.Unlock()
	statistics := q.statistics
	statistics.Pending = int64(len(q.events))
	return statistics
}

func (q *usageQueue) run() {
	for {
		q.lock.Lock()
		delay := min(usageInterval<<q.failures, usageMaximumDelay)
		q.lock.Unlock()
		timer := time.NewTimer(delay)
		select {
		case <-q.stop:
			timer.Stop()
			return
		case <-q.wake:
			timer.Stop()
		case <-timer.C:
		}
		q.deliver(context.Background())
	}
}

// flush sends what is queued now, until the context ends.
func (q *usageQueue) flush(ctx context.Context) bool {
	for ctx.Err() == nil {
		if q.current().Pending == 0 {
			return true
		}
		if !q.deliver(ctx) {
			select {
			case <-ctx.Done():
			case <-time.After(200 * time.Millisecond):
			}
		}
	}
	return q.current().Pending == 0
}

func (q *usageQueue) close(ctx context.Context) {
	q.flush(ctx)
	q.lock.Lock()
	defer q.lock.Unlock()
	if q.isClosed {
		return
	}
	q.isClosed = true
	close(q.stop)
	if len(q.events) > 0 {
		q.statistics.Dropped += int64(len(q.events))
		q.events = nil
		q.report("usage_dropped")
	}
}

// deliver sends one batch, whose events stay in the queue until it is known what became of them. One at a time; whether
// that is known.
func (q *usageQueue) deliver(ctx context.Context) bool {
	q.lock.Lock()
	if q.sending != nil {
		ended := q.sending
		q.lock.Unlock()
		select {
		case <-ended:
		case <-ctx.Done():
		}
		return true
	}
	batch := q.events[:min(len(q.events), usageBatch):min(len(q.events), usageBatch)]
	if len(batch) == 0 {
		q.lock.Unlock()
		return true
	}
	q.sending = make(chan struct{})
	q.lock.Unlock()
	rejected, err := q.send(ctx, batch)
	q.lock.Lock()
	defer q.lock.Unlock()
	close(q.sending)
	q.sending = nil
	return q.settle(len(batch), rejected, err)
}

func (q *usageQueue) settle(count, rejected int, err error) bool {
	var failure *noAnswer
	if err != nil && !(errors.As(err, &failure) && refusedForGood[failure.problem]) {
		q.failures = min(q.failures+1, 6)
		q.report(err.Error())
		return false
	}
	q.failures = 0
	if q.isClosed {
		return true // It was counted as dropped, and may count all the same.
	}
	q.events = append([]usageEvent(nil), q.events[count:]...)
	if err != nil {
		q.statistics.Dropped += int64(count)
		q.report("usage_dropped")
		return true
	}
	q.statistics.Sent += int64(count - rejected)
	q.statistics.Rejected += int64(rejected)
	if rejected > 0 {
		q.report("usage_rejected")
	}
	return true
}

func uuid() string {
	bytes := make([]byte, 16)
	if _, err := rand.Read(bytes); err != nil {
		panic(err) // The system's randomness has no error that could be handled.
	}
	bytes[6], bytes[8] = bytes[6]&0x0F|0x40, bytes[8]&0x3F|0x80
	return fmt.Sprintf("%x-%x-%x-%x-%x", bytes[:4], bytes[4:6], bytes[6:8], bytes[8:10], bytes[10:])
}
