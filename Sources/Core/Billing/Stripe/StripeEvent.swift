import Crypto
package import Metering

/// One meter event, as it is stored before it is sent.
package struct StripeEvent: Sendable, Equatable {
  package var customer: Identifier
  package var meter: String
  /// The hour's first second since 1970, which is also the event's timestamp.
  package var hour: Int64
  /// The number of the event among the events of its hour, from 1.
  package var revision: Int64
  package var mode: StripeMode
  package var stripeCustomerID: String
  package var eventName: String
  package var value: Int64

  package init(
    customer: Identifier, meter: String, hour: Int64, revision: Int64, mode: StripeMode,
    stripeCustomerID: String, eventName: String, value: Int64
  ) {
    self.customer = customer
    self.meter = meter
    self.hour = hour
    self.revision = revision
    self.mode = mode
    self.stripeCustomerID = stripeCustomerID
    self.eventName = eventName
    self.value = value
  }

  /// A value has at most 15 digits.
  package static let largestValue: Int64 = 999_999_999_999_999

  /// Events may be 35 days old. Ours are sent until 10 minutes before that, because an answer takes
  /// a while and clocks differ.
  package static let sendableSeconds: Int64 = 35 * 86_400 - 600
  /// Stripe knows an identifier for at least 24 hours. Until 10 minutes before that, the same event
  /// may be sent again and counts once.
  package static let repeatableSeconds: Int64 = 86_400 - 600

  /// Whether Stripe accepts an event for that hour. An hour that has not ended is never exported,
  /// so no timestamp lies in the future.
  package static func isSendable(hour: Int64, now: Int64) -> Bool {
    now - hour < sendableSeconds && hour <= now
  }

  /// The identifier is the same for the same row and revision, so that an event that is sent again
  /// counts once.
  package var identifier: String {
    var hash = SHA256()
    for part in [
      Array(eventName.utf8), Array(customer.string.utf8), Array(meter.utf8),
      Array(String(hour).utf8), Array(String(revision).utf8),
    ] {
      hash.update(data: Array("\(part.count):".utf8) + part)
    }
    return "lm-" + Hexadecimal.text(Array(hash.finalize().prefix(20)))
  }

  /// The body of `POST /v1/billing/meter_events` as `application/x-www-form-urlencoded`.
  package var form: String {
    [
      ("event_name", eventName), ("identifier", identifier), ("timestamp", String(hour)),
      ("payload[stripe_customer_id]", stripeCustomerID), ("payload[value]", String(value)),
    ].map { "\(FormText.encode($0.0))=\(FormText.encode($0.1))" }.joined(separator: "&")
  }

  /// What to do about an event without an answer.
  package enum Errand: Sendable, Equatable {
    case send
    /// It was never sent, and Stripe no longer accepts it.
    case withdraw
    /// Stripe may have forgotten the identifier, so its sums must tell whether it has the event.
    case settle
    /// None of these can be done now.
    case wait
  }

  /// - Parameters:
  ///   - doubtSince: when it was first sent without an answer, in seconds since 1970. It is nil if
  ///     Stripe does not have it.
  ///   - now: the time in seconds since 1970.
  package func errand(doubtSince: Int64?, now: Int64) -> Errand {
    let isSendable = Self.isSendable(hour: hour, now: now)
    guard let doubtSince else { return isSendable ? .send : .withdraw }
    if now - doubtSince >= Self.repeatableSeconds { return .settle }
    // A refusal because of its age would not tell whether the first event had arrived.
    return isSendable ? .send : .wait
  }
}

/// Encodes texts for forms and queries. All characters except the unreserved ones are
/// percent-encoded.
package enum FormText {
  package static func encode(_ text: String) -> String {
    let digits = Array("0123456789ABCDEF".utf8)
    var result: [UInt8] = []
    for byte in text.utf8 {
      let isPlain =
        (0x30...0x39).contains(byte) || (0x61...0x7A).contains(byte | 0x20)
        || "-_.~".utf8.contains(byte)
      if isPlain {
        result.append(byte)
      } else {
        result += [UInt8(ascii: "%"), digits[Int(byte >> 4)], digits[Int(byte & 15)]]
      }
    }
    return String(decoding: result, as: UTF8.self)
  }
}
