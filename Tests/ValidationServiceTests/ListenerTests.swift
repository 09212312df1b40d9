import Foundation
import MeteringTestKit
import Testing

/// Badly behaved connections, and TLS.
@Suite(.serialized)
struct ListenerTests {
  /// A self-signed certificate for localhost.
  final class Certificate {
    let folder = NSTemporaryDirectory() + "certificate-\(UUID().uuidString)"
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

    deinit { try? FileManager.default.removeItem(atPath: folder) }

    var environment: [String: String] { ["METER_TLS_CERT": certificate, "METER_TLS_KEY": key] }
  }

  /// Whether the other end has closed or reset the connection. It is false if neither happens
  /// within the socket's time limit. Anything that it sends before is read and dropped.
  static func isClosed(_ socket: Int32) -> Bool {
    var bytes = [UInt8](repeating: 0, count: 4_096)
    while true {
      let got = recv(socket, &bytes, bytes.count, 0)
      if got == 0 || (got < 0 && errno == ECONNRESET) { return true }
      if got < 0 { return false }
    }
  }

  static func connect(_ setup: Setup) throws -> Int32 {
    try #require(TCP.connect(port: setup.port, timeoutSeconds: 20))
  }

  /// Reads until the needle comes.
  static func answer(_ socket: Int32, until needle: String) -> String {
    var bytes: [UInt8] = []
    while !String(decoding: bytes, as: UTF8.self).contains(needle),
      let more = TCP.read(socket, atMost: 65_536)
    {
      bytes += more
    }
    return String(decoding: bytes, as: UTF8.self)
  }

  static func post(_ license: String) -> [UInt8] {
    let body = #"{"licenseKey":"\#(license)","domain":"example.com"}"#
    return Array(
      "POST /v1/licenses/validate HTTP/1.1\r\nHost: a\r\nContent-Length: \(body.utf8.count)\r\n\r\n\(body)"
        .utf8)
  }

  @Test("With a certificate it speaks TLS, and nothing else")
  func tls() throws {
    let certificate = try Certificate()
    let setup = try Setup(
      environment: certificate.environment.merging(["METER_REQUEST_TIMEOUT": "500ms"]) { $1 })
    try setup.addLicense("lic_1")
    let curl = try ChildProcess(
      "/usr/bin/env",
      [
        "curl", "--silent", "--show-error", "--cacert", certificate.certificate, "--data",
        #"{"licenseKey":"lic_1","domain":"example.com"}"#,
        "https://localhost:\(setup.port)/v1/licenses/validate",
      ])
    #expect(curl.wait() == 0, "\(curl.output)")
    try eventually("all is read") { curl.outputEnded }
    #expect(curl.output.contains(#""valid":true"#), "\(curl.output)")
    let stranger = try ChildProcess(
      "/usr/bin/env",
      ["curl", "--silent", "https://localhost:\(setup.port)/.well-known/jwks.json"])
    #expect(stranger.wait() == 60, "a certificate that no authority vouches for")
    let plain = try Self.connect(setup)
    defer { close(plain) }
    _ = TCP.write(plain, Self.post("lic_1"))
    #expect(!Self.answer(plain, until: "HTTP/").contains("HTTP/"))
    // One handshake never begins, and one stops in the middle of its first record.
    let silent = try Self.connect(setup)
    defer { close(silent) }
    #expect(Self.isClosed(silent))
    let halfway = try Self.connect(setup)
    defer { close(halfway) }
    _ = TCP.write(halfway, [0x16, 0x03, 0x01, 0x02, 0x00, 0x01])
    #expect(Self.isClosed(halfway))
  }

