import Foundation
import FoundationXML
import MeteringTestKit
import Testing

extension IntegrationTests {
  /// The command is called as scripts call it.
  @Suite struct BacktestTests {
    private func backtest(
      _ input: Data, _ arguments: [String] = []
    ) throws -> (status: Int32, output: String, error: String) {
      try run(ChildProcess.product("meterctl"), ["backtest"] + arguments, input)
    }

    private func run(
      _ program: String, _ arguments: [String], _ input: Data
    ) throws -> (status: Int32, output: String, error: String) {
      let process = Process()
      process.executableURL = URL(filePath: program)
      process.arguments = arguments
      let folder = FileManager.default.temporaryDirectory.appending(path: UUID().uuidString)
      try FileManager.default.createDirectory(at: folder, withIntermediateDirectories: true)
      defer { try? FileManager.default.removeItem(at: folder) }
      let files = ["in", "out", "err"].map { folder.appending(path: $0) }
      try input.write(to: files[0])
      for file in files[1...] { try Data().write(to: file) }
      process.standardInput = try FileHandle(forReadingFrom: files[0])
      process.standardOutput = try FileHandle(forWritingTo: files[1])
      process.standardError = try FileHandle(forWritingTo: files[2])
      try process.run()
      process.waitUntilExit()
      return (
        process.terminationStatus, try String(contentsOf: files[1], encoding: .utf8),
        try String(contentsOf: files[2], encoding: .utf8)
      )
    }

    @Test("Rows come out as they went in, with a score; a bad row is named by its line")
    func rows() throws {
      let good = "timestamp,value\r\n2026-01-01 00:00:00,1.50\r\n2026-01-01T00:05:00+02:00,-2e3\n"
      let result = try backtest(Data(good.utf8))
      #expect(result.status == 0)
      let lines = result.output.split(separator: "\n")
      #expect(lines.first == "timestamp,value,anomaly_score")
      #expect(lines.count == 3 && lines[1].hasPrefix("2026-01-01 00:00:00,1.50,"))
      #expect(lines[2].hasPrefix("2026-01-01T00:05:00+02:00,-2e3,"))
      for (bad, words) in [
        ("yesterday,1", "line 4"), ("2026-13-01 00:00:00,1", "line 4"),
        ("2026-01-01 00:00:00,much", "line 4"), ("2026-01-01 00:00:00", "too few"),
        ("2026-01-01 00:00:00,nan", "not a number"),
      ] {
        let result = try backtest(Data((good + bad + "\n").utf8))
        #expect(result.status == 3 && result.error.contains(words), "\(result)")
        #expect(result.output.split(separator: "\n").count == 3)
      }
      #expect(try backtest(Data("1,2\n".utf8)).status == 3)
      #expect(try backtest(Data()).status == 3)
      #expect(try backtest(Data(), ["--threshold"]).output == "0.5\n")
    }

    @Test(
      "Calls per minute are judged as a license's are: a flash crowd that would be normal by day is reported by night"
    )
    func callsAMinute() throws {
      var random = SeededRandom(seed: 4)
      var input = "timestamp,value\n"
      let start: Int64 = 1_795_392_000_000
      for minute in 0..<(5 * 1_440) {
        let hour = minute / 60 % 24
        var calls = (hour >= 8 && hour < 20 ? 200 : 10) + Int(random.next() % 9)
        if (4 * 1_440 + 120..<4 * 1_440 + 125).contains(minute) { calls *= 10 }
        input += "\(UsageEventText.time(milliseconds: start + Int64(minute) * 60_000)),\(calls)\n"
      }
      for arguments in [[], ["--bursts"]] {
        let result = try backtest(Data(input.utf8), arguments)
        let found = result.output.split(separator: "\n").dropFirst().enumerated().filter {
          Double($0.element.split(separator: ",")[2])! >= 0.5
        }.map(\.offset)
        let told = found.filter { (4 * 1_440 + 120..<4 * 1_440 + 125).contains($0) }
        #expect(told.first == 4 * 1_440 + 120, "\(found)")
        // The first morning is new to the detector, and is reported as such.
        if arguments == ["--bursts"] {
          #expect(found.filter { $0 > 1_440 } == told && told.count == 1, "\(found)")
        }
      }
    }

    @Test("A plot shows the series and its detections")
    func plot() throws {
      let path = FileManager.default.temporaryDirectory.appending(path: "\(UUID().uuidString).svg")
      defer { try? FileManager.default.removeItem(at: path) }
      var input = "timestamp,value\n"
      for row in 0..<1_000 { input += "2026-01-01 00:00:00,\(row == 900 ? 500 : row % 10)\n" }
      #expect(try backtest(Data(input.utf8), ["--plot", path.path]).status == 0)
      let document = try XMLElements.of(Data(contentsOf: path))
      #expect(document.contains("polyline") && document.contains("polygon"))
      #expect(document.filter { $0 == "circle" }.count >= 1)
    }

    @Test func `Totals are reported as by the service: calls that stop are reported once`() throws {
      var random = SeededRandom(seed: 9)
      var input = "timestamp,value\n"
      let start: Int64 = 1_795_392_000_000
      let silence = 10 * 1_440 + 600
      for minute in 0..<(11 * 1_440) {
        let calls = minute >= silence ? 0 : 90 + Int(random.next() % 21)
        input += "\(UsageEventText.time(milliseconds: start + Int64(minute) * 60_000)),\(calls)\n"
      }
      let result = try backtest(Data(input.utf8), ["--usage"])
      let found = result.output.split(separator: "\n").dropFirst().enumerated().filter {
        Double($0.element.split(separator: ",")[2])! >= 0.5
      }.map(\.offset)
      #expect(found.count == 1 && found[0] >= silence && found[0] < silence + 30, "\(found)")
    }
  }
}

/// The names of a document's elements. Throws if the document is not well-formed.
private final class XMLElements: NSObject, XMLParserDelegate {
  struct NotWellFormed: Error {}
  private var names: [String] = []

  static func of(_ data: Data) throws -> [String] {
    let found = XMLElements()
    let parser = XMLParser(data: data)
    parser.delegate = found
    guard parser.parse() else { throw NotWellFormed() }
    return found.names
  }

  func parser(
    _ parser: XMLParser, didStartElement name: String, namespaceURI: String?,
    qualifiedName: String?, attributes: [String: String]
  ) { names.append(name) }
}
