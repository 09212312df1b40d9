import Foundation
import Yams

/// A topic as its YAML file describes it.
struct TopicSpec: Equatable, Sendable {
  var name: String
  var partitions: Int
  var replication: Int
  /// In the order of their names.
  var config: [Setting]

  struct Setting: Equatable, Sendable {
    var name: String
    var value: String
  }

  /// - Parameter path: only used in errors.
  init(yaml: String, path: String) throws {
    let root: Node?
    do { root = try Yams.compose(yaml: yaml) } catch { throw Failure("\(path): \(error)") }
    guard let mapping = root?.mapping else { throw Failure("\(path) is not a YAML mapping") }
    func text(_ key: String) -> String? { mapping[Node(key)]?.scalar?.string }
    func count(_ key: String, _ range: ClosedRange<Int>) throws -> Int {
      guard let value = text(key).flatMap({ Int($0) }), range.contains(value) else {
        throw Failure(
          "\(path): \(key) must be a number from \(range.lowerBound) to \(range.upperBound)")
      }
      return value
    }
    guard let name = text("name"), Self.isTopicName(name) else {
      throw Failure("\(path): name must be a topic's name: up to 249 of A-Z a-z 0-9 . _ -")
    }
    self.name = name
    partitions = try count("partitions", 1...10_000)
    replication = try count("replication", 1...32)
    config = []
    guard let settings = mapping[Node("config")] else { return }
    guard let pairs = settings.mapping else {
      throw Failure("\(path): config must be a mapping of names to values")
    }
    for (key, value) in pairs {
      guard let key = key.scalar?.string, let value = value.scalar?.string else {
        throw Failure("\(path): config must be a mapping of names to single values")
      }
      config.append(Setting(name: key, value: value))
    }
    config.sort { $0.name < $1.name }
  }

  /// For clusters with fewer brokers than the files expect. `min.insync.replicas` never exceeds the
  /// number of copies, because no write would be acknowledged then.
  mutating func useReplication(_ copies: Int) {
    replication = copies
    for i in config.indices where config[i].name == "min.insync.replicas" {
      if let wanted = Int(config[i].value) { config[i].value = String(min(wanted, copies)) }
    }
  }

  private static func isTopicName(_ name: String) -> Bool {
    (1...249).contains(name.utf8.count) && name != "." && name != ".."
      && name.unicodeScalars.allSatisfy {
        ("a"..."z").contains($0) || ("A"..."Z").contains($0) || ("0"..."9").contains($0)
          || $0 == "." || $0 == "_" || $0 == "-"
      }
  }

  /// The topics of `--folder`, otherwise of `./topics` if it has topic files, otherwise the
  /// built-in ones.
  static func all(folder: String?) throws -> [TopicSpec] {
    if let folder { return try all(in: folder) }
    // A folder that cannot be read is not used. The built-in files are always there.
    if let names = try? FileManager.default.contentsOfDirectory(atPath: "topics"),
      names.contains(where: isTopicFile)
    {
      return try all(in: "topics")
    }
    return try DefaultTopics.topics.map { try TopicSpec(yaml: $0.text, path: $0.path) }
  }

  private static func isTopicFile(_ name: String) -> Bool {
    name.hasSuffix(".yaml") || name.hasSuffix(".yml")
  }

  /// All topic files of a folder, in the order of their names.
  private static func all(in folder: String) throws -> [TopicSpec] {
    let names: [String]
    do { names = try FileManager.default.contentsOfDirectory(atPath: folder) } catch {
      throw Failure(
        "the folder \(folder) cannot be read; use --folder to name the folder of topic files")
    }
    let files = names.filter(isTopicFile).sorted()
    guard !files.isEmpty else { throw Failure("there is no .yaml file in \(folder)") }
    var specs: [TopicSpec] = []
    for file in files {
      let path = folder + "/" + file
      guard let data = FileManager.default.contents(atPath: path),
        let text = String(data: data, encoding: .utf8)
      else { throw Failure("\(path) cannot be read as UTF-8 text") }
      let spec = try TopicSpec(yaml: text, path: path)
      if specs.contains(where: { $0.name == spec.name }) {
        throw Failure("\(path): \(spec.name) has another file in the same folder")
      }
      specs.append(spec)
    }
    return specs
  }
}
