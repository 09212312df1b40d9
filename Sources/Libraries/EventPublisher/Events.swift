/// An API call of a license, or a quantity of another meter.
///
/// It is invalid if a text is longer than the contract allows, contains NUL, or is empty although
/// it must not be (see `PublishOutcome.invalid`).
public struct UsageEvent: Sendable {
  /// Identifies the event for ever. The same (`subject`, `source`, `id`) counts once. If it is nil,
  /// the publisher makes one.
  public var id: String?
  /// The observer of the event, such as `/validation/eu-1`, in 1 to 1,024 bytes.
  public var source: String
  /// The license's id in 1 to 512 bytes.
  public var subject: String
  /// The meter, which matches `[a-z][a-z0-9_]{0,63}`.
  public var meter: String
  /// The quantity, from 0 to 10^9.
  public var quantity: Int64
  /// The domain where it was used. It is cut at 256 bytes.
  public var domain: String?
  /// The feature that was used. It is cut at 256 bytes.
  public var feature: String?
  /// The time in milliseconds since 1970. Nil stands for now.
  public var time: Int64?
  /// The trace that the event belongs to, as a W3C `traceparent`. An invalid value is left out.
  public var traceparent: String?

  /// The parameters are described at the members.
  public init(
    id: String? = nil, source: String, subject: String, meter: String = "api_calls",
    quantity: Int64 = 1, domain: String? = nil, feature: String? = nil, time: Int64? = nil,
    traceparent: String? = nil
  ) {
    self.id = id
    self.source = source
    self.subject = subject
    self.meter = meter
    self.quantity = quantity
    self.domain = domain
    self.feature = feature
    self.time = time
    self.traceparent = traceparent
  }
}

/// A validation of a license with its outcome.
public struct ValidationEvent: Sendable {
  /// How the application asked.
  public enum Mode: String, Sendable {
    /// It asked the service over the network.
    case online
    /// It checked the license with the vendor's public key, and reported that later.
    case offline
  }

  /// The same as in `UsageEvent`.
  public var id: String?
  /// The same as in `UsageEvent`.
  public var source: String
  /// The license's id in 1 to 512 bytes.
  public var subject: String
  /// The verdict's code, such as `domain_mismatch`. It is cut at 64 bytes.
  public var code: String
  /// Whether the application may run.
  public var isValid: Bool
  /// The domain of the request. It is cut at 256 bytes.
  public var domain: String?
  /// See `Mode`.
  public var mode: Mode
  /// The client's address. It is cut at 64 bytes.
  public var clientIP: String?
  /// The SDK, such as `node/2.1.0`. It is cut at 128 bytes.
  public var sdk: String?
  /// The duration of the validation in microseconds.
  public var duration: Int64
  /// The time in milliseconds since 1970. Nil stands for now.
  public var time: Int64?
  /// The trace that the event belongs to, as a W3C `traceparent`. An invalid value is left out.
  public var traceparent: String?

  /// The parameters are described at the members.
  public init(
    id: String? = nil, source: String, subject: String, code: String, isValid: Bool,
    domain: String? = nil, mode: Mode = .online, clientIP: String? = nil, sdk: String? = nil,
    duration: Int64 = 0, time: Int64? = nil, traceparent: String? = nil
  ) {
    self.id = id
    self.source = source
    self.subject = subject
    self.code = code
    self.isValid = isValid
    self.domain = domain
    self.mode = mode
    self.clientIP = clientIP
    self.sdk = sdk
    self.duration = duration
    self.time = time
    self.traceparent = traceparent
  }
}

/// The outcome of publishing an event.
public enum PublishOutcome: Sendable, Equatable {
  /// The event is in the spool and will be sent to Kafka.
  case accepted
  /// The event is lost, because the spool is full or the publisher has stopped. The log, the
  /// metrics and the ledger count it as lost.
  case dropped
  /// The event breaks the contract and would have become a dead letter. It is counted separately.
  case invalid(Reason)

  /// The member that breaks it.
  public enum Reason: String, Sendable, CaseIterable {
    case id
    case source
    case subject
    case meter
    case quantity
    case time
    case text
  }
}

/// The outcome of publishing a batch.
public enum BatchOutcome: Sendable, Equatable {
  /// Every event is in the spool.
  case accepted
  /// No event is in the spool, because there is no room for all of them or the publisher has
  /// stopped. They do not count as dropped, because the caller still has them.
  case full
  /// No event is in the spool, because the one at this index breaks the contract.
  case invalid(index: Int, PublishOutcome.Reason)
}