  @Test("A certificate with another one's key ends the start with one line and status 78")
  func wrongKey() throws {
    let one = try Certificate()
    let other = try Certificate()
    let setup = try Setup()
    setup.process.signal(SIGTERM)
    #expect(setup.process.wait() == 0)
    for (certificate, key, says) in [
      (one.certificate, other.key, "does not belong to the certificate"),
      (one.key, one.key, "in PEM"),
      ("/nowhere", one.key, "in PEM"), (one.certificate, "", "must both be set"),
    ] {
      let process = try ChildProcess(
        ChildProcess.product("validation-service"),
        environment: setup.environment.merging([
          "METER_TLS_CERT": certificate, "METER_TLS_KEY": key,
        ]) { $1 })
      #expect(process.wait() == 78)
      try eventually("all is read") { process.outputEnded }
      #expect(process.output.split(separator: "\n").count == 1, "\(process.output)")
      #expect(process.output.contains("METER_TLS_CERT"), "\(process.output)")
      #expect(process.output.contains(says), "\(process.output)")
    }
  }

  @Test("A client that does not finish its request in time is cut off; one that did may wait")
  func slowClients() throws {
    let setup = try Setup(environment: ["METER_REQUEST_TIMEOUT": "500ms"])
    try setup.addLicense("lic_1")
    let patient = try Self.connect(setup)
    defer { close(patient) }
    _ = TCP.write(patient, Self.post("lic_1"))
    #expect(Self.answer(patient, until: "\"signature\"").contains("200 OK"))
    // The request comes byte by byte, so it is never idle and never complete.
    func dribble(_ beginning: String) throws {
      let socket = try Self.connect(setup)
      defer { close(socket) }
      _ = TCP.write(socket, Array(beginning.utf8))
      for _ in 0..<400 {
        usleep(50_000)
        guard TCP.write(socket, [UInt8(ascii: "x")]) else { return }
      }
      Issue.record("after 20 s it still reads: \(beginning)")
    }
    try dribble("POST /v1/licenses/validate HTTP/1.1\r\nHost: ")
    try dribble(
      "POST /v1/licenses/validate HTTP/1.1\r\nHost: a\r\nContent-Length: 60000\r\n\r\n{\"licenseKey\":\""
    )
    // All this time, this one was idle after a finished request.
    _ = TCP.write(patient, Self.post("lic_1"))
    #expect(Self.answer(patient, until: "\"signature\"").contains("200 OK"))
  }

  @Test("Pipelined requests are answered in their order, even if the first must wait")
  func pipelined() throws {
    let setup = try Setup()
    try setup.addLicense("lic_1")
    try setup.addLicense("lic_2")
    #expect(try setup.validate("lic_2")["code"] == "valid")
    let socket = try Self.connect(setup)
    defer { close(socket) }
    // The first license is not in memory yet. The others are.
    let count = 2_000
    let jwks = Array("GET /.well-known/jwks.json HTTP/1.1\r\nHost: a\r\n\r\n".utf8)
    let last = Array("GET /nothing HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n".utf8)
    var all = Self.post("lic_1") + Self.post("lic_2")
    for _ in 0..<count { all += jwks }
    all += last
    // The service does not read from a client that does not read its answers, so this must not wait
    // here.
    let bytes = all
    Thread.detachNewThread { _ = TCP.write(socket, bytes) }
    var answers: [UInt8] = []
    while let more = TCP.read(socket, atMost: 65_536) { answers += more }
    let parts = String(decoding: answers, as: UTF8.self).components(separatedBy: "HTTP/1.1 ")
      .dropFirst()
    #expect(parts.count == count + 3)
    #expect(parts.dropFirst(0).first?.contains(#""licenseId":"lic_1""#) == true)
    #expect(parts.dropFirst(1).first?.contains(#""licenseId":"lic_2""#) == true)
    #expect(parts.dropFirst(2).dropLast().allSatisfy { $0.contains(#""keys":["#) })
    #expect(parts.last?.hasPrefix("404") == true)
  }

