import JSONText

/// What an answer of Stripe says about an event.
package enum StripeVerdict: Sendable, Equatable {
  /// Stripe has it, now or since an earlier try.
  case accepted
  /// Stripe will not take it as it is.
  case refused(String)
  /// The key is wrong or may not do this: no other event would be taken either.
  case locked(String)
  /// It was not taken this time.
  case busy(mayRetry: Bool, String)
  /// Whether it was taken is not known.
  case unknown(mayRetry: Bool, String)

  /// - Parameters:
  ///   - shouldRetry: the header `stripe-should-retry`, which decides over everything else.
  package static func of(status: Int, body: [UInt8], shouldRetry: String?) -> StripeVerdict {
    let error = StripeErrorText(status: status, body: body)
    let told: Bool? =
      switch shouldRetry {
      case "true": true
      case "false": false
      default: nil
      }
    switch status {
    case 200..<300: return .accepted
    case 400 where error.saysIdentifierIsThere: return .accepted
    case 401, 403: return .locked(error.text)
    case 409, 429: return .busy(mayRetry: told ?? true, error.text)
    case 400..<500:
      return told == true ? .busy(mayRetry: true, error.text) : .refused(error.text)
    // 3xx is no answer of Stripe's, and whatever stands between us may have passed the event on.
    default: return .unknown(mayRetry: told ?? (status >= 500), error.text)
    }
  }
}

/// `{"error": {"code", "message", "param", "type"}}`, made harmless and short.
package struct StripeErrorText: Sendable, Equatable {
  package let text: String
  package let saysIdentifierIsThere: Bool

  private static let mostBytes = 300

  package init(status: Int, body: [UInt8]) {
    let fields = (try? JSONReader.parse(body, maximumValues: 200))?.members?["error"]?.members
    // What is no JSON is told by its status alone.
    let code = fields?["code"]?.text ?? ""
    let message = fields?["message"]?.text ?? ""
    saysIdentifierIsThere = Self.saysIdentifierIsThere(code: code, message: message.lowercased())
    let parts = ["Stripe answered \(status)", code, message].filter { !$0.isEmpty }
    text = Self.harmless(parts.joined(separator: ": "))
  }

  /// Stripe's second interface names the case by a code, `duplicate_meter_event`. The first one has
  /// no code for it, only "An event already exists with identifier …". Any other complaint about an
  /// identifier, also one with `param` `identifier`, means that Stripe does not have the event.
  private static func saysIdentifierIsThere(code: String, message: String) -> Bool {
    code.contains("duplicate")
      || message.contains("identifier")
        && ["already", "duplicate", "been used"].contains { message.contains($0) }
  }

  /// One line of at most 300 bytes without control characters.
  package static func harmless(_ text: String) -> String {
    var result = String.UnicodeScalarView()
    var bytes = 0
    for scalar in text.unicodeScalars {
      bytes += UTF8.width(scalar)
      if bytes > mostBytes { break }
      result.append(scalar.value < 0x20 || (0x7F...0x9F).contains(scalar.value) ? " " : scalar)
    }
    return String(result)
  }
}

/// How long a try waits for the next one.
package enum StripeBackoff {
  package static let mostTries = 6
  package static let paceMilliseconds: Int64 = 500
  /// Where Stripe asks for a longer pause, the event waits for the next export.
  package static let mostMilliseconds: Int64 = 60_000

  /// - Parameters:
  ///   - tries: that were made, from 1.
  ///   - pace: the first pause at most; each further one is twice as long, up to 16 times.
  ///   - retryAfterMilliseconds: of the answer's `Retry-After`.
  ///   - random: from 0 to 1.
  /// - Returns: nil: no further try.
  package static func milliseconds(
    tries: Int, pace: Int64 = paceMilliseconds, retryAfterMilliseconds: Int64?, random: Double
  ) -> Int64? {
    guard tries < mostTries else { return nil }
    let step = pace << min(max(tries, 1) - 1, 4)
    let own = Int64(Double(step) * (0.5 + min(max(random, 0), 1) / 2))
    guard let asked = retryAfterMilliseconds else { return own }
    return asked > mostMilliseconds ? nil : max(asked, own)
  }
}
