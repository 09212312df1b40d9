// Package licensetest has a client for tests: no network, no clock.
package licensetest

import (
	"context"
	"sync"

	licensemetering "license-metering.example/go"
)

// Client stands in for licensemetering.Client. It answers Result and remembers what it was asked.
type Client struct {
	Result licensemetering.Result

	lock     sync.Mutex
	asked    []string
	recorded []licensemetering.Usage
}

// Valid is a client that says yes.
func Valid(features ...string) *Client {
	set := licensemetering.Features{}
	for _, feature := range features {
		set[feature] = struct{}{}
	}
	return &Client{Result: licensemetering.Result{Valid: true, Code: "valid", Source: "online", Features: set}}
}

// Denied is a client that says no.
func Denied(code string) *Client {
	return &Client{Result: licensemetering.Result{Code: code, Source: "online", Features: licensemetering.Features{}}}
}

// Validate gives Result.
func (c *Client) Validate(_ context.Context, domain string) licensemetering.Result {
	c.lock.Lock()
	defer c.lock.Unlock()
	c.asked = append(c.asked, domain)
	return c.Result
}

// Record is kept.
func (c *Client) Record(usage licensemetering.Usage) bool {
	c.lock.Lock()
	defer c.lock.Unlock()
	c.recorded = append(c.recorded, usage)
	return true
}

// Asked are the domains so far.
func (c *Client) Asked() []string {
	c.lock.Lock()
	defer c.lock.Unlock()
	return append([]string(nil), c.asked...)
}

// Recorded is the usage so far.
func (c *Client) Recorded() []licensemetering.Usage {
	c.lock.Lock()
	defer c.lock.Unlock()
	return append([]licensemetering.Usage(nil), c.recorded...)
}
