package tfplugin

import (
	"bufio"
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/base64"
	"encoding/binary"
	"encoding/pem"
	"io"
	"net"
	"net/http"
	"net/url"
	"strings"
	"testing"
	"time"

	"license-metering.example/terraform-provider-licensemetering/internal/cty"
	"license-metering.example/terraform-provider-licensemetering/internal/protobuf"
)

// echo is a provider with one resource, whose plan is its configuration.
type echo struct{ stopped chan struct{} }

func (echo) Schemas() Schemas {
	schema := Schema{Description: "A thing.", Attributes: []Attribute{{Name: "name", Type: cty.String, Required: true}}}
	return Schemas{Resources: map[string]Schema{"echo_thing": schema}, DataSources: map[string]Schema{"echo_thing": schema}}
}
func (echo) ValidateProvider(Object) Diagnostics                   { return nil }
func (echo) Configure(context.Context, string, Object) Diagnostics { return nil }
func (echo) ValidateResource(_ string, config Object) Diagnostics {
	if config["name"] == "panic" {
		panic("no name")
	}
	return Diagnostics{{Severity: Error, Summary: "wrong", Detail: "why", Path: []string{"name", "key"}}}
}
func (echo) Read(_ context.Context, _ string, state State) (State, Diagnostics) { return state, nil }
func (echo) Plan(_ context.Context, _ string, prior State, config Object, _ bool) (Plan, Diagnostics) {
	return Plan{State: State{config, prior.Private}, Replace: []string{"name"}}, nil
}
func (echo) Apply(_ context.Context, _ string, _ Object, planned State) (State, Diagnostics) {
	return planned, nil
}
func (echo) Import(_ context.Context, _, id string) (State, Diagnostics) {
	return State{Object: Object{"name": id}}, nil
}
func (echo) ReadDataSource(_ context.Context, _ string, config Object) (Object, Diagnostics) {
	return config, nil
}
func (e echo) Stop() { close(e.stopped) }

// client is Terraform's side.
type client struct {
	http *http.Client
	url  string
	// ended has what serve returned.
	ended chan error
	// stopped is closed by Stop.
	stopped chan struct{}
}

func start(t *testing.T) client {
	t.Helper()
	certificate, err := newCertificate()
	if err != nil {
		t.Fatal(err)
	}
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	reader, writer := io.Pipe()
	result := client{ended: make(chan error, 1), stopped: make(chan struct{})}
	block := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: certificate.Certificate[0]})
	go func() { result.ended <- serve(echo{result.stopped}, listener, block, writer) }()
	line, err := bufio.NewReader(reader).ReadString('\n')
	if err != nil {
		t.Fatal(err)
	}
	parts := strings.Split(strings.TrimSpace(line), "|")
	if len(parts) != 6 || strings.Join(parts[:3], "|") != "1|6|tcp" || parts[4] != "grpc" {
		t.Fatalf("the handshake is %s", line)
	}
	der, err := base64.RawStdEncoding.DecodeString(parts[5])
	if err != nil {
		t.Fatal(err)
	}
	server, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	roots := x509.NewCertPool()
	roots.AddCert(server)
	result.url = "https://" + parts[3]
	result.http = &http.Client{Transport: &http.Transport{ForceAttemptHTTP2: true, TLSClientConfig: &tls.Config{
		Certificates: []tls.Certificate{certificate}, RootCAs: roots, ServerName: "localhost",
	}}, Timeout: 10 * time.Second}
	t.Cleanup(func() { result.call(t, "/plugin.GRPCController/Shutdown", nil) })
	return result
}

// call returns the answer's message and its gRPC status.
func (c client) call(t *testing.T, path string, message []byte) ([]byte, string) {
	t.Helper()
	return c.send(t, path, append(binary.BigEndian.AppendUint32([]byte{0}, uint32(len(message))), message...))
}

