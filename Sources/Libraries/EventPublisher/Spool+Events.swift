/// How events are kept in a spool: in which topic, with how much of the room, and spelled how.
extension UsageEvent: Spool.Event {
  static var topic: Int { 0 }
  var share: Spool.Share { .whole }

  func encode(
    _ encoder: inout EventEncoder, producer: String, sequence: Int64, now: Int64
  ) -> PublishOutcome.Reason? {
    encoder.encode(self, producer: producer, sequence: sequence, now: now)
  }
}

extension ValidationEvent: Spool.Event {
  static var topic: Int { 1 }
  /// A stranger can invent licenses and signatures as fast as they are answered.
  var share: Spool.Share {
    code == "not_found" || code == "invalid_signature" ? .quarter : .half
  }

  func encode(
    _ encoder: inout EventEncoder, producer: String, sequence: Int64, now: Int64
  ) -> PublishOutcome.Reason? {
    encoder.encode(self, producer: producer, sequence: sequence, now: now)
  }
}
