/// An API call, or so many of another meter, of a license.
///
/// Texts longer than the contract's bounds, with NUL, or empty where they must not be make it
/// invalid: see `PublishOutcome.invalid`.
public struct UsageEvent: Sendable {
  /// Names the event for good: the same (`subject`, `source`, `id`) counts once. Nil: the publisher
  /// makes one.
  public var id: String?
  /// Who observed it, 1 to 1,024 bytes: `/validation/eu-1`.
  public var source: String
  /// The license's id, 1 to 512 bytes.
  public var subject: String
  /// `[a-z][a-z0-9_]{0,63}`
  public var meter: String
  /// 0 to 10^9.
  public var quantity: Int64
  /// Where it was used; cut at 256 bytes.
  public var domain: String?
  /// What was used; cut at 256 bytes.
  public var feature: String?
  /// Milliseconds since 1970; nil: now.
  public var time: Int64?
  /// The trace that the event belongs to, a W3C `traceparent`. What is none is left out.
  public var traceparent: String?

  /// See the members.
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

/// A validation of a license, whatever came of it.
public struct ValidationEvent: Sendable {
  /// How the application asked.
  public enum Mode: String, Sendable {
    /// Over the network, answered by the service.
    case online
    /// By itself, with the vendor's public key; reported later.
    case offline
  }

  /// As in `UsageEvent`.
  public var id: String?
  /// As in `UsageEvent`.
  public var source: String
  /// The license's id, 1 to 512 bytes.
  public var subject: String
  /// The verdict's code, such as `domain_mismatch`; cut at 64 bytes.
  public var code: String
  /// Whether the application may run.
  public var isValid: Bool
  /// The domain that was asked for; cut at 256 bytes.
  public var domain: String?
  /// See `Mode`.
  public var mode: Mode
  /// Cut at 64 bytes.
  public var clientIP: String?
  /// `node/2.1.0`; cut at 128 bytes.
  public var sdk: String?
  /// Microseconds that the validation took.
  public var duration: Int64
  /// Milliseconds since 1970; nil: now.
  public var time: Int64?
  /// The trace that the event belongs to, a W3C `traceparent`. What is none is left out.
  public var traceparent: String?

  /// See the members.
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

/// What became of an event that was handed over.
public enum PublishOutcome: Sendable, Equatable {
  /// It is in the spool, and will be in Kafka.
  case accepted
  /// The spool is full, or the publisher has stopped: the event is lost, and counted as such in
  /// log, metric and ledger.
  case dropped
  /// It breaks the contract, and would only have become a dead letter; it is counted apart.
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

/// What became of a batch.
public enum BatchOutcome: Sendable, Equatable {
  /// Every event is in the spool.
  case accepted
  /// None is: the spool has no room for all of them, or the publisher has stopped. They are not
  /// counted as dropped: the caller still has them.
  case full
  /// None is: the one at this index breaks the contract.
  case invalid(index: Int, PublishOutcome.Reason)
}
