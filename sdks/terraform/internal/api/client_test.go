package api

import (
	"context"
	"encoding/pem"
	"errors"
	"io"
	"log"
	"net/http"
	"net/http/httptest"
	"os"
	"reflect"
	"runtime"
	"strings"
	"testing"
	"time"
)

type seen struct{ method, path, key, body, match string }

// serving answers with each of the statuses in turn, and keeps what it was asked.
func serving(t *testing.T, answers ...func(http.ResponseWriter)) (*Client, *[]seen, *[]time.Duration) {
	t.Helper()
	var requests []seen
	var waits []time.Duration
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		requests = append(requests, seen{r.Method, r.URL.EscapedPath(), r.Header.Get("Idempotency-Key"), string(body), r.Header.Get("If-Match")})
		w.Header().Set("Content-Type", "application/json")
		answers[min(len(requests), len(answers))-1](w)
	}))
	t.Cleanup(server.Close)
	client := New(server.URL, "mtr_secret", "test")
	client.wait = func(_ context.Context, pause time.Duration) error {
		waits = append(waits, pause)
		return nil
	}
	client.Log = func(line string) {
		if strings.Contains(line, "mtr_secret") {
			t.Errorf("the log has the token: %s", line)
		}
	}
	return client, &requests, &waits
}

func status(code int, headers ...string) func(http.ResponseWriter) {
	return func(w http.ResponseWriter) {
		for i := 0; i+1 < len(headers); i += 2 {
			w.Header().Set(headers[i], headers[i+1])
		}
		w.WriteHeader(code)
		_, _ = io.WriteString(w, `{"code":"busy","detail":"Come later.","id":9007199254740993}`)
	}
}

func cut(w http.ResponseWriter) {
	w.Header().Set("Content-Length", "100")
	_, _ = io.WriteString(w, "{")
}

func TestARetryCarriesTheSameKey(t *testing.T) {
	client, requests, waits := serving(t, status(503, "Retry-After", "7"), cut, status(201))
	answer, err := client.Do(context.Background(), Request{Method: "POST", Path: "/v1/licenses", Body: map[string]any{"a": "<b>"}})
	if err != nil || answer.Members["id"] == nil {
		t.Fatal(err)
	}
	if len(*requests) != 3 || (*requests)[0] != (*requests)[2] || len((*requests)[0].key) != 32 || (*requests)[0].body != `{"a":"<b>"}` {
		t.Errorf("%+v", *requests)
	}
	if !reflect.DeepEqual(*waits, []time.Duration{7 * time.Second, time.Second}) {
		t.Errorf("%v", *waits)
	}
}

func TestWhatASecondTimeWouldRefuseIsSentOnce(t *testing.T) {
	for _, answer := range []func(http.ResponseWriter){cut, status(502), status(504), status(409), status(500)} {
		client, requests, _ := serving(t, answer)
		if _, err := client.Do(context.Background(), Request{Method: "PATCH", Path: "/x", IfMatch: `"1"`}); err == nil || len(*requests) != 1 {
			t.Errorf("%v, %+v", err, *requests)
		}
	}
	client, requests, _ := serving(t, status(503))
	if _, err := client.Do(context.Background(), Request{Method: "PATCH", Path: "/x", IfMatch: `"1"`}); err == nil || len(*requests) != maximumAttempts {
		t.Errorf("%v, %+v", err, *requests)
	}
}

func TestTheAPIsWordsAreKept(t *testing.T) {
	client, _, _ := serving(t, func(w http.ResponseWriter) {
		w.Header().Set("X-Request-Id", "r1")
		w.WriteHeader(400)
		_, _ = io.WriteString(w, `{"code":"bad_request","detail":"Domains: wrong.","errors":[{"parameter":"domains","detail":"Wrong."}]}`)
	})
	_, err := client.Do(context.Background(), Request{Method: "GET", Path: "/x"})
	var problem *Error
	if !errors.As(err, &problem) || err.Error() != "HTTP 400 bad_request: Domains: wrong." || problem.RequestID != "r1" ||
		!reflect.DeepEqual(problem.Blames, []Blame{{"domains", "Wrong."}}) {
		t.Errorf("%+v", err)
	}
}

