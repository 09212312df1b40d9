package tfplugin

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net/http"
	"runtime/debug"
	"strconv"
	"strings"
)

// A message of Terraform's is a resource's state, or a plan's. Larger ones are refused before they are read.
const maximumMessageBytes = 64 << 20

// code is a status of gRPC's.
type code int

const (
	ok                code = 0
	invalidArgument   code = 3
	resourceExhausted code = 8
	unimplemented     code = 12
	internalError     code = 13
)

// statusError is an answer of gRPC's that is an error.
type statusError struct {
	code    code
	message string
}

func (e statusError) Error() string { return e.message }

// server answers gRPC requests over HTTP/2.
type server struct {
	service *service
	// done is closed when Terraform wants the process to end.
	done chan struct{}
	end  func()
}

const (
	providerPath   = "/tfplugin6.Provider/"
	brokerPath     = "/plugin.GRPCBroker/StartStream"
	outputPath     = "/plugin.GRPCStdio/StreamStdio"
	controllerPath = "/plugin.GRPCController/Shutdown"
	healthPath     = "/grpc.health.v1.Health/Check"
)

func (s *server) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if r.ProtoMajor != 2 || r.Method != http.MethodPost ||
		!strings.HasPrefix(r.Header.Get("Content-Type"), "application/grpc") {
		http.Error(w, "this is a plugin of Terraform's: it speaks gRPC", http.StatusUnsupportedMediaType)
		return
	}
	w.Header().Set("Content-Type", "application/grpc")
	if r.URL.Path == brokerPath || r.URL.Path == outputPath {
		s.hold(w, r)
		return
	}
	message, err := s.answer(r)
	if err == nil {
		frame := binary.BigEndian.AppendUint32([]byte{0}, uint32(len(message)))
		_, err = w.Write(append(frame, message...))
	}
	finish(w, err)
	if r.URL.Path == controllerPath {
		s.end()
	}
}

// hold keeps a stream open on which nothing is sent: the plugin opens no connections of its own and prints nothing.
func (s *server) hold(w http.ResponseWriter, r *http.Request) {
	w.WriteHeader(http.StatusOK)
	if flusher, can := w.(http.Flusher); can {
		flusher.Flush()
	}
	select {
	case <-r.Context().Done():
	case <-s.done:
	}
	finish(w, nil)
}

// finish sends how a request ended.
func finish(w http.ResponseWriter, err error) {
	status := statusError{code: ok}
	if err != nil && !errors.As(err, &status) {
		status = statusError{internalError, err.Error()}
	}
	w.Header().Set(http.TrailerPrefix+"Grpc-Status", strconv.Itoa(int(status.code)))
	if status.message != "" {
		w.Header().Set(http.TrailerPrefix+"Grpc-Message", percentEncoded(status.message))
	}
}

// answer answers a request that has one message and wants one.
func (s *server) answer(r *http.Request) (message []byte, err error) {
	defer func() {
		if problem := recover(); problem != nil {
			logLine("error", fmt.Sprintf("%s failed: %v\n%s", r.URL.Path, problem, debug.Stack()))
			err = statusError{internalError, fmt.Sprintf("the provider failed: %v", problem)}
		}
	}()
	body, err := readMessage(r.Body)
	if err != nil {
		return nil, err
	}
	switch r.URL.Path {
	case controllerPath:
		return nil, nil
	case healthPath:
		return []byte{0x08, 1}, nil // SERVING
	}
	name := strings.TrimPrefix(r.URL.Path, providerPath)
	method, known := methods[name]
	if !known || name == r.URL.Path {
		return nil, statusError{unimplemented, r.URL.Path + " is not known"}
	}
	request, err := decodeRequest(body)
	if err != nil {
		return nil, statusError{invalidArgument, err.Error()}
	}
	return method(s.service, context.WithoutCancel(r.Context()), request)
}

// readMessage reads the one message of a request.
func readMessage(body io.Reader) ([]byte, error) {
	var head [5]byte
	if _, err := io.ReadFull(body, head[:]); err != nil {
		return nil, statusError{invalidArgument, "the request has no message"}
	}
	if head[0] != 0 {
		return nil, statusError{unimplemented, "compressed messages are not read"}
	}
	length := binary.BigEndian.Uint32(head[1:])
	if length > maximumMessageBytes {
		return nil, statusError{resourceExhausted, "the message is too large"}
	}
	// Grows with what arrives, not with what is announced.
	message, err := io.ReadAll(io.LimitReader(body, int64(length)))
	if err != nil || len(message) != int(length) {
		return nil, statusError{invalidArgument, "the message was cut"}
	}
	return message, nil
}

// percentEncoded is a message as gRPC's header takes it.
func percentEncoded(text string) string {
	var result strings.Builder
	for _, b := range []byte(text) {
		if b >= 0x20 && b <= 0x7e && b != '%' {
			result.WriteByte(b)
		} else {
			fmt.Fprintf(&result, "%%%02X", b)
		}
	}
	return result.String()
}
