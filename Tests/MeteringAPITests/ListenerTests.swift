import Foundation
import MeteringTestKit
import Testing

/// The listener's TLS, its shares of connections, and who is believed about an address.
struct ListenerTests {
  /// A self-signed certificate for localhost.
  private final class Certificate {
    private let folder = NSTemporaryDirectory() + "api-certificate-\(UUID().uuidString)"
    var certificate: String { folder + "/certificate.pem" }
    var key: String { folder + "/key.pem" }

    init() throws {
      try FileManager.default.createDirectory(atPath: folder, withIntermediateDirectories: true)
      let openssl = try ChildProcess(
        "/usr/bin/env",
        [
          "openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256",
          "-nodes", "-keyout", key, "-out", certificate, "-days", "2", "-subj", "/CN=localhost",
          "-addext", "subjectAltName=DNS:localhost,IP:127.0.0.1",
        ])
      #expect(openssl.wait() == 0, "\(openssl.output)")
    }

    // The system clears it too.
    deinit { try? FileManager.default.removeItem(atPath: folder) }
  }

  @Test func `With a certificate the API speaks TLS and nothing else, and its cookies are secure`()
    throws
  {
    let made = try Certificate()
    let setup = try APISetup(environment: [
      "METER_TLS_CERT": made.certificate, "METER_TLS_KEY": made.key,
      "METER_REQUEST_TIMEOUT": "500ms",
    ])
    let curl = try ChildProcess(
      "/usr/bin/env",
      [
        "curl", "--silent", "--show-error", "--include", "--cacert", made.certificate,
        "--header", "Authorization: Bearer \(APISetup.adminToken)",
        "https://localhost:\(setup.port)/v1/status",
        "--next", "--silent", "--include", "--cacert", made.certificate,
        "--data", "token=\(APISetup.adminToken)", "https://localhost:\(setup.port)/sign-in",
      ])
    #expect(curl.wait() == 0, "\(curl.output)")
    try eventually("all is read") { curl.outputEnded }
    #expect(curl.output.contains("complete_through"), "\(curl.output)")
    #expect(curl.output.contains("; Secure"), "\(curl.output)")
    // Plain HTTP gets no HTTP answer, and neither does a handshake that never begins.
    let plain = try setup.exchange(Array("GET /v1/status HTTP/1.1\r\nHost: a\r\n\r\n".utf8))
    #expect(plain == nil)
    #expect(try setup.exchange([]) == nil)
    // An open session may pause for longer than a request may take to come in.
    #expect(try secondRequest(setup, made.certificate))
  }

  /// Sends two requests on one TLS connection, the second after more than the time limit of a
  /// request.
  private func secondRequest(_ setup: APISetup, _ authority: String) throws -> Bool {
    let python = """
      import http.client, ssl, sys, time
      context = ssl.create_default_context(cafile=sys.argv[2])
      connection = http.client.HTTPSConnection("localhost", int(sys.argv[1]), context=context)
      connection.connect()
      local = connection.sock.getsockname()
      for pause in (0.8, 0.8):
          time.sleep(pause)
          connection.request("GET", "/openapi.yaml")
          assert connection.getresponse().read()
          assert connection.sock.getsockname() == local
      """
    let client = try ChildProcess(
      "/usr/bin/env", ["python3", "-c", python, "\(setup.port)", authority])
    let status = client.wait()
    return status == 0
  }

  @Test func `A certificate without its key ends the start with one line and status 78`() throws {
    let made = try Certificate()
    let process = try ChildProcess(
      ChildProcess.product("metering-api"),
      environment: [
        "METER_DATABASE_URL": "postgresql:///nowhere", "METER_TLS_CERT": made.certificate,
      ])
    #expect(process.wait() == 78)
    try eventually("all is read") { process.outputEnded }
    #expect(process.output.split(separator: "\n").count == 1, "\(process.output)")
    #expect(process.output.contains("METER_TLS_CERT and METER_TLS_KEY must both be set"))
  }

  @Test func `One address has its share of connections, and a trusted proxy has no share`() throws {
    let share = ["METER_MAX_CONNECTIONS_PER_ADDRESS": "3"]
    let setup = try APISetup(environment: share)
    try makeFive(setup, open: 3)
    // An idle connection makes room for the next one from the same address.
    #expect(try setup.get("/v1/status").status == 200)
    let behind = try APISetup(
      environment: share.merging(["METER_TRUSTED_PROXIES": "127.0.0.0/8"]) { $1 })
    try makeFive(behind, open: 5)
  }

  /// Makes five idle connections, of which `open` stay open.
  private func makeFive(_ setup: APISetup, open: Int) throws {
    var sockets: [Int32] = []
    defer { for socket in sockets { close(socket) } }
    for _ in 0..<5 {
      let socket = try #require(TCP.connect(port: setup.port, timeoutSeconds: 1))
      sockets.append(socket)
      // The metric shows when the connection has its place.
      let place = sockets.count
      try eventually("connection \(place) has its place") {
        let metrics = HTTPGet.get(port: setup.adminPort, "/metrics")?.body ?? ""
        let displaced = Self.metric("meter_http_connections_displaced_total", metrics)
        return Self.metric("meter_http_connections", metrics) + displaced >= place
      }
    }
    // The end of a connection arrives a moment after it is counted.
    try eventually("\(open) connections are left") {
      sockets.filter { socket in
        var byte: UInt8 = 0
        return recv(socket, &byte, 1, Int32(MSG_DONTWAIT)) < 0 && errno == EAGAIN
      }.count == open
    }
  }

  private static func metric(_ name: String, _ text: String) -> Int {
    text.split(separator: "\n").first { $0.hasPrefix(name + " ") }
      .flatMap { Double($0.split(separator: " ")[1]) }.map { Int($0) } ?? 0
  }

  @Test func `The audit has the client's address, and believes only a trusted proxy`() throws {
    let forwarded = ["X-Forwarded-For": "203.0.113.66, 198.51.100.7"]
    let body = #"{"customer_id":"cus_a","name":"A"}"#
    func address(_ environment: [String: String]) throws -> String? {
      let setup = try APISetup(environment: environment)
      let made = try setup.request("POST", "/v1/customers", body: body, headers: forwarded)
      #expect(made.status == 201, "\(made.body)")
      return try setup.get("/v1/audit").data.first?["address"] as? String
    }
    #expect(try address([:]) == "127.0.0.1")
    #expect(try address(["METER_TRUSTED_PROXIES": "127.0.0.1"]) == "198.51.100.7")
  }
}