func TestOtherServersAreNotTakenForTheAPI(t *testing.T) {
	page := func(code int, body string, headers ...string) func(http.ResponseWriter) {
		return func(w http.ResponseWriter) {
			for i := 0; i+1 < len(headers); i += 2 {
				w.Header().Set(headers[i], headers[i+1])
			}
			w.WriteHeader(code)
			_, _ = io.WriteString(w, body)
		}
	}
	for name, answer := range map[string]func(http.ResponseWriter){
		"Does the URL lead to the metering API?": page(200, "<html>"),
		"is no JSON object":                      page(200, "[1]"),
		"Does the URL lead to it?":               page(403, "<html>"),
		"redirect, which is not followed":        page(302, "", "Location", "https://elsewhere.example/"),
		"larger than 16 MiB":                     page(200, strings.Repeat(" ", maximumAnswer+1)),
	} {
		client, requests, _ := serving(t, answer)
		_, err := client.Do(context.Background(), Request{Method: "GET", Path: "/x"})
		if err == nil || !strings.Contains(err.Error(), name) || len(*requests) != 1 {
			t.Errorf("%v after %d requests, not %s", err, len(*requests), name)
		}
	}
}

// The only test here that verifies certificates: Go reads SSL_CERT_FILE once.
func TestAnAuthorityOfOnesOwnIsTrustedByItsFile(t *testing.T) {
	if runtime.GOOS != "linux" {
		t.Skip("SSL_CERT_FILE is read on Linux")
	}
	server := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { status(200)(w) }))
	server.Config.ErrorLog = log.New(io.Discard, "", 0)
	server.StartTLS()
	t.Cleanup(server.Close)
	file := t.TempDir() + "/authority.pem"
	block := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: server.Certificate().Raw})
	if err := os.WriteFile(file, block, 0o600); err != nil {
		t.Fatal(err)
	}
	t.Setenv("SSL_CERT_FILE", file)
	if _, err := New(server.URL, "", "test").Do(context.Background(), Request{Method: "GET", Path: "/x"}); err != nil {
		t.Error(err)
	}
	// The certificate names example.com and not this host.
	other := New(strings.Replace(server.URL, "127.0.0.1", "localhost", 1), "", "test")
	waited := false
	other.wait = func(context.Context, time.Duration) error { waited = true; return nil }
	if _, err := other.Do(context.Background(), Request{Method: "GET", Path: "/x"}); err == nil || waited {
		t.Errorf("%v, asked again: %v", err, waited)
	}
}

func TestAStopEndsTheWaiting(t *testing.T) {
	client, requests, _ := serving(t, status(503, "Retry-After", "3600"))
	client.wait = wait
	ctx, cancel := context.WithCancel(context.Background())
	client.Log = func(string) { cancel() }
	if _, err := client.Do(ctx, Request{Method: "GET", Path: "/x"}); err == nil || len(*requests) != 1 {
		t.Errorf("%v after %d requests", err, len(*requests))
	}
}

func TestAStopLetsAChangeEnd(t *testing.T) {
	ctx, cancel := context.WithCancel(context.Background())
	client, _, _ := serving(t, func(w http.ResponseWriter) {
		cancel()
		status(201)(w)
	})
	if answer, err := client.Do(ctx, Request{Method: "POST", Path: "/x"}); err != nil || answer.Members["code"] != "busy" {
		t.Errorf("%+v, %v", answer, err)
	}
}

func TestOnlyTheAPISaysThatSomethingIsGone(t *testing.T) {
	for body, wanted := range map[string]bool{`{"code":"not_found","detail":"There is no such license."}`: true, "<html>": false, `{"code":"no_route"}`: false} {
		client, _, _ := serving(t, func(w http.ResponseWriter) {
			w.WriteHeader(404)
			_, _ = io.WriteString(w, body)
		})
		if _, err := client.Do(context.Background(), Request{Method: "GET", Path: "/x"}); IsNotFound(err) != wanted {
			t.Errorf("%s: %v", body, err)
		}
	}
}

func TestAnIdIsOneSegment(t *testing.T) {
	if got := Segment("a/b?c..%ü"); got != "a%2Fb%3Fc%2E%2E%25%C3%BC" {
		t.Error(got)
	}
	client, requests, _ := serving(t, status(200))
	if _, err := client.Do(context.Background(), Request{Method: "GET", Path: "/v1/licenses/" + Segment("../x")}); err != nil {
		t.Fatal(err)
	}
	if (*requests)[0].path != "/v1/licenses/%2E%2E%2Fx" {
		t.Errorf("%+v", *requests)
	}
}
