import Foundation
import MeteringTestKit
import Testing

extension IntegrationTests {
  /// `meterctl status --watch` as a person sees it, on a pseudo terminal.
  @Suite struct WatchTests {
    @Test(arguments: [(columns: 80, rows: 24), (columns: 40, rows: 12)])
    func `A watched status fits its terminal, is red and green, and never scrolls`(
      _ size: (columns: Int, rows: Int)
    ) throws {
      let pipeline = try Pipeline(partitions: 2)
      try pipeline.database.execute(
        """
        insert into partition_halt (consumer_group, topic, partition, reason, remedy) values
          ('usage-aggregator', 'license.usage.v1', 1, 'the log ends at 3, before the stored offset 9',
           'meterctl topics new-epoch');
        """)
      let screen = try PseudoTerminal.watch(size, pipeline, environment: [:])
      #expect(screen.scrolled == 0)
      #expect(screen.lines[0].hasPrefix("License Metering"))
      #expect(screen.lines[1].hasPrefix("WRONG  usage-aggregator has halted"))
      let wrong = screen.lines[1...].prefix { $0.hasPrefix("WRONG") || $0.hasPrefix("  ") }
      let text = wrong.map { $0.trimmingCharacters(in: .whitespaces) }.joined(separator: " ")
      #expect(text.contains("run: meterctl topics new-epoch"), "\(screen.lines)")
      #expect(screen.styles.contains("1;31"))
      // The last row stays free.
      #expect(screen.lines[size.rows - 1].isEmpty)
      #expect(screen.lines.allSatisfy { $0.count <= size.columns })
    }

    @Test func `NO_COLOR turns colors off, and the screen is refreshed nevertheless`() throws {
      let pipeline = try Pipeline(partitions: 1)
      let screen = try PseudoTerminal.watch(
        (columns: 80, rows: 24), pipeline, environment: ["NO_COLOR": "1"])
      #expect(screen.styles.isEmpty)
      #expect(screen.lines[1] == "nothing is wrong")
    }
  }
}

/// What a terminal shows for the bytes that it was sent. It knows the few sequences that `meterctl`
/// uses.
struct TerminalScreen {
  private(set) var lines: [String]
  private(set) var scrolled = 0
  /// The styles that were turned on.
  private(set) var styles: Set<String> = []
  /// How often drawing began again.
  private(set) var refreshes = 0
  private let columns: Int
  private var row = 0
  private var cells: [[Character]]

  init(columns: Int, rows: Int) {
    self.columns = columns
    cells = Array(repeating: [], count: rows)
    lines = Array(repeating: "", count: rows)
  }

  mutating func take(_ text: String) {
    var rest = Substring(text)
    while let character = rest.popFirst() {
      switch character {
      case "\r\n", "\n": newLine()
      case "\r": cells[row].removeAll()
      case "\u{1B}":
        guard rest.popFirst() == "[" else { continue }
        let parameters = rest.prefix { $0.isNumber || $0 == ";" }
        rest = rest.dropFirst(parameters.count)
        act(rest.popFirst(), String(parameters))
      default:
        if cells[row].count == columns { newLine() }
        cells[row].append(character)
      }
    }
    lines = cells.map { String($0) }
  }

  private mutating func act(_ command: Character?, _ parameters: String) {
    switch command {
    case "H":
      row = 0
      refreshes += 1
    case "K": cells[row].removeAll()
    case "J": for below in row..<cells.count { cells[below].removeAll() }
    case "m": if parameters != "0" { styles.insert(parameters) }
    default: break
    }
  }

  private mutating func newLine() {
    if row + 1 < cells.count {
      row += 1
    } else {
      cells.removeFirst()
      cells.append([])
      scrolled += 1
    }
  }
}

enum PseudoTerminal {
  /// Two refreshes of `status --watch` on a terminal of that size.
  static func watch(
    _ size: (columns: Int, rows: Int), _ pipeline: Pipeline, environment: [String: String]
  ) throws -> TerminalScreen {
    var window = winsize(
      ws_row: UInt16(size.rows), ws_col: UInt16(size.columns), ws_xpixel: 0, ws_ypixel: 0)
    var (own, other): (Int32, Int32) = (-1, -1)
    guard openpty(&own, &other, nil, nil, &window) == 0 else {
      throw NeverHappened(description: "no pseudo terminal")
    }
    defer { close(own) }
    let process = Process()
    process.executableURL = URL(filePath: ChildProcess.product("meterctl"))
    process.arguments = ["status", "--watch", "--interval", "100ms"]
    var variables = ProcessInfo.processInfo.environment
    variables["NO_COLOR"] = nil
    variables["TERM"] = "xterm-256color"
    variables["METER_KAFKA_BROKERS"] = pipeline.log.brokers
    variables["METER_KAFKA_CONFIG_FILE"] = GivenKafka.configFile(for: pipeline.log.brokers)
    variables["METER_DATABASE_URL"] = pipeline.database.url
    process.environment = variables.merging(environment) { $1 }
    process.standardInput = FileHandle.nullDevice
    process.standardOutput = FileHandle(fileDescriptor: other)
    process.standardError = FileHandle.nullDevice
    try process.run()
    close(other)
    defer {
      kill(process.processIdentifier, SIGKILL)
      process.waitUntilExit()
    }
    var screen = TerminalScreen(columns: size.columns, rows: size.rows)
    var bytes: [UInt8] = []
    var buffer = [UInt8](repeating: 0, count: 4_096)
    // When the third refresh begins, the second one is complete.
    while screen.refreshes < 3 {
      let count = read(own, &buffer, buffer.count)
      guard count > 0 else { throw NeverHappened(description: "status ended: \(screen.lines)") }
      bytes += buffer[..<count]
      guard let end = bytes.lastIndex(of: 0x0A) else { continue }
      screen.take(String(decoding: bytes[...end], as: UTF8.self))
      bytes.removeSubrange(...end)
    }
    return screen
  }
}
