import Crypto
import Foundation
import Testing

/// The rules of the house that neither the compiler nor swift-format enforces.
///
/// Each list of exceptions may only shrink. Remove a name when its reason is gone, and add none.
@Suite struct TidyTests {
  // MARK: Size

  /// Files with more than 400 lines, and how many they may have.
  static let longFiles: [String: Int] = [:]

  @Test func `A source file has at most 400 lines`() throws {
    for file in try Repository.swift("Sources") {
      let most = Self.longFiles[file.path] ?? 400
      #expect(file.lines.count <= most, "\(file.path) has \(file.lines.count) lines")
    }
  }

  /// swift-format wraps code, but it leaves comments and strings alone.
  @Test func `Lines of more than 100 columns become fewer`() throws {
    let files = try Repository.swift("Sources") + Repository.swift("Tests")
    let long = files.flatMap { file in
      file.lines.enumerated().filter { $0.element.count > 100 }.map {
        "\(file.path):\($0.offset + 1)"
      }
    }
    #expect(long.count <= 580, "break these: \(long.suffix(20).joined(separator: "\n"))")
  }

  // MARK: Words

  @Test func `There is no forced try and no unfinished work`() throws {
    for file in try Repository.swift("Sources") + Repository.swift("Tests")
    where !file.path.hasPrefix("Tests/TidyTests") {
      for (i, line) in file.lines.enumerated() {
        for word in ["try!", "TODO", "FIXME"] {
          #expect(!line.contains(word), "\(file.path):\(i + 1) has \(word)")
        }
      }
    }
  }

  /// Text that shows an implementation of a small tool, and the files that may contain it.
  ///
  /// Recount implements everything that it needs itself, so that it shares nothing with what it
  /// checks. The benchmarks and tests name temporary files with `UUID()`.
  static let tools: [(mark: String, home: [String])] = [
    ("%02x", []), ("\"0123456789abcdef\"", []),
    ("\\\\u00", ["Sources/Tools/meterctl/Traffic/Garbage.swift"]),
    ("gmtime_r", []), ("strftime", []), ("ISO8601", []), (".iso8601", []),
    ("0xBF58_476D_1CE4_E5B9", ["Sources/Core/Metering/SplitMix64.swift"]),
    ("SystemRandomNumberGenerator", ["Sources/IO/SystemRandom/SystemRandom.swift"]),
    ("UInt8.random(in:", ["Sources/IO/SystemRandom/SystemRandom.swift"]),
    ("sqlState: \"", []), ("sqlState == \"", []),
    ("UInt32.random(in:", []), ("UInt64.random(in:", []), ("UUID()", []),
  ]

  @Test func `A small tool exists once`() throws {
    for file in try Repository.swift("Sources") where file.target != "Benchmarks" {
      for (i, line) in file.lines.enumerated() {
        let text = line.drop { $0 == " " }
        guard !text.hasPrefix("//") else { continue }
        for tool in Self.tools where !tool.home.contains(file.path) {
          #expect(!text.contains(tool.mark), "\(file.path):\(i + 1) has \(tool.mark)")
        }
      }
    }
  }

  @Test func `A topic's name is written once`() throws {
    for file in try Repository.swift("Sources")
    where file.path != "Sources/Core/Metering/LogNames.swift" && file.target != "Benchmarks" {
      for name in ["usage", "validations", "dead-letter"] {
        let isWritten = file.lines.contains { $0.contains("\"license.\(name).v1\"") }
        #expect(!isWritten, "\(file.path) writes license.\(name).v1")
      }
    }
  }

  /// `meterctl migrate` works on databases whose schema does not fit.
  @Test func `The schema is checked where connections are opened`() throws {
    for file in try Repository.swift("Sources")
    where file.target != "PostgresStore" && !file.path.hasSuffix("meterctl/Schema/Migrate.swift") {
      #expect(!file.lines.contains { $0.contains("Schema.state(") }, "\(file.path)")
    }
  }

  /// The pauses between two looks at something, and the times for which a fault lasts.
  static let pausingTests = [
    "Tests/EventPublisherTests/PublisherTests.swift": 2,
    "Tests/IntegrationTests/ChaosTests.swift": 5,
    "Tests/IntegrationTests/PartitionFaultTests.swift": 2,
    "Tests/IntegrationTests/RollingRestartTests.swift": 1,
    "Tests/LogConsumerTests/FarewellTests.swift": 1,
    "Tests/MeteringTestKit/Eventually.swift": 1,
    "Tests/MeteringTestKit/PostgresProxy.swift": 1,
    "Tests/PublishProbe/PublishProbe.swift": 2,
    "Tests/ServiceRuntimeTests/ServiceMainTests.swift": 3,
    "Tests/ValidationServiceTests/ListenerTests.swift": 2,
    "Tests/WebhookDispatcherTests/DeliveryChaosTests.swift": 1,
  ]

  @Test func `Tests wait for signals, and no new one sleeps`() throws {
    for file in try Repository.swift("Tests") where !file.path.hasPrefix("Tests/TidyTests") {
      let pauses = file.lines.count { line in
        ["Thread.sleep(", "Task.sleep(", "usleep(", " sleep("].contains { line.contains($0) }
          && !line.contains("pg_sleep")
      }
      let most = Self.pausingTests[file.path] ?? 0
      #expect(pauses <= most, "\(file.path) sleeps \(pauses) times")
    }
  }

