import ArgumentParser
import Foundation
import Metering

/// The parts of a topic's YAML file that the broker needs.
///
/// It scans for the two top-level lines `name:` and `partitions:` and is not a YAML parser.
/// `meterctl` reads these files in full. Here a parser would only add a dependency to a development
/// tool.
struct TopicFile: Equatable {
  var name: String
  var partitions: Int

  static let defaults = [
    TopicFile(name: TopicName.usage, partitions: 64),
    TopicFile(name: TopicName.validations, partitions: 64),
    TopicFile(name: TopicName.deadLetters, partitions: 8),
  ]

  /// - Returns: nil if the folder does not exist.
  static func all(in folder: String) throws -> [TopicFile]? {
    var isFolder: ObjCBool = false
    guard FileManager.default.fileExists(atPath: folder, isDirectory: &isFolder), isFolder.boolValue
    else { return nil }
    let names = try FileManager.default.contentsOfDirectory(atPath: folder)
      .filter { $0.hasSuffix(".yaml") || $0.hasSuffix(".yml") }
      .sorted()
    return try names.map { name in
      let path = folder + "/" + name
      let text = try String(contentsOfFile: path, encoding: .utf8)
      guard let topic = TopicFile(yaml: text) else {
        throw ValidationError("\(path): needs top-level lines name: and partitions:")
      }
      return topic
    }
  }

  /// Returns nil unless both lines exist and partitions is a number above 0.
  init?(yaml: String) {
    var values: [Substring: String] = [:]
    for line in yaml.split(whereSeparator: \.isNewline) {
      // Anything indented belongs to another key.
      guard let colon = line.firstIndex(of: ":"), line.first?.isLetter == true else { continue }
      let rest = line[line.index(after: colon)...].prefix { $0 != "#" }
      let value = rest.trimmingCharacters(in: CharacterSet(charactersIn: " \t\r\"'"))
      values[line[..<colon]] = value
    }
    guard
      let name = values["name"], !name.isEmpty,
      let partitions = values["partitions"].flatMap({ Int($0) }), partitions > 0
    else { return nil }
    self.init(name: name, partitions: partitions)
  }

  init(name: String, partitions: Int) {
    self.name = name
    self.partitions = partitions
  }
}
