/// How a spool stores events: their topic, their share of the room, and their encoding.
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
  /// Strangers can invent licenses and signatures as fast as they are answered.
  var share: Spool.Share {
    code == "not_found" || code == "invalid_signature" ? .quarter : .half
  }

  func encode(
    _ encoder: inout EventEncoder, producer: String, sequence: Int64, now: Int64
  ) -> PublishOutcome.Reason? {
    encoder.encode(self, producer: producer, sequence: sequence, now: now)
  }
}