  @Test("Input that is not HTTP gets a problem, and a body announced as too large is not read")
  func malformed() throws {
    let setup = try Setup()
    func problem(_ text: String, _ status: String, closes: Bool = false) throws {
      let socket = try Self.connect(setup)
      defer { close(socket) }
      _ = TCP.write(socket, Array(text.utf8))
      let answer = Self.answer(socket, until: "}")
      #expect(answer.hasPrefix("HTTP/1.1 \(status) "), "\(text): \(answer)")
      #expect(answer.contains("content-type: application/problem+json"), "\(answer)")
      if closes {
        #expect(answer.contains("connection: close") && Self.isClosed(socket), "\(answer)")
      }
    }
    try problem("BLAH blah\r\n\r\n", "400", closes: true)
    try problem("GET / HTTP/1.1\r\nno colon\r\n\r\n", "400")
    try problem(
      "GET / HTTP/1.1\r\nHost: a\r\nx: \(String(repeating: "y", count: 9_000))\r\n\r\n", "431")
    try problem(
      "POST /v1/licenses/validate HTTP/1.1\r\nHost: a\r\nContent-Length: 70000\r\n\r\n", "413")
    try problem(
      "POST /v1/events HTTP/1.1\r\nHost: a\r\nContent-Length: 1048577\r\nExpect: 100-continue\r\n\r\n",
      "413", closes: true)
    try problem(
      "POST /v1/events HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n"
        + String(repeating: "10000\r\n\(String(repeating: "z", count: 65_536))\r\n", count: 17),
      "401")
    try problem(
      "POST /v1/licenses/validate HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n"
        + String(repeating: "10000\r\n\(String(repeating: "z", count: 65_536))\r\n", count: 2),
      "413")
    let curl = try ChildProcess(
      "/usr/bin/env",
      [
        "curl", "--silent", "--show-error", "--header", "Expect: 100-continue", "--verbose",
        "--data", #"{"licenseKey":"lic_1","domain":"example.com"}"#,
        "http://localhost:\(setup.port)/v1/licenses/validate",
      ])
    #expect(curl.wait() == 0)
    try eventually("all is read") { curl.outputEnded }
    #expect(curl.output.contains("100 Continue") && curl.output.contains(#""valid":false"#))
  }