  /// A wait of Dispatch or `NSCondition` with a time limit ends at a time of day, so setting the
  /// clock back makes it longer by the same amount. `MonotonicCondition` and `Wakeup` do not have
  /// this problem.
  @Test func `No wait with a time limit depends on the time of day`() throws {
    for file in try Repository.swift("Sources") where file.target != "Benchmarks" {
      for (i, line) in file.lines.enumerated() {
        for call in [
          "wait(timeout:", "wait(wallTimeout:", "wait(until: Date", "wait(until: .init(",
        ] {
          #expect(!line.contains(call), "\(file.path):\(i + 1) has \(call)")
        }
      }
    }
  }

  // MARK: Floors

  private static let foreignToCore: Set = [
    "Crypto", "CryptoExtras", "FoundationEssentials", "RealModule", "Mustache",
  ]
  /// The only files that may ask for a time zone or a special function.
  private static let foundationInCore = [
    "Sources/Core/Billing/Usage/UsageProjection.swift",
    "Sources/Core/Billing/Usage/UsageZone.swift",
  ]

  @Test func `Core imports Core, and IO imports no other floor but Metering`() throws {
    let io = Set(try Repository.names("Sources/IO"))
    let core = Set(try Repository.names("Sources/Core"))
    for file in try Repository.swift("Sources/Core") {
      for name in file.imports where !core.contains(name) && !Self.foreignToCore.contains(name) {
        let isAllowed = name == "Foundation" && Self.foundationInCore.contains(file.path)
        #expect(isAllowed, "\(file.path) imports \(name)")
      }
    }
    for file in try Repository.swift("Sources/IO") {
      for name in file.imports where core.contains(name) && name != "Metering" {
        #expect(file.target == "DomainNames" && name == "Licensing", "\(file.path): \(name)")
      }
      for name in file.imports where io.contains(name) {
        // A C library has one owner, and our own modules do not import each other.
        let isOwned = name.hasPrefix("C") && name != file.target
        #expect(isOwned, "\(file.path) imports \(name)")
      }
    }
  }

  @Test func `A C library of the system is imported only by its owner`() throws {
    let owners = [
      "CRdKafka": "KafkaTransport", "CLibPQ": "PostgresStore", "CLibPSL": "DomainNames",
      "CLibIDN2": "DomainNames", "CChecksum": "EventPublisher",
    ]
    for file in try Repository.swift("Sources") {
      for name in file.imports {
        if let owner = owners[name] { #expect(file.target == owner, "\(file.path): \(name)") }
      }
    }
  }

  @Test func `Nothing imports a floor above it`() throws {
    let above = [
      "Core": ["IO", "Libraries", "Services", "Tools"], "IO": ["Libraries", "Services", "Tools"],
      "Libraries": ["Services", "Tools"], "Services": ["Services", "Tools"], "Tools": ["Services"],
    ]
    var targets: [String: Set<String>] = [:]
    for floor in above.keys { targets[floor] = Set(try Repository.names("Sources/\(floor)")) }
    for file in try Repository.swift("Sources") {
      for floor in file.floor.flatMap({ above[$0] }) ?? [] {
        for name in file.imports where targets[floor]?.contains(name) == true {
          Issue.record("\(file.path) imports \(name) of \(floor)")
        }
      }
    }
  }

  @Test func `No source imports a test, except for the benchmarks' databases and logs`() throws {
    let tests = Set(try Repository.names("Tests"))
    for file in try Repository.swift("Sources") {
      for name in file.imports where tests.contains(name) {
        #expect(
          file.target == "Benchmarks" && name == "MeteringTestKit", "\(file.path) imports \(name)")
      }
    }
  }

  /// The benchmarks fill databases in a way that no other program does.
  @Test func `SQL is written in PostgresStore`() throws {
    for file in try Repository.swift("Sources")
    where file.target != "PostgresStore" && file.target != "Benchmarks" {
      let statements = file.lines.count { line in
        let text = line.drop { $0 == " " }
        return ["select ", "insert into ", "delete from "].contains {
          text.hasPrefix($0) || text.contains("\"" + $0)
        } || text.hasPrefix("update ") && text.contains(" set ") || text.contains("\"update ")
      }
      #expect(statements == 0, "\(file.path) begins \(statements) statements")
    }
  }

  // MARK: Records

  @Test func `Decisions are numbered without a gap`() throws {
    let names = try Repository.names("docs/decisions").filter { $0 != "README.md" }
    #expect(names.map { Int($0.prefix(4)) } == (1...names.count).map { $0 })
  }

  @Test func `A migration that was released never changes, and a new one takes the next number`()
    throws
  {
    let folder = "Sources/IO/PostgresStore/Migrations"
    let list = try String(
      contentsOf: Repository.root.appending(path: "Tests/TidyTests/migrations.sha256"),
      encoding: .utf8)
    for line in list.split(separator: "\n") {
      let words = line.split(separator: " ")
      let file = Repository.root.appending(path: "\(folder)/\(words[1])")
      let hash = SHA256.hash(data: try Data(contentsOf: file))
      let text = hash.map { String($0 >> 4, radix: 16) + String($0 & 15, radix: 16) }.joined()
      #expect(text == words[0], "\(words[1]) was changed: write the next migration")
    }
    let numbers = try Repository.names(folder).map { Int($0.dropFirst().prefix(4)) }
    #expect(numbers == (1...numbers.count).map { $0 })
  }
}
