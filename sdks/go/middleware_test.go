package licensemetering_test

import (
	"context"
	"io"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"sync"
	"testing"
	"time"

	licensemetering "license-metering.example/go"
	"license-metering.example/go/licensetest"
)

func TestAServerLetsRequestsThroughWhileTheLicenseHolds(t *testing.T) {
	fake := licensetest.Valid("analytics")
	options := licensemetering.MiddlewareOptions{TrustedProxies: []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8")}}
	handler := http.HandlerFunc(func(writer http.ResponseWriter, request *http.Request) {
		if licensemetering.FromContext(request.Context()).Features.Has("analytics") {
			_, _ = io.WriteString(writer, "analytics")
		}
	})
	server := httptest.NewServer(licensemetering.Middleware(fake, options)(handler))
	defer server.Close()
	request, _ := http.NewRequest(http.MethodGet, server.URL, nil)
	request.Header.Set("X-Forwarded-Host", "evil.example, shop.example")
	response, err := server.Client().Do(request)
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	body, _ := io.ReadAll(response.Body)
	if asked := fake.Asked(); string(body) != "analytics" || len(asked) != 1 || asked[0] != "shop.example" {
		t.Fatalf("%q, asked about %q", body, asked)
	}
}

func TestWithoutTheMiddlewareThereIsNoLicense(t *testing.T) {
	if licensemetering.FromContext(context.Background()).Valid {
		t.Fatal("valid")
	}
}

func TestManyGoroutinesLoseNoUsage(t *testing.T) {
	var lock sync.Mutex
	requests := 0
	server := httptest.NewServer(http.HandlerFunc(func(writer http.ResponseWriter, _ *http.Request) {
		lock.Lock()
		requests++
		lock.Unlock()
		writer.WriteHeader(http.StatusAccepted)
		_, _ = io.WriteString(writer, `{"accepted":1,"rejected":[]}`)
	}))
	defer server.Close()
	client, err := licensemetering.New(licensemetering.Options{URL: server.URL, LicenseKey: "lic_1", Token: "t"})
	if err != nil {
		t.Fatal(err)
	}
	var group sync.WaitGroup
	for range 8 {
		group.Add(1)
		go func() {
			defer group.Done()
			for range 500 {
				client.Record(licensemetering.Usage{Meter: "exports", Quantity: 1})
			}
		}()
	}
	group.Wait()
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	defer cancel()
	if !client.Flush(ctx) {
		t.Fatal("not flushed")
	}
	statistics := client.UsageStatistics()
	if statistics.Sent != 4000 || statistics.Dropped != 0 || requests > 40 {
		t.Fatalf("%+v in %d requests", statistics, requests)
	}
	client.Close(ctx)
	if client.Record(licensemetering.Usage{Meter: "exports", Quantity: 1}) {
		t.Fatal("taken after the end")
	}
}
