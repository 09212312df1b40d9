package import PostgresStore

/// Dead letters that are sent again.
extension Administrator {
  /// Notes which dead letters the brokers took, with who sent them.
  ///
  /// - Parameter resource: what was chosen: `all`, a reason, or a place.
  package func markRequeued(
    _ places: [DeadLetterStore.Place], resource: String
  ) throws {
    guard !places.isEmpty else { return }
    try connection.transaction {
      try DeadLetterStore(connection).markRequeued(places)
      try record(
        AuditedChange(
          "dead_letter.requeue", "dead_letter", resource,
          after: #"{"requeued":\#(places.count)}"#))
    }
  }
}
