import Foundation
import Testing

@testable import ServiceRuntime

@Suite struct SettingsTests {
  private enum Colour: String, CaseIterable { case red, green }

  private func withFile<T>(_ bytes: [UInt8], _ body: (String) throws -> T) throws -> T {
    let url = FileManager.default.temporaryDirectory.appendingPathComponent(UUID().uuidString)
    try Data(bytes).write(to: url)
    defer { try? FileManager.default.removeItem(at: url) }  // a leftover does no harm
    return try body(url.path)
  }

  private func message(_ body: () throws -> Void) -> String {
    do {
      try body()
      return "no error"
    } catch {
      return "\(error)"
    }
  }

  @Test func `An absent or empty variable gives the default`() throws {
    for settings in [Settings(environment: [:]), Settings(environment: ["METER_X": ""])] {
      #expect(try settings.string("METER_X", default: "a") == "a")
      #expect(try settings.optionalString("METER_X") == nil)
      #expect(try settings.integer("METER_X", default: 7, in: 1...9) == 7)
      #expect(try settings.boolean("METER_X", default: true))
      #expect(try settings.milliseconds("METER_X", default: 5, in: 1...9) == 5)
      #expect(try settings.choice("METER_X", default: Colour.green) == .green)
      #expect(message { _ = try settings.required("METER_X") }.hasPrefix("METER_X is required"))
    }
  }

  @Test(arguments: [
    ("127.0.0.1:9092", true), ("a:1, b:2", true), ("[::1]:9092", true),
    ("SASL_SSL://k-1.x:9093", true),
    ("nonsense", false), ("h:99999", false), ("h:0", false), (":9092", false), ("a:1,", false),
    ("a:1;b:2", false), ("::1:9092", false),
  ])
  func `Only a list of hosts with ports names Kafka's brokers`(_ text: String, isList: Bool) {
    let settings = Settings(environment: ["METER_KAFKA_BROKERS": text])
    for read in [
      { _ = try settings[DeclaredSettings.kafkaBrokers] },
      { _ = try settings[DeclaredSettings.optionalKafkaBrokers] },
    ] {
      let message = message(read)
      #expect(isList ? message == "no error" : message.contains("must be host:port"), "\(message)")
    }
  }

  @Test func `A file gives the value without its one trailing newline`() throws {
    for (content, value) in [
      ("secret\n", "secret"), ("secret\r\n", "secret"), ("secret", "secret"),
      ("two\nlines\n\n", "two\nlines\n"),
    ] {
      try withFile(Array(content.utf8)) { (path: String) throws in
        let settings = Settings(environment: ["METER_X_FILE": path])
        #expect(try settings.required("METER_X") == value)
      }
    }
  }

  @Test func `A file serves typed settings, and names that end with FILE themselves`() throws {
    try withFile(Array("10s\n".utf8)) { (path: String) throws in
      let settings = Settings(environment: ["METER_X_FILE": path])
      #expect(try settings.milliseconds("METER_X", default: 1, in: 0...60_000) == 10_000)
      #expect(try settings.required("METER_X_FILE") == path)
    }
  }

