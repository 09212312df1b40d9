import Foundation
import Metering
import Testing

@testable import PostgresStore

/// Facts that both Swift and SQL state are the same in both.
@Suite struct SchemaContractTests {
  private static let root = URL(filePath: #filePath)
    .deletingLastPathComponent().deletingLastPathComponent().deletingLastPathComponent()

  /// The files of `Schema/<folder>`, without comments, by name.
  private static func schema(_ folder: String) throws -> [String: String] {
    let url = root.appending(path: "Sources/IO/PostgresStore/Schema/\(folder)")
    var files: [String: String] = [:]
    for name in try FileManager.default.contentsOfDirectory(atPath: url.path) {
      let text = try String(contentsOf: url.appending(path: name), encoding: .utf8)
      files[String(name.dropLast(4))] = text.split(separator: "\n")
        .map { $0.components(separatedBy: "--")[0] }
        .joined(separator: "\n")
    }
    return files
  }

  private static func swift() throws -> [String: String] {
    let url = root.appending(path: "Sources")
    let found = FileManager.default.enumerator(at: url, includingPropertiesForKeys: nil)
    var files: [String: String] = [:]
    while let file = found?.nextObject() as? URL {
      guard file.pathExtension == "swift" else { continue }
      files[file.lastPathComponent] = try String(contentsOf: file, encoding: .utf8)
    }
    return files
  }

  private static func matches(_ pattern: String, _ text: String) throws -> [String] {
    try text.matches(of: Regex(pattern, as: (Substring, Substring).self)).map {
      String($0.output.1)
    }
  }

  @Test func `Functions raise the states that code decides by, and no others`() throws {
    let functions = try Self.schema("functions")
    let raised = try functions.values.flatMap { try Self.matches("errcode = '([A-Z0-9]{5})'", $0) }
    #expect(Set(raised) == Set(SQLState.raised))
  }

  @Test func `Numbered locks are the same in both, and no number is used twice`() throws {
    let functions = try Self.schema("functions").filter { $0.key.hasSuffix("lock_key") }
    let numbers = try functions.mapValues { try Self.matches(#"\$\$\s*select (\d+)"#, $0) }
    let known = SchemaContract.LockNumber.allCases
    #expect(Set(numbers.keys) == Set(known.compactMap(\.function)))
    for lock in known {
      guard let function = lock.function else { continue }
      #expect(numbers[function] == [String(lock.rawValue)])
    }
  }

  @Test func `Named locks are all known, and none begins like another`() throws {
    let named = #"hashtextextended\('([^']*)'"#
    let sql = try Self.schema("functions").values.flatMap { try Self.matches(named, $0) }
    let swift = try Self.swift()
    // Swift code takes a lock by its name in the contract.
    for (file, text) in swift where file != "AdvisoryLock.swift" {
      #expect(!text.contains("advisory_lock") && !text.contains("advisory_xact"), "\(file)")
    }
    let names = SchemaContract.LockName.allCases
    let used = names.filter { name in
      sql.contains(name.rawValue)
        || swift.contains { $0.value.contains("ock(.\(name)") || $0.value.contains("on(.\(name)") }
    }
    #expect(used == names)
    #expect(Set(sql).isSubset(of: Set(names.map(\.rawValue))))
    for one in names {
      for other in names where other != one {
        #expect(!other.rawValue.hasPrefix(one.rawValue))
      }
    }
  }

  @Test func `Rows are kept as long as Swift says`() throws {
    let days = #"interval '(\d+) days'"#
    let functions = try Self.schema("functions")
    func kept(_ function: String) throws -> Set<String> {
      Set(try Self.matches(days, try #require(functions[function])))
    }
    let records = [String(SchemaContract.recordDays)]
    #expect(
      try kept("usage_retain_in")
        == [String(SchemaContract.minuteDays), String(SchemaContract.hourDays)])
    #expect(try kept("usage_meter_hours_fold") == [String(SchemaContract.meterHourDays)])
    for name in ["alert_retain", "dead_letter_retain", "producer_report_retain"] {
      #expect(try kept(name) == Set(records), "\(name)")
    }
  }

  @Test func `Grace, cool-down and the largest quantity are what Swift says`() throws {
    let functions = try Self.schema("functions")
    let expiry = try #require(functions["expiry_notices_raise"])
    // Notices begin 14, 3 and 1 days before the end, and stop 30 days after the grace.
    let grace = SchemaContract.graceDays
    #expect(
      Set(try Self.matches(#"interval '(\d+) days?'"#, expiry))
        == ["14", "3", "1", String(grace), String(grace + 30)])
    let burst = try #require(functions["suspicious_activity_raise"])
    #expect(
      Set(try Self.matches(#"interval '(\d+) hour'"#, burst))
        == [String(SchemaContract.coolDownMinutes / 60)])
    #expect(SchemaContract.coolDownMinutes % 60 == 0)
    let everything = try functions.merging(Self.schema("tables")) { $1 }
    let caps = try everything.values.flatMap { try Self.matches(#"\b(10{15,})\b"#, $0) }
    #expect(Set(caps) == [String(Limits.largestQuantity)])
  }
}
