import Foundation
import MeteringTestKit
import Testing

/// Hostile requests end nothing, hold up nobody and take bounded memory.
@Suite(.serialized)
struct HostileClientTests {
  @Test func `Bodies of 10 MB, floods of headers and what is not HTTP get a clear 4xx`() throws {
    let setup = try APISetup()
    try setup.addToken("mtr_read", scopes: "usage:read")
    let body = String(repeating: "a", count: 10 << 20)
    let large = try setup.request("GET", "/v1/status", body: body)
    #expect(large.status == 413 && large["code"] == "too_large")
    // Without a token, no body is read.
    #expect(try setup.request("GET", "/v1/status", token: nil, body: body).status == 401)
    let long = String(repeating: "x", count: 20_000)
    #expect(try setup.get("/v1/status", headers: ["X-Long": long]).status == 431)
    #expect(try setup.get("/v1/status?" + String(repeating: "a", count: 20_000)).status == 431)
    for text in [
      "GET / HTTP/9.9\r\n\r\n", "\u{16}\u{3}\u{1}\r\n\r\n", "GET\r\n\r\n",
      "GET /v1/status HTTP/1.1\r\nHost: a\r\nContent-Length: x\r\n\r\n",
      "GET /v1/status HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
    ] {
      if let answer = try setup.exchange(Array(text.utf8)) {
        #expect((400..<500).contains(answer.status), "\(text): \(answer.status)")
      }
    }
    // Some targets are whole addresses, and some are no targets at all.
    for target in ["http://", "http://a", "http://a?x", "*", "//", "/%", "/\u{7F}", "a", "/%00"] {
      _ = try setup.exchange(
        Array("GET \(target) HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n".utf8))
      #expect(setup.process.isRunning, "\(target)")
    }
    #expect(try setup.get("http://evil.example/v1/status").status == 200)
    #expect(try setup.get("/v1/status").status == 200)
  }

  @Test func `A thousand idle connections and slow ones do not keep others from being answered`()
    throws
  {
    let setup = try APISetup(environment: ["METER_REQUEST_TIMEOUT": "500ms"])
    var sockets: [Int32] = []
    defer { for socket in sockets { close(socket) } }
    for i in 0..<1_000 {
      let socket = try #require(TCP.connect(port: setup.port, timeoutSeconds: 10))
      if i % 2 == 0 { _ = TCP.write(socket, Array("GET /v1/status HTTP/1.1\r\nHo".utf8)) }
      sockets.append(socket)
    }
    #expect(try setup.get("/v1/status").status == 200)
    // The service gives up on a request that does not come in.
    #expect(TCP.read(sockets[0], atMost: 100) == nil)
  }

  @Test func `If descriptors are few, an idle connection makes room for a new one`() throws {
    let setup = try APISetup(descriptors: 160)
    var sockets: [Int32] = []
    defer { for socket in sockets { close(socket) } }
    for _ in 0..<300 {
      if let socket = TCP.connect(port: setup.port, timeoutSeconds: 5) { sockets.append(socket) }
    }
    for _ in 0..<10 { #expect(try setup.get("/v1/status").status == 200) }
    #expect(setup.process.isRunning)
  }

  @Test
  func `Times that PostgreSQL does not have get a clear 4xx, and the first and last ones work`()
    throws
  {
    let setup = try APISetup()
    try setup.addLicense("lic_1")
    for time in ["0000-01-01", "0000-12-31", "0000-06-01T00:00:00Z", "0001-01-01T00:00:00%2B01:00"]
    {
      for path in ["periods?", "periods/close-preview?"] {
        let answer = try setup.get("/v1/\(path)ending_before=\(time)")
        #expect(answer.status == 400, "\(path) \(time): \(answer.body)")
      }
      let page = try PageReader(setup).get("/periods?ending_before=\(time)")
      #expect(page.status == 200, "\(time): \(page.body)")
    }
    let close = try setup.request(
      "POST", "/v1/periods/close", body: #"{"ending_before":"0000-01-01"}"#)
    #expect(close.status == 400, "\(close.body)")
    let adjustment = try setup.request(
      "POST", "/v1/adjustments",
      body:
        #"{"license_id":"lic_1","meter":"api_calls","applies_to_period_start":"0000-01-01","quantity":1,"reason":"r"}"#
    )
    #expect(adjustment.status == 400, "\(adjustment.body)")
    #expect(try setup.get("/v1/periods/lic_1:api_calls:0000-01-01").status == 404)
    #expect(try setup.get("/v1/customers/cus_1/statements/0000-01").status == 404)
    let all = "from=0001-01-01T00:00:00Z&to=9999-12-31T00:00:00Z"
    let compared = try setup.get("/v1/usage?\(all)&compare=previous")
    let errors = compared.json["errors"] as? [[String: Any]]
    #expect(compared.status == 400, "\(compared.body)")
    #expect(errors?.first?["parameter"] as? String == "compare", "\(compared.body)")
    for path in [
      "usage?\(all)", "usage?\(all)&format=csv", "audit?\(all)", "alerts?\(all)", "exports?\(all)",
      "periods?ending_before=0001-01-01", "periods?ending_before=9999-12-31",
      "periods/close-preview?ending_before=0001-01-01",
      "periods/close-preview?ending_before=9999-12-31",
    ] {
      let answer = try setup.get("/v1/\(path)")
      #expect(answer.status == 200, "\(path): \(answer.body)")
    }
  }
}