func (c client) send(t *testing.T, path string, body []byte) ([]byte, string) {
	t.Helper()
	request, err := http.NewRequest(http.MethodPost, c.url+path, bytes.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	request.Header.Set("Content-Type", "application/grpc")
	request.Header.Set("TE", "trailers")
	response, err := c.http.Do(request)
	if err != nil {
		// The one that ended the server in the test itself has no answer here.
		return nil, err.Error()
	}
	defer response.Body.Close()
	data, err := io.ReadAll(response.Body)
	if err != nil {
		t.Fatal(err)
	}
	if len(data) >= 5 {
		data = data[5:]
	}
	status := response.Trailer.Get("Grpc-Status")
	if text := response.Trailer.Get("Grpc-Message"); text != "" {
		text, _ = url.PathUnescape(text)
		status += " " + text
	}
	return data, status
}

func field(t *testing.T, message []byte, numbers ...int) []byte {
	t.Helper()
	for _, number := range numbers {
		request, err := decodeRequest(message)
		if err != nil {
			t.Fatal(err)
		}
		message = request[number].Bytes
	}
	return message
}

func resourceRequest(values map[int]any) []byte {
	var message protobuf.Message
	message.String(1, "echo_thing")
	for number, value := range values {
		switch value := value.(type) {
		case []byte:
			message.Sub(number, value)
		default:
			data, err := dynamic(value)
			if err != nil {
				panic(err)
			}
			message.Sub(number, data)
		}
	}
	return message
}

func TestTerraformIsAnswered(t *testing.T) {
	c := start(t)
	schema, status := c.call(t, "/tfplugin6.Provider/GetProviderSchema", nil)
	if status != "0" || string(field(t, schema, 2, 2, 2, 2, 2)) != `"string"` {
		t.Errorf("the schema is %x, status %s", schema, status)
	}
	object := Object{"name": "ünïcode"}
	plan, status := c.call(t, "/tfplugin6.Provider/PlanResourceChange", resourceRequest(map[int]any{3: object, 4: object, 5: []byte("kept")}))
	value, err := cty.DecodeMessagePack(Schema{Attributes: []Attribute{{Name: "name", Type: cty.String}}}.Type(), field(t, plan, 1, 1))
	if err != nil || status != "0" || value.(Object)["name"] != "ünïcode" {
		t.Errorf("the plan is %v (%v), status %s", value, err, status)
	}
	if string(field(t, plan, 3)) != "kept" || string(field(t, plan, 2, 1, 1)) != "name" {
		t.Errorf("the plan's rest is %x", plan)
	}
	raw := protobuf.Message{}
	raw.String(1, `{"name":"old","gone":1}`)
	state, status := c.call(t, "/tfplugin6.Provider/UpgradeResourceState", resourceRequest(map[int]any{3: []byte(raw)}))
	if status != "0" || !bytes.Contains(state, []byte("old")) || bytes.Contains(state, []byte("gone")) {
		t.Errorf("the upgraded state is %x, status %s", state, status)
	}
	wrong, _ := c.call(t, "/tfplugin6.Provider/ValidateResourceConfig", resourceRequest(map[int]any{2: object}))
	if string(field(t, wrong, 1, 2)) != "wrong" || string(field(t, wrong, 1, 4, 1, 2)) != "key" {
		t.Errorf("the diagnostic is %x", wrong)
	}
	if answer, status := c.call(t, "/grpc.health.v1.Health/Check", nil); status != "0" || len(answer) != 2 {
		t.Errorf("the health is %x, status %s", answer, status)
	}
	if _, status := c.call(t, "/tfplugin6.Provider/StopProvider", nil); status != "0" {
		t.Errorf("stopping: %s", status)
	}
	<-c.stopped
}

func TestWhatIsWrongIsAnsweredWithAStatus(t *testing.T) {
	c := start(t)
	for path, wanted := range map[string]string{
		"/tfplugin6.Provider/GetFunctions": "12 /tfplugin6.Provider/GetFunctions is not known",
		"/GetProviderSchema":               "12 /GetProviderSchema is not known",
		"/tfplugin6.Provider/ReadResource": "3 there is no resource ",
	} {
		if _, status := c.call(t, path, nil); status != wanted {
			t.Errorf("%s: %s, not %s", path, status, wanted)
		}
	}
	for name, body := range map[string][]byte{
		"no message": {}, "cut": {0, 0, 0, 0, 9, 1}, "compressed": {1, 0, 0, 0, 0}, "too large": {0, 255, 255, 255, 255}, "malformed": {0, 0, 0, 0, 1, 8},
	} {
		if _, status := c.send(t, "/tfplugin6.Provider/GetProviderSchema", body); status == "0" || status == "" {
			t.Errorf("%s: status %q", name, status)
		}
	}
	_, status := c.call(t, "/tfplugin6.Provider/ValidateResourceConfig", resourceRequest(map[int]any{2: Object{"name": "panic"}}))
	if status != "13 the provider failed: no name" {
		t.Errorf("a fault of the provider's: %s", status)
	}
	if _, status := c.call(t, "/tfplugin6.Provider/GetProviderSchema", nil); status != "0" {
		t.Errorf("after the faults: %s", status)
	}
}

func TestNobodyElseIsAnswered(t *testing.T) {
	c := start(t)
	other, err := newCertificate()
	if err != nil {
		t.Fatal(err)
	}
	transport := c.http.Transport.(*http.Transport).Clone()
	transport.TLSClientConfig.Certificates = []tls.Certificate{other}
	if _, err := (&http.Client{Transport: transport}).Get(c.url); err == nil {
		t.Error("a client with another certificate was answered")
	}
	if err := serve(echo{}, nil, []byte("none"), io.Discard); err == nil {
		t.Error("without a certificate of Terraform's somebody would be answered")
	}
}

func TestShutdownEndsTheProcess(t *testing.T) {
	c := start(t)
	if _, status := c.call(t, "/plugin.GRPCController/Shutdown", nil); status != "0" {
		t.Errorf("status %s", status)
	}
	if err := <-c.ended; err != nil {
		t.Error(err)
	}
}
