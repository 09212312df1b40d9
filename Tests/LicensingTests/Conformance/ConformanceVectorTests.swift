import Foundation
import JSONText
import Metering
import Testing

@testable import Licensing

/// One file of vectors, with one case on each line, so that a change shows as lines.
struct VectorFile {
  private var lines: [String] = []
  private var head = ""

  init(about: String, keySets: Bool = false) {
    var json = JSONWriter()
    json.member("about", about)
    if keySets {
      json.name("keySets")
      json.beginObject()
      for set in VectorKeys.sets {
        json.name(set.name)
        json.raw(set.json)
      }
      json.endObject()
    }
    head = String(decoding: json.bytes, as: UTF8.self)
  }

  mutating func add(_ name: String?, _ write: (inout JSONWriter) -> Void) {
    var json = JSONWriter()
    json.beginObject()
    if let name { json.member("name", name) }
    write(&json)
    json.endObject()
    lines.append(String(decoding: json.bytes, as: UTF8.self))
  }

  var text: String { "{\(head),\n\"cases\":[\n\(lines.joined(separator: ",\n"))\n]}\n" }
}

/// The vectors with which every SDK is tested are what this library makes and decides.
/// `METER_TEST_WRITE_VECTORS=1` writes them.
struct ConformanceVectorTests {
  static let folder = URL(filePath: #filePath).deletingLastPathComponent()
    .appending(path: "../../../sdks/conformance/vectors").standardizedFileURL

  static let names = ["licenses", "verdicts", "domains", "covers", "offline", "keysets"]

  static func file(_ name: String) -> VectorFile {
    var file = VectorFile(
      about: "Made by Tests/LicensingTests/Conformance. Do not edit.",
      keySets: ["licenses", "verdicts", "offline"].contains(name))
    switch name {
    case "licenses": LicenseVectors.write(to: &file)
    case "verdicts": VerdictVectors.write(to: &file)
    case "domains": DomainVectors.write(to: &file)
    case "covers": DomainVectors.writeCovers(to: &file)
    case "offline": TimeVectors.write(to: &file)
    default: KeySetVectors.write(to: &file)
    }
    return file
  }

  @Test("The conformance vectors are what the library makes and decides", arguments: names)
  func files(_ name: String) throws {
    let path = Self.folder.appending(path: name + ".json")
    let made = Self.file(name).text
    if ProcessInfo.processInfo.environment["METER_TEST_WRITE_VECTORS"] != nil {
      try FileManager.default.createDirectory(at: Self.folder, withIntermediateDirectories: true)
      try Data(made.utf8).write(to: path)
    }
    let kept = try String(decoding: Data(contentsOf: path), as: UTF8.self)
    let (keptLines, madeLines) = (Self.settled(kept), Self.settled(made))
    #expect(keptLines.count == madeLines.count)
    for (kept, made) in zip(keptLines, madeLines) { #expect(kept == made) }
  }

  @Test("Tokens of ES256 in the vectors, which no two signers spell alike, are verified as stored")
  func ecdsa() throws {
    let licenses = try Self.cases("licenses").filter { Self.header($0).contains("ES256") }
    #expect(licenses.count > 5)
    for members in licenses {
      let token = try #require(members["token"]?.text)
      let verifier = LicenseVerifier(keys: VectorKeys.keys(members["keys"]?.text ?? ""))
      let claims = try? verifier.verify(token)
      #expect((claims == nil) == (members["claims"] == nil), "\(token)")
    }
  }

  @Test("Every set of keys that the vectors name is well-formed")
  func keySets() throws {
    for set in VectorKeys.sets {
      #expect(throws: Never.self) { try JSONWebKeySet(json: set.json.utf8) }
    }
  }

  private static func cases(_ name: String) throws -> [[JSONMember]] {
    let data = try Data(contentsOf: folder.appending(path: name + ".json"))
    let members = try JSONReader.parse(Array(data)).members
    return members?["cases"]?.elements?.compactMap(\.members) ?? []
  }

  private static func header(_ members: [JSONMember]) -> String {
    let head = members["token"]?.text?.prefix { $0 != "." } ?? ""
    return Base64URL.decode(Array(head.utf8)).map { String(decoding: $0, as: UTF8.self) } ?? ""
  }

  /// The lines without the signatures of ES256, which contain a random number.
  private static func settled(_ text: String) -> [String] {
    text.split(separator: "\n").map { line in
      let line = String(line)
      guard
        let members =
          (try? JSONReader.parse(
            Array(line.utf8.prefix { $0 != 0 })
              .dropLast(line.hasSuffix(",") ? 1 : 0)))?.members,
        header(members).contains(#""ES256""#), let token = members["token"]?.text,
        let dot = token.lastIndex(of: ".")
      else { return line.hasSuffix(",") ? String(line.dropLast()) : line }
      return (line.hasSuffix(",") ? String(line.dropLast()) : line)
        .replacing(token[dot...], with: ".")
    }
  }
}
