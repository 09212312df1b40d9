// Package tfplugin serves a Terraform provider: the handshake of Terraform's plugins, gRPC over HTTP/2 with mutual TLS, and protocol 6.
package tfplugin

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log"
	"math/big"
	"net"
	"net/http"
	"os"
	"os/signal"
	"slices"
	"strings"
	"sync"
	"time"
)

// What Terraform sets so that a plugin knows who started it. It is no secret.
const (
	cookieName  = "TF_PLUGIN_MAGIC_COOKIE"
	cookieValue = "d602bf8f470bc67ca7faa0386276bbdd4330efaf76d1a219cb4d6991ca9872b2"
)

// ErrNotTerraform says that a person started the program.
var ErrNotTerraform = errors.New("this is a provider of Terraform's: Terraform starts it")

// Serve answers Terraform until it wants the process to end.
func Serve(provider Provider) error {
	if os.Getenv(cookieName) != cookieValue {
		return ErrNotTerraform
	}
	versions := strings.Split(os.Getenv("PLUGIN_PROTOCOL_VERSIONS"), ",")
	if !slices.Contains(versions, "6") {
		return errors.New("this provider needs Terraform 1.0 or newer (plugin protocol 6)")
	}
	// Terraform ends its plugins itself; an interrupt from the terminal reaches both.
	signal.Ignore(os.Interrupt)
	go exitWithParent(os.Getppid())

	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	return serve(provider, listener, []byte(os.Getenv("PLUGIN_CLIENT_CERT")), os.Stdout)
}

// exitWithParent ends the process when Terraform died without a word.
func exitWithParent(parent int) {
	for range time.Tick(time.Second) {
		if os.Getppid() != parent {
			os.Exit(1)
		}
	}
}

// serve answers the client that has the certificate, whom it tells on `output` where.
func serve(provider Provider, listener net.Listener, clientCertificate []byte, output io.Writer) error {
	clients := x509.NewCertPool()
	if !clients.AppendCertsFromPEM(clientCertificate) {
		return errors.New("Terraform named no certificate, and without one nobody is answered")
	}
	certificate, err := newCertificate()
	if err != nil {
		return err
	}
	done := make(chan struct{})
	end := sync.OnceFunc(func() { close(done) })
	server := &http.Server{
		Handler: &server{service: &service{provider: provider, schemas: provider.Schemas()}, done: done, end: end},
		TLSConfig: &tls.Config{
			Certificates: []tls.Certificate{certificate},
			ClientAuth:   tls.RequireAndVerifyClientCert,
			ClientCAs:    clients,
			MinVersion:   tls.VersionTLS12,
		},
		ReadHeaderTimeout: 30 * time.Second,
		ErrorLog:          log.New(logWriter{}, "", 0),
	}
	_, err = fmt.Fprintf(output, "1|6|tcp|%s|grpc|%s\n", listener.Addr(),
		base64.RawStdEncoding.EncodeToString(certificate.Certificate[0]))
	if err != nil {
		return err
	}
	failed := make(chan error, 1)
	go func() { failed <- server.ServeTLS(listener, "", "") }()
	select {
	case err := <-failed:
		return err
	case <-done:
		ctx, cancel := context.WithTimeout(context.Background(), time.Second)
		defer cancel()
		// What has not ended by then is cut off: Terraform waits for nothing any more.
		_ = server.Shutdown(ctx)
		return nil
	}
}

// newCertificate is one that signs itself, for the time of the process.
func newCertificate() (tls.Certificate, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return tls.Certificate{}, err
	}
	serial, err := rand.Int(rand.Reader, new(big.Int).Lsh(big.NewInt(1), 120))
	if err != nil {
		return tls.Certificate{}, err
	}
	template := &x509.Certificate{
		SerialNumber:          serial,
		Subject:               pkix.Name{CommonName: "localhost"},
		DNSNames:              []string{"localhost"},
		NotBefore:             time.Now().Add(-time.Minute),
		NotAfter:              time.Now().AddDate(1, 0, 0),
		KeyUsage:              x509.KeyUsageDigitalSignature | x509.KeyUsageKeyEncipherment | x509.KeyUsageKeyAgreement | x509.KeyUsageCertSign,
		ExtKeyUsage:           []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth, x509.ExtKeyUsageServerAuth},
		IsCA:                  true,
		BasicConstraintsValid: true,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}, err
}

// logLine writes one line of Terraform's plugin log, which people see with TF_LOG.
func logLine(level, message string) {
	line, err := json.Marshal(map[string]string{
		"@level": level, "@message": message, "@module": "licensemetering",
		"@timestamp": time.Now().UTC().Format("2006-01-02T15:04:05.000000Z07:00"),
	})
	if err == nil {
		// Nobody could be told that the log cannot be written.
		_, _ = os.Stderr.Write(append(line, '\n'))
	}
}

// Debug writes a line for people who look for a fault. It must hold no secret.
func Debug(message string) { logLine("debug", message) }

type logWriter struct{}

func (logWriter) Write(line []byte) (int, error) {
	logLine("debug", strings.TrimSpace(string(line)))
	return len(line), nil
}
