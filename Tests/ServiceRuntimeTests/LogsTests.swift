import Foundation
import Logging
import Testing

@testable import ServiceRuntime

@Suite struct LogsTests {
  private func line(
    _ format: LogFormat, _ message: Logger.Message, _ metadata: Logger.Metadata,
    label: String = "svc"
  ) -> String {
    let handler = LineLogHandler(
      service: "svc", label: label, format: format, logLevel: .info, metadataProvider: nil,
      write: { _ in })
    let event = LogEvent(
      level: .warning, message: message, metadata: metadata, source: nil, file: #fileID,
      function: #function, line: #line)
    return handler.line(event, at: "T")
  }

  @Test func `A text line holds time, level, service, message and sorted metadata`() {
    #expect(
      line(.text, "hello there", ["b": "two words", "a": "1", "c": ""], label: "kafka")
        == "T warning svc hello there logger=kafka a=1 b=\"two words\" c=\"\"\n")
  }

  @Test func `A text event is one line whatever it holds`() {
    let text = line(
      .text, "a\nT critical forged\u{2028}\u{1B}[31m\u{202E}\u{2066}", ["k": "x\r\ny=\"z\""])
    #expect(
      text
        == "T warning svc a\\nT critical forged\\u2028\\u001b[31m\\u202e\\u2066 k=\"x\\r\\ny=\\\"z\\\"\"\n"
    )
  }

  @Test func `A JSON line parses, keeps numbers, and repeats no field`() throws {
    let text = line(
      .json, "say \"hi\"\n\u{0}",
      [
        "rows": .stringConvertible(42), "level": "mine", "ok": .stringConvertible(true),
        "list": .array(["a", "b"]), "map": .dictionary(["k": "v"]),
        "nan": .stringConvertible(Double.nan),
      ])
    #expect(text.hasSuffix("}\n") && text.dropLast().allSatisfy { $0 != "\n" })
    let object = try #require(
      try JSONSerialization.jsonObject(with: Data(text.utf8)) as? [String: Any])
    #expect(object["time"] as? String == "T")
    #expect(object["level"] as? String == "warning")
    #expect(object["metadata.level"] as? String == "mine")
    #expect(object["message"] as? String == "say \"hi\"\n\u{0}")
    #expect(object["rows"] as? Int == 42)
    #expect(object["ok"] as? Bool == true)
    #expect(object["list"] as? [String] == ["a", "b"])
    #expect(object["map"] as? [String: String] == ["k": "v"])
    #expect(object["nan"] as? String == "nan")
  }

  @Test func `A huge value is cut`() {
    let text = line(.json, "m", ["k": .string(String(repeating: "x", count: 1_000_000))])
    #expect(text.utf8.count < 9_000)
  }

  @Test func `An unknown level or format is refused`() {
    for (name, value) in [("METER_LOG_LEVEL", "verbose"), ("METER_LOG_FORMAT", "xml")] {
      #expect {
        try Logs.bootstrap(service: "svc", settings: Settings(environment: [name: value]))
      } throws: {
        "\($0)".hasPrefix("\(name) must be one of ")
      }
    }
  }
}
