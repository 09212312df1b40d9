package import PostgresStore

/// Records dead letters that were sent again.
extension Administrator {
  /// Records which dead letters the brokers accepted, and who sent them.
  ///
  /// - Parameter resource: the choice, which is `all`, a reason, or a place.
  package func markRequeued(
    _ letters: [DeadLetterStore.Name], resource: String
  ) throws {
    guard !letters.isEmpty else { return }
    try connection.transaction {
      try DeadLetterStore(connection).markRequeued(letters)
      try record(
        AuditedChange(
          "dead_letter.requeue", "dead_letter", resource,
          after: #"{"requeued":\#(letters.count)}"#))
    }
  }
}