  @Test("Ten thousand idle connections do no harm")
  func idleConnections() throws {
    var limit = rlimit()
    getrlimit(__rlimit_resource_t(RLIMIT_NOFILE.rawValue), &limit)
    let before = limit
    limit.rlim_cur = limit.rlim_max
    setrlimit(__rlimit_resource_t(RLIMIT_NOFILE.rawValue), &limit)
    defer {
      var before = before
      setrlimit(__rlimit_resource_t(RLIMIT_NOFILE.rawValue), &before)
    }
    // As many as the system allows, in addition to what both processes need.
    let count = min(10_000, Int(clamping: limit.rlim_max) / 4 * 3 - 64)
    #expect(count >= 2_000)
    let setup = try Setup(environment: ["METER_MAX_CONNECTIONS_PER_ADDRESS": "\(count + 100)"])
    try setup.addLicense("lic_1")
    #expect(try setup.validate("lic_1")["code"] == "valid")
    let files = "/proc/\(setup.process.pid)/fd"
    func descriptors() throws -> Int {
      try FileManager.default.contentsOfDirectory(atPath: files).count
    }
    let (descriptorsBefore, memoryBefore) = (try descriptors(), try setup.memory("RssAnon"))
    var sockets: [Int32] = []
    defer { for socket in sockets { close(socket) } }
    for _ in 0..<count { sockets.append(try Self.connect(setup)) }
    try eventually("all are accepted; \(setup.process.output)") {
      try descriptors() >= descriptorsBefore + count
    }
    for _ in 0..<20 { #expect(try setup.validate("lic_1")["code"] == "valid") }
    let bytes = (try setup.memory("RssAnon") - memoryBefore) / count
    print("\(count) idle connections take \(bytes) bytes each")
    #expect(bytes < 65_536)
    // They still work like new ones.
    for socket in [sockets[0], sockets[count / 2], sockets[count - 1]] {
      _ = TCP.write(socket, Self.post("lic_1"))
      #expect(Self.answer(socket, until: "\"signature\"").contains("200 OK"))
    }
    setup.process.signal(SIGTERM)
    #expect(setup.process.wait() == 0)
  }

  @Test
  func `With 120 descriptors it keeps answering, however many connections are idle`() throws {
    let setup = try Setup(descriptors: 120)
    try setup.addLicense("lic_1")
    #expect(try setup.validate("lic_1")["code"] == "valid")
    let maximum = try #require(setup.metric("meter_http_connections_maximum"))
    #expect((8...100).contains(maximum))
    var sockets: [Int32] = []
    defer { for socket in sockets { close(socket) } }
    for _ in 0..<300 { sockets.append(try Self.connect(setup)) }
    for _ in 0..<300 { #expect(try setup.validate("lic_1")["code"] == "valid") }
    // Idle connections were closed, and every other use had a descriptor.
    #expect(try #require(setup.metric("meter_http_connections_displaced_total")) >= 100)
    #expect(try #require(setup.metric("meter_http_connections")) <= maximum + maximum / 8 + 2)
    #expect(try #require(setup.metric("process_open_fds")) < 110)
    // The admin address does not bypass the limit.
    for _ in 0..<100 {
      sockets.append(try #require(TCP.connect(port: setup.adminPort, timeoutSeconds: 20)))
    }
    for _ in 0..<20 { #expect(try setup.validate("lic_1")["code"] == "valid") }
    #expect(setup.process.isRunning, "\(setup.process.output)")
    setup.process.signal(SIGTERM)
    #expect(setup.process.wait() == 0)
  }

  @Test
  func `Too few descriptors to serve anybody end the start with one line and status 78`() throws {
    let setup = try Setup()
    setup.process.signal(SIGTERM)
    #expect(setup.process.wait() == 0)
    let process = try ChildProcess(
      "/bin/sh",
      ["-c", "ulimit -n 60 && exec \"$0\"", ChildProcess.product("validation-service")],
      environment: setup.environment)
    #expect(process.wait() == 78)
    try eventually("all is read") { process.outputEnded }
    #expect(process.output.contains("ulimit -n"), "\(process.output)")
  }

  /// Sends requests until neither the service nor the kernel takes more.
  private static func flood(_ sockets: [Int32], _ requests: [UInt8]) {
    var quiet = 0
    while quiet < 20 {
      var hasSent = false
      for socket in sockets
      where send(socket, requests, requests.count, Int32(MSG_DONTWAIT) | Int32(MSG_NOSIGNAL)) > 0 {
        hasSent = true
      }
      quiet = hasSent ? 0 : quiet + 1
      if !hasSent { usleep(20_000) }
    }
  }

  @Test
  func `Requests whose answers nobody reads take little memory, and do not hold up the end`()
    throws
  {
    let setup = try Setup()
    try setup.addLicense("lic_1")
    #expect(try setup.validate("lic_1")["code"] == "valid")
    var sockets: [Int32] = []
    defer { for socket in sockets { close(socket) } }
    for _ in 0..<100 {
      let socket = try Self.connect(setup)
      // The buffer is small, so that the kernel does not take what the service must not.
      var size: Int32 = 4_096
      setsockopt(socket, SOL_SOCKET, SO_RCVBUF, &size, socklen_t(MemoryLayout<Int32>.size))
      sockets.append(socket)
    }
    let before = try setup.memory("RssAnon")
    let request = Array("GET /.well-known/jwks.json HTTP/1.1\r\nHost: a\r\n\r\n".utf8)
    Self.flood(sockets, Array(repeating: request, count: 1_000).flatMap(\.self))
    let bytes = (try setup.memory("RssAnon") - before) / sockets.count
    print("a connection whose answers nobody reads takes \(bytes) bytes")
    #expect(bytes < 256 << 10)
    #expect(try setup.validate("lic_1")["code"] == "valid")
    setup.process.signal(SIGTERM)
    #expect(setup.process.wait() == 0)
    try eventually("all is read") { setup.process.outputEnded }
    #expect(!setup.process.output.contains("did not stop in time"))
    #expect(setup.process.output.contains("stopped"))
  }

  @Test
  func `A request names one host; HTTP 1.0 may name none and is not told to continue`() throws {
    let setup = try Setup()
    func answer(_ text: String) throws -> String {
      let socket = try Self.connect(setup)
      defer { close(socket) }
      _ = TCP.write(socket, Array(text.utf8))
      return Self.answer(socket, until: "}")
    }
    let path = "/.well-known/jwks.json"
    for hosts in [
      "", "Host: a\r\nHost: a\r\n", "Host: a, b\r\n", "Host: a/b\r\n", "Host: a b\r\n",
      "Host: me@a\r\n",
    ] {
      let got = try answer("GET \(path) HTTP/1.1\r\n\(hosts)\r\n")
      #expect(got.hasPrefix("HTTP/1.1 400 ") && got.contains("bad_host"), "\(hosts): \(got)")
      #expect(got.contains("connection: close"), "\(hosts): \(got)")
    }
    for hosts in ["Host:\r\n", "Host: a:8080\r\n", "hOST: [::1]:80\r\n"] {
      let got = try answer("GET \(path) HTTP/1.1\r\n\(hosts)\r\n")
      #expect(got.hasPrefix("HTTP/1.1 200 "), "\(hosts): \(got)")
    }
    #expect(try answer("GET \(path) HTTP/1.0\r\n\r\n").hasPrefix("HTTP/1.1 200 "))
    #expect(
      try answer("GET \(path) HTTP/1.0\r\nHost: a\r\nHost: b\r\n\r\n").hasPrefix("HTTP/1.1 400 "))
    let body = #"{"licenseKey":"lic_1","domain":"example.com"}"#
    let old = try answer(
      "POST /v1/licenses/validate HTTP/1.0\r\nExpect: 100-continue\r\nContent-Length: \(body.utf8.count)\r\n\r\n\(body)"
    )
    #expect(old.hasPrefix("HTTP/1.1 200 "), "\(old)")
  }

  @Test
  func `A large body is requested only if its token may report usage`() throws {
    let setup = try Setup()
    try setup.addToken("mtr_reporter")
    try setup.addToken("mtr_reader", scopes: "usage:read")
    func head(_ authorization: String) throws -> String {
      let socket = try Self.connect(setup)
      defer { close(socket) }
      _ = TCP.write(
        socket,
        Array(
          "POST /v1/events HTTP/1.1\r\nHost: a\r\n\(authorization)Content-Length: 1000000\r\nExpect: 100-continue\r\n\r\n"
            .utf8))
      return Self.answer(socket, until: "\r\n\r\n")
    }
    #expect(try head("").hasPrefix("HTTP/1.1 401 "))
    #expect(try head("Authorization: Bearer mtr_invented\r\n").hasPrefix("HTTP/1.1 401 "))
    #expect(try head("Authorization: Bearer mtr_reader\r\n").hasPrefix("HTTP/1.1 403 "))
    for _ in 0..<2 {
      #expect(try head("Authorization: Bearer mtr_reporter\r\n").hasPrefix("HTTP/1.1 100 "))
    }
  }

  @Test
  func `A batch with one element too many is refused before its elements are read`() throws {
    let setup = try Setup()
    try setup.addLicense("lic_1")
    try setup.addToken("mtr_reporter")
    func post(_ body: String) throws -> Setup.Answer {
      try setup.request(
        "POST", "/v1/events", body: body,
        headers: [
          "Authorization": "Bearer mtr_reporter",
          "Content-Type": "application/cloudevents-batch+json",
        ])
    }
    let ones = try post("[" + String(repeating: "1,", count: 500_000) + "1]")
    #expect(ones.status == 400 && ones["code"] == "too_many_events", "\(ones.body)")
    // The text after the 1,000th element is not JSON, but it is not looked at.
    let cut = try post("[" + String(repeating: "1,", count: 1_000) + "}")
    #expect(cut["code"] == "too_many_events", "\(cut.body)")
    let many = try post("[" + String(repeating: "1,", count: 999) + "1]")
    #expect(many.status == 202 && many["accepted"] == "0", "\(many.body)")
    #expect(try post("[1,}]")["code"] == "not_json")
    // Anonymous bodies must be smaller, and the number of their values is limited.
    let validation = try setup.request(
      "POST", "/v1/licenses/validate",
      body: #"{"licenseKey":"lic_1","domain":"example.com","x":["#
        + String(repeating: "1,", count: 20_000) + "1]}")
    #expect(validation.status == 400 && validation["code"] == "bad_request")
  }
}