  @Test func `A variable and its file together are refused`() throws {
    let settings = Settings(environment: ["METER_X": "s3cret", "METER_X_FILE": "/p4th"])
    #expect(
      message { _ = try settings.required("METER_X") }
        == "METER_X and METER_X_FILE are both set, but only one of them may be")
  }

  @Test func `Unusable files are refused without revealing the path or the content`() throws {
    func check(_ path: String, _ words: String) {
      let text = message { _ = try Settings(environment: ["K_FILE": path]).required("K") }
      #expect(text == "K_FILE names \(words)")
    }
    check("/nonexistent/s3cret", "a file that cannot be read: No such file or directory")
    check("/tmp", "a file that cannot be read: Is a directory")
    check("/dev/zero", "a file of more than 1 MiB")
    try withFile([]) { check($0, "an empty file") }
    try withFile([0x0A]) { check($0, "an empty file") }
    try withFile([0x73, 0xFF]) { check($0, "a file that is not UTF-8 text") }
    try withFile([0x73, 0x00]) { path in
      let text = message { _ = try Settings(environment: ["K_FILE": path]).required("K") }
      #expect(text == "K_FILE must not contain a NUL byte")
    }
  }

  @Test func `No error repeats the value`() {
    let settings = Settings(environment: ["METER_X": "hunter2:\nx"])
    let messages = [
      message { _ = try settings.integer("METER_X", default: 1, in: 0...9) },
      message { _ = try settings.boolean("METER_X", default: true) },
      message { _ = try settings.milliseconds("METER_X", default: 1, in: 0...9) },
      message { _ = try settings.address("METER_X", default: "a:1") },
      message { _ = try settings.choice("METER_X", default: Colour.red) },
    ]
    for text in messages {
      #expect(text.hasPrefix("METER_X must be "))
      #expect(!text.contains("hunter2") && !text.contains("\n"))
    }
    #expect(messages[4] == "METER_X must be one of red, green")
  }

  @Test(arguments: [
    ("0", 0), ("42", 42), ("-3", -3), ("100", 100), ("101", nil), ("-4", nil), ("+5", nil),
    ("5 ", nil), ("0x5", nil), ("1e2", nil), ("5.0", nil), ("99999999999999999999", nil),
  ])
  func `An integer is plain decimal within its range`(text: String, value: Int?) {
    let settings = Settings(environment: ["N": text])
    #expect((try? settings.integer("N", default: 1, in: -3...100)) == value)
  }

  @Test(arguments: [
    ("250ms", 250), ("10s", 10_000), ("5m", 300_000), ("2h", 7_200_000), ("35d", 3_024_000_000),
    ("0ms", 0), ("36d", nil), ("30", nil), ("s", nil), ("-1s", nil), ("1.5s", nil), ("1 s", nil),
    ("1S", nil), ("10s5ms", nil), ("99999999999999999d", nil), ("٣s", nil),
  ])
  func `A duration is digits and a unit`(text: String, value: Int?) {
    let settings = Settings(environment: ["D": text])
    #expect(
      (try? settings.milliseconds("D", default: 1, in: 0...3_024_000_000)) == value)
  }

  @Test func `A duration out of range is refused with the range in readable units`() {
    let text = message {
      _ = try Settings(environment: ["D": "1ms"]).milliseconds(
        "D", default: 1, in: 250...3_024_000_000)
    }
    #expect(text.hasPrefix("D must be a duration from 250ms to 35d"))
  }

  @Test(arguments: ["1", "yes", "TRUE", "true ", "False"])
  func `Only true and false are booleans`(text: String) throws {
    #expect(throws: ConfigurationError.self) {
      try Settings(environment: ["B": text]).boolean("B", default: true)
    }
    #expect(try Settings(environment: ["B": "false"]).boolean("B", default: true) == false)
  }

  @Test(arguments: [
    ("0.0.0.0:9100", "0.0.0.0", 9100), ("localhost:0", "localhost", 0),
    ("[::1]:9100", "::1", 9100),
    (":8080", "0.0.0.0", 8080), ("a-b.example:65535", "a-b.example", 65535),
  ])
  func `An address is read`(text: String, host: String, port: Int) throws {
    let address = try Settings(environment: ["A": text]).address("A", default: "x:1")
    #expect(address == BindAddress(host: host, port: port))
  }

  @Test(arguments: [
    "9100", "host", "host:", "host:65536", "host:-1", "host:+1", "::1:9100", "[::1]", "[]:1",
    "[host]:1", "http://host:1", "ho st:1", "host:1:2", "host:000001",
  ])
  func `What is not an address is refused`(text: String) {
    #expect(throws: ConfigurationError.self) {
      try Settings(environment: ["A": text]).address("A", default: "x:1")
    }
  }

  @Test func `An IPv6 address is written with brackets`() {
    #expect(BindAddress(host: "::1", port: 9100).description == "[::1]:9100")
  }

  @Test(arguments: [
    ("METER_MAX_QUANTITY", "1"), ("METER_MAX_QUANTITY", "1000000000001"),
    ("METER_MAX_QUANTITY", "100000000000000000"), ("METER_MAX_EVENT_AGE", "0ms"),
    ("METER_MAX_EVENT_AGE", "3651d"), ("METER_MAX_EVENT_AGE", "36525d"),
  ])
  func `Every legal counting rule is accepted`(name: String, value: String) throws {
    let settings = Settings(environment: [name: value])
    _ = try settings.maxQuantity()
    _ = try settings.maxEventAgeMilliseconds()
  }

  @Test(arguments: [
    ("METER_MAX_QUANTITY", "0"), ("METER_MAX_QUANTITY", "100000000000000001"),
    ("METER_MAX_EVENT_AGE", "36526d"), ("METER_MAX_EVENT_AGE", "35"),
  ])
  func `A counting rule out of its range is refused by name`(name: String, value: String) {
    let settings = Settings(environment: [name: value])
    let told = message {
      _ = try settings.maxQuantity()
      _ = try settings.maxEventAgeMilliseconds()
    }
    #expect(told.hasPrefix(name))
  }
}
