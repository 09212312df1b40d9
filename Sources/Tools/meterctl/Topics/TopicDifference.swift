import KafkaTransport

/// One property in which a topic of the cluster differs from its file.
struct TopicDifference: Equatable, Sendable {
  enum Remedy: String, Sendable {
    case create
    case alter
    /// `meterctl topics apply` does not change this.
    case byHand = "by_hand"
    /// Nothing is to be done, because the topic was grown as `meterctl topics grow` does it.
    case nothing = "none"
  }

  var topic: String
  /// `topic`, `partitions`, `replication` or the name of a setting.
  var property: String
  var wanted: String
  var found: String?
  var remedy: Remedy

  /// All differences. If the broker does not show its settings (nil), only the partitions are
  /// compared.
  static func all(_ spec: TopicSpec, _ found: KafkaAdmin.TopicDescription?) -> [TopicDifference] {
    guard let found else {
      return [
        TopicDifference(
          topic: spec.name, property: "topic", wanted: "\(spec.partitions) partitions", found: nil,
          remedy: .create)
      ]
    }
    var result: [TopicDifference] = []
    func add(_ property: String, _ wanted: String, _ found: String?, _ remedy: Remedy) {
      guard wanted != found else { return }
      result.append(
        TopicDifference(
          topic: spec.name, property: property, wanted: wanted, found: found, remedy: remedy))
    }
    add(
      "partitions", String(spec.partitions), String(found.partitions),
      isDoubled(spec.partitions, found.partitions) ? .nothing : .byHand)
    guard let config = found.config else { return result }
    add("replication", String(spec.replication), String(found.replication), .byHand)
    for setting in spec.config {
      let value = config.first { $0.name == setting.name }?.value
      add(setting.name, setting.value, value, .alter)
    }
    return result
  }

  /// Whether doubling leads from the file's number to the cluster's. A topic never shrinks, and
  /// consumers halt partitions that did not come by `meterctl topics grow`. So the larger number is
  /// no difference that anybody has to end.
  static func isDoubled(_ wanted: Int, _ found: Int) -> Bool {
    var grown = wanted
    while grown < found { grown *= 2 }
    return grown == found
  }

  var text: String {
    switch property {
    case "partitions" where remedy == .nothing:
      "\(topic): \(found ?? "?") partitions, grown from the \(wanted) of its file"
    case "topic": "\(topic): missing, wanted with \(wanted)"
    case "partitions":
      """
      \(topic): \(found ?? "?") partitions, wanted \(wanted). meterctl never changes this, because events of a license \
      would change partitions and count twice. To double the partitions: stop the producers (they spool), wait for \
      lag 0, then run: meterctl topics grow \(topic)
      """
    case "replication":
      "\(topic): \(found ?? "?") copies, wanted \(wanted): kafka-reassign-partitions.sh changes them"
    default: "\(topic): \(property) is \(found ?? "not set"), wanted \(wanted)"
    }
  }

  var json: JSON {
    [
      "topic": .text(topic), "property": .text(property), "wanted": .text(wanted),
      "found": .optional(found), "remedy": .text(remedy.rawValue),
    ]
  }
}
