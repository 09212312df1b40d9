import Foundation

/// The server of `Tests/StripeExportTests/Stripe`. It behaves as Stripe documents, and tests set
/// its clock and its faults.
package final class FakeStripe {
  package let port: Int
  /// The port with TLS; nil without a certificate.
  package let tlsPort: Int?
  package let process: ChildProcess
  package static let key = "sk_test_fake"

  package static let folder =
    URL(fileURLWithPath: #filePath).deletingLastPathComponent().deletingLastPathComponent().path
    + "/StripeExportTests/Stripe"

  /// - Parameter arguments: the server's arguments.
  package init(_ arguments: [String] = []) throws {
    let given = ProcessInfo.processInfo.environment["METER_TEST_PYTHON"] ?? ""
    process = try ChildProcess(
      "/usr/bin/env",
      [given.isEmpty ? "python3" : given, "-u", Self.folder + "/fake_stripe.py"] + arguments)
    _ = process.waitForOutput("\n")
    let ports = process.output.prefix { $0 != "\n" }.split(separator: " ").map { Int($0) }
    guard let first = ports.first, let port = first else {
      throw NeverHappened(description: "fake_stripe.py: \(process.output)")
    }
    self.port = port
    tlsPort = ports.count == 2 ? ports[1] : nil
  }

  /// The settings of programs that export to it.
  package var environment: [String: String] {
    [
      "METER_STRIPE_API_KEY": Self.key, "METER_STRIPE_API_BASE": "http://127.0.0.1:\(port)",
      "METER_STRIPE_METERS": "api_calls=calls",
    ]
  }

  /// - Parameter form: the percent-encoded form.
  @discardableResult
  package func api(_ method: String, _ path: String, _ form: String = "") throws -> [String: Any] {
    try request(
      method, path, form,
      "Authorization: Bearer \(Self.key)\r\nContent-Type: application/x-www-form-urlencoded\r\n")
  }

  /// Adds a customer at Stripe and returns its id.
  package func addCustomer() throws -> String {
    try api("POST", "/v1/customers")["id"] as? String ?? ""
  }

  package func addMeter(_ eventName: String = "calls", window: String? = nil) throws {
    var form = "display_name=D&event_name=\(eventName)&default_aggregation[formula]=sum"
    if let window { form += "&event_time_window=\(window)" }
    try api("POST", "/v1/billing/meters", form)
  }

  /// See `fake_stripe.py`.
  @discardableResult
  package func control(_ name: String, _ json: String = "{}") throws -> [String: Any] {
    try request("POST", "/_test/\(name)", json, "")
  }

  package func total() throws -> Int { try control("state")["total"] as? Int ?? -1 }
  package func requests() throws -> Int { try control("state")["requests"] as? Int ?? -1 }

  private func request(
    _ method: String, _ path: String, _ body: String, _ headers: String
  ) throws -> [String: Any] {
    guard let socket = TCP.connect(port: port, timeoutSeconds: 60) else {
      throw NeverHappened(description: "fake_stripe.py is away: \(process.output)")
    }
    defer { close(socket) }
    let head = "\(method) \(path) HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\(headers)"
    _ = TCP.write(socket, Array("\(head)Content-Length: \(body.utf8.count)\r\n\r\n\(body)".utf8))
    var bytes: [UInt8] = []
    while let more = TCP.read(socket, atMost: 65_536) { bytes += more }
    guard let end = bytes.firstRange(of: Array("\r\n\r\n".utf8)) else { return [:] }
    let json = try JSONSerialization.jsonObject(with: Data(bytes[end.upperBound...]))
    return json as? [String: Any] ?? [:]
  }
}
