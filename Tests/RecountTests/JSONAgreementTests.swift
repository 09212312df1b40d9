import Foundation
import JSONText
import Metering
import Recount
import Testing

/// Other readers also read the random documents, whole and damaged.
@Suite("Agreement with other readers of JSON")
struct JSONAgreementTests {
  static let python = "/usr/bin/python3"

  private func randomString(_ random: inout SplitMix64) -> String {
    let pieces = [
      "a", "B", " ", "/", "\\/", "\\\"", "\\\\", "\\n", "\\t", "\\u0041", "\\u00e9", "é", "€",
      "😀", "\\ud83d\\ude00", "\\u0001", "{", "]", ",", ":",
    ]
    let count = Int.random(in: 0...6, using: &random)
    return "\"" + (0..<count).map { _ in pieces.randomElement(using: &random)! }.joined() + "\""
  }

  private func randomDocument(_ depth: Int, _ random: inout SplitMix64) -> String {
    let space = ["", "", "", " ", "\n", "\t\r"].randomElement(using: &random)!
    switch Int.random(in: 0..<(depth > 4 ? 4 : 7), using: &random) {
    case 0: return ["true", "false", "null"].randomElement(using: &random)!
    case 1: return "\(Int.random(in: -1_000_000...1_000_000, using: &random))"
    case 2: return ["-0.5", "1.25", "3e2", "25E-2", "0.0", "1e+3"].randomElement(using: &random)!
    case 3: return randomString(&random)
    case 4, 5:
      // Names are numbered, because JSONSerialization keeps one of two equal names, and not always
      // the last.
      let members = (0..<Int.random(in: 0...4, using: &random)).map { index in
        "\"\(index)" + randomString(&random).dropFirst() + space + ":" + space
          + randomDocument(depth + 1, &random)
      }
      return "{" + space + members.joined(separator: "," + space) + space + "}"
    default:
      let elements = (0..<Int.random(in: 0...4, using: &random)).map { _ in
        randomDocument(depth + 1, &random)
      }
      return "[" + space + elements.joined(separator: space + ",") + space + "]"
    }
  }

  /// Both sides as one text, with sorted names, numbers as doubles, and booleans as 0 and 1. (On
  /// Linux, NSDictionary's own equality distinguishes bridged booleans from made ones.)
  private func rendered(_ value: JSONValue) throws -> String {
    switch value {
    case .null: return "null"
    case .bool(let flag): return flag ? "1.0" : "0.0"
    case .number(let token): return "\(try #require(Double(token)) + 0)"
    case .string(let string): return "\(string.bytes)"
    case .array(let elements):
      return "[" + (try elements.map(rendered)).joined(separator: ",") + "]"
    case .object(let members):
      let pairs = try members.map { "\($0.name.bytes):" + (try rendered($0.value)) }
      return "{" + pairs.sorted().joined(separator: ",") + "}"
    }
  }

  private func rendered(_ value: Any) throws -> String {
    switch value {
    case let text as String: return "\(bytes(text))"
    case let number as NSNumber: return "\(number.doubleValue + 0)"
    case let elements as [Any]:
      return "[" + (try elements.map { try rendered($0) }).joined(separator: ",") + "]"
    case let members as [String: Any]:
      let pairs = try members.map { "\(bytes($0.key)):" + (try rendered($0.value)) }
      return "{" + pairs.sorted().joined(separator: ",") + "}"
    default: return "null"
    }
  }

  @Test("Values are those that Foundation reads", arguments: 1...300)
  func agreesWithFoundation(seed: UInt64) throws {
    var random = SplitMix64(seed: seed)
    let document = randomDocument(0, &random)
    let value = try JSONReader.parse(bytes(document))
    let other = try JSONSerialization.jsonObject(
      with: Data(document.utf8), options: .fragmentsAllowed)
    #expect(try rendered(value) == rendered(other as Any), "\(document)")
  }

  @Test(
    "Damaged documents are accepted and refused just as python3 does it",
    .enabled(if: FileManager.default.isExecutableFile(atPath: python)))
  func agreesWithPython() throws {
    var random = SplitMix64(seed: 4711)
    var documents: [[UInt8]] =
      JSONReaderTests.accepted.map(bytes) + JSONReaderTests.refused.map(bytes)
      + JSONReaderTests.malformed.map { [0x22] + $0 + [0x22] }
    for _ in 0..<4_000 {
      var document = bytes(randomDocument(0, &random))
      for _ in 0..<Int.random(in: 0...2, using: &random) where !document.isEmpty {
        let index = Int.random(in: 0..<document.count, using: &random)
        switch Int.random(in: 0..<4, using: &random) {
        case 0: document[index] ^= 1 << UInt8.random(in: 0..<8, using: &random)
        case 1: document.remove(at: index)
        case 2: document.insert(bytes("{}[]\",:\\ue0-1.").randomElement(using: &random)!, at: index)
        default: document.removeLast(document.count - index)
        }
      }
      documents.append(document)
    }
    let answers = try askPython(documents)
    try #require(answers.count == documents.count)
    for (document, isValid) in zip(documents, answers) {
      let isRead = (try? JSONReader.parse(document)) != nil  // only whether it is read
      #expect(isRead == isValid, "\(String(decoding: document, as: UTF8.self))")
    }
  }

  /// One answer for each document: whether Python's strict reader accepts it.
  private func askPython(_ documents: [[UInt8]]) throws -> [Bool] {
    let script = """
      import json, sys
      def refuse(name): raise ValueError(name)
      for line in open(sys.argv[1]):
          try:
              json.loads(bytes.fromhex(line).decode("utf-8"), parse_constant=refuse)
              print(1)
          except (ValueError, RecursionError):
              print(0)
      """
    let file = FileManager.default.temporaryDirectory.appending(path: "recount-\(UUID()).hex")
    defer { try? FileManager.default.removeItem(at: file) }  // a leftover does no harm
    let digits = bytes("0123456789abcdef")
    let hex = documents.flatMap { document in
      document.flatMap { [digits[Int($0 >> 4)], digits[Int($0 & 15)]] } + bytes("\n")
    }
    try Data(hex).write(to: file)
    let process = Process()
    process.executableURL = URL(filePath: Self.python)
    process.arguments = ["-c", script, file.path]
    let output = Pipe()
    process.standardOutput = output
    try process.run()
    let answer = try output.fileHandleForReading.readToEnd() ?? Data()
    process.waitUntilExit()
    return String(decoding: answer, as: UTF8.self).split(separator: "\n").map { $0 == "1" }
  }
}
