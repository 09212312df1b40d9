import JSONText

/// What Stripe's answer says about an event.
package enum StripeVerdict: Sendable, Equatable {
  /// Stripe has it, from this attempt or an earlier one.
  case accepted
  /// Stripe does not accept it as it is.
  case refused(String)
  /// The key is wrong or may not do this, so Stripe would not accept other events either.
  case locked(String)
  /// Stripe did not accept it this time.
  case busy(mayRetry: Bool, String)
  /// It is unknown whether Stripe accepted it.
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
    // Stripe does not answer with 3xx. A proxy between us may have passed the event on.
    default: return .unknown(mayRetry: told ?? (status >= 500), error.text)
    }
  }
}

/// Stripe's `{"error": {"code", "message", "param", "type"}}`, made harmless and short.
package struct StripeErrorText: Sendable, Equatable {
  package let text: String
  package let saysIdentifierIsThere: Bool

  private static let mostBytes = 300

  package init(status: Int, body: [UInt8]) {
    let fields = (try? JSONReader.parse(body, maximumValues: 200))?.members?["error"]?.members
    // An answer that is not JSON is described only by its status.
    let code = fields?["code"]?.text ?? ""
    let message = fields?["message"]?.text ?? ""
    saysIdentifierIsThere = Self.saysIdentifierIsThere(code: code, message: message.lowercased())
    let parts = ["Stripe answered \(status)", code, message].filter { !$0.isEmpty }
    text = Self.harmless(parts.joined(separator: ": "))
  }

  /// Whether Stripe already has the event. Its second interface has the code
  /// `duplicate_meter_event` for that. The first one has no code, only the text "An event already
  /// exists with identifier …". Any other error about an identifier, even one with the `param`
  /// `identifier`, means that Stripe does not have the event.
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

/// How long to wait before the next attempt.
package enum StripeBackoff {
  package static let mostTries = 6
  package static let paceMilliseconds: Int64 = 500
  /// If Stripe asks for a longer pause, the event waits for the next export.
  package static let mostMilliseconds: Int64 = 60_000

  /// - Parameters:
  ///   - tries: the number of attempts that were made, from 1.
  ///   - pace: the longest first pause. Each further pause may be twice as long, up to 16 times the
  ///     first.
  ///   - retryAfterMilliseconds: the answer's `Retry-After`.
  ///   - random: a random number from 0 to 1.
  /// - Returns: nil if there is no further attempt.
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
