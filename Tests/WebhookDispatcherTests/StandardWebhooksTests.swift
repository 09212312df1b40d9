import Foundation
import Testing
import WebhookDelivery

/// An independent client: the library `standardwebhooks` of PyPI, if `METER_TEST_PYTHON` (or
/// python3) has it.
@Suite struct StandardWebhooksTests {
  static let python = ProcessInfo.processInfo.environment["METER_TEST_PYTHON"] ?? "python3"
  static let isInstalled = (try? run("import standardwebhooks", [])) == 0

  static func run(_ script: String, _ arguments: [String]) throws -> Int32 {
    let process = Process()
    process.executableURL = URL(fileURLWithPath: "/usr/bin/env")
    process.arguments = [python, "-c", script] + arguments
    process.standardError = FileHandle.nullDevice
    process.standardOutput = FileHandle.nullDevice
    process.standardInput = FileHandle.nullDevice
    try process.run()
    process.waitUntilExit()
    return process.terminationStatus
  }

  static let verify = """
    import sys
    from standardwebhooks.webhooks import Webhook
    secret, id, timestamp, signature, body = sys.argv[1:]
    event = Webhook(secret).verify(body, {"webhook-id": id, "webhook-timestamp": timestamp,
      "webhook-signature": signature})
    assert event["type"] == event["event"] == "license.expired", event
    """

  @Test(
    "The library verifies what is signed, with either secret of a rotation, and nothing that was changed",
    .enabled(if: StandardWebhooksTests.isInstalled))
  func verified() throws {
    let old = try SigningSecret(scheme: .v1, bytes: Array(0..<24))
    let new = try SigningSecret(scheme: .v1, bytes: Array(0..<64))
    let body = WebhookBody.make(
      id: "msg_1", timestamp: "2026-11-23T18:40:00.000Z", type: "license.expired",
      data: #"{"license_id": "lic_\u00e4 ü 😀"}"#)
    let now = Int64(Date().timeIntervalSince1970)
    let signature = WebhookSignature.header(
      id: "msg_1", timestampSeconds: now, body: body, secrets: [new, old])
    let text = String(decoding: body, as: UTF8.self)
    for secret in [old, new] {
      #expect(try Self.run(Self.verify, [secret.text, "msg_1", "\(now)", signature, text]) == 0)
    }
    let other = try SigningSecret(scheme: .v1, bytes: Array(1..<33))
    #expect(try Self.run(Self.verify, [other.text, "msg_1", "\(now)", signature, text]) != 0)
    #expect(try Self.run(Self.verify, [old.text, "msg_2", "\(now)", signature, text]) != 0)
    #expect(try Self.run(Self.verify, [old.text, "msg_1", "\(now - 1)", signature, text]) != 0)
    #expect(try Self.run(Self.verify, [old.text, "msg_1", "\(now)", signature, text + " "]) != 0)
  }
}
