/// The statements that one connection has prepared. Their number is limited: the one that was not
/// used for the longest time gives way to a new one.
struct KeptStatements {
  /// A plan over the partitions of a year takes some hundred kilobytes in the server.
  static let most = 32

  private struct Entry {
    var name: String
    var used: Int
  }

  private var entries: [String: Entry] = [:]
  private var made = 0
  private var clock = 0
  /// Whether the server has statements that are forgotten here.
  private(set) var hasForgotten = false

  var count: Int { entries.count }

  /// The name of a statement that is prepared.
  mutating func name(of sql: String) -> String? {
    clock += 1
    entries[sql]?.used = clock
    return entries[sql]?.name
  }

  /// - Returns: a name that was never used before, and the name of the statement that gives way.
  mutating func add(_ sql: String) -> (name: String, evicted: String?) {
    var evicted: String?
    if entries.count >= Self.most, let oldest = entries.min(by: { $0.value.used < $1.value.used }) {
      evicted = oldest.value.name
      entries[oldest.key] = nil
    }
    made += 1
    clock += 1
    let name = "meter_\(made)"
    entries[sql] = Entry(name: name, used: clock)
    return (name, evicted)
  }

  /// Forgets a statement that could not be prepared.
  mutating func remove(_ sql: String) { entries[sql] = nil }

  /// Forgets all statements after the schema has changed or the server has dropped them.
  mutating func forgetAll() {
    entries = [:]
    hasForgotten = true
  }

  mutating func deallocatedAll() { hasForgotten = false }
}
