import CRdKafka
import Foundation

/// The librdkafka settings that a client starts from.
///
/// The settings are the client's own defaults (which each client's docstring lists), then the
/// values of `set`, then the properties file. Later ones win.
package struct KafkaConfiguration: Sendable {
  private var own: [(String, String)]
  private var fromFile: [(String, String)]
  /// The names of our topics and groups at the brokers.
  package private(set) var names: TopicNames

  /// - Parameters:
  ///   - brokers: `host:port,…`
  ///   - propertiesFile: a file with lines of `key=value`. Empty lines and lines that start with
  ///     `#` are skipped, blanks around key and value are dropped, and later lines win.
  ///     `topic.prefix` is our own property, which is put before the names of all topics and
  ///     groups.
  /// - Throws: `KafkaError` (`_INVALID_ARG`) if the file cannot be read, a line has no `=`, or
  ///   librdkafka refuses a property. What properties are together is judged only when the client
  ///   is made.
  package init(brokers: String, propertiesFile: String? = nil) throws(KafkaError) {
    own = [("bootstrap.servers", brokers)]
    fromFile = try propertiesFile.map(Self.read) ?? []
    names = try Self.takeNames(&fromFile, propertiesFile ?? "")
    let trial = rd_kafka_conf_new()
    defer { rd_kafka_conf_destroy(trial) }
    for (key, value) in fromFile { try ClientHandle.set(trial, key, value) }
  }

  /// Our own property among those of librdkafka. It is in the file because all programs share that.
  private static let prefixProperty = "topic.prefix"

  private static func takeNames(
    _ properties: inout [(String, String)], _ path: String
  ) throws(KafkaError) -> TopicNames {
    let prefix = properties.last { $0.0 == prefixProperty }?.1 ?? ""
    properties.removeAll { $0.0 == prefixProperty }
    guard let names = TopicNames(checking: prefix) else {
      throw refusal(
        "\(path): \(prefixProperty) may have at most 200 letters, digits, \".\", \"_\" and \"-\"")
    }
    return names
  }

  /// Puts a prefix before the names of topics and groups.
  package mutating func name(with names: TopicNames) { self.names = names }

  /// The properties, in the order in which they are applied.
  package var properties: [(String, String)] { own + fromFile }

  /// Sets or replaces a property. The properties file still wins.
  package mutating func set(_ key: String, _ value: String) {
    own.removeAll { $0.0 == key }
    own.append((key, value))
  }

  /// Sets a property on which the caller's correctness depends, so that not even the file changes
  /// it.
  package mutating func insist(_ key: String, _ value: String) {
    fromFile.removeAll { $0.0 == key }
    set(key, value)
  }

  private static func read(_ path: String) throws(KafkaError) -> [(String, String)] {
    let text: String
    do {
      text = try String(contentsOfFile: path, encoding: .utf8)
    } catch {
      throw refusal("cannot read the properties file \(path)")
    }
    var found: [(String, String)] = []
    // This uses `isNewline` and not "\n", because in Swift "\r\n" is one Character that differs
    // from both.
    let lines = text.split(omittingEmptySubsequences: false, whereSeparator: \.isNewline)
    for (number, line) in lines.enumerated() {
      let line = line.trimmingCharacters(in: .whitespacesAndNewlines)
      if line.isEmpty || line.hasPrefix("#") { continue }
      guard let equals = line.firstIndex(of: "="), equals != line.startIndex else {
        // The line itself is not quoted, because it may be a part of a password.
        throw refusal("\(path), line \(number + 1): the line is not key=value")
      }
      found.append(
        (
          line[..<equals].trimmingCharacters(in: .whitespaces),
          line[line.index(after: equals)...].trimmingCharacters(in: .whitespaces)
        ))
    }
    return found
  }

  private static func refusal(_ detail: String) -> KafkaError {
    KafkaError(RD_KAFKA_RESP_ERR__INVALID_ARG, operation: "configure", detail: detail)
  }
}
